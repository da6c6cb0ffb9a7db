"""A server for tests: ``RRQD_TEST_REDIS``, else a container when a Docker engine answers, else the embedded Valkey.

``RRQD_TEST_BINARY`` names another server binary (Debian's redis-server, say) for the third way.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.wait import until


def free_port() -> int:
    """A TCP port nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_binary() -> str:
    """The server binary of the embedded kind."""
    named = os.environ.get("RRQD_TEST_BINARY")
    if named:
        return named
    from rrqd.supervisor.embedded import find_binary as find

    return str(find(None))


class Server:
    """One server process of ours, on a TCP port and a Unix socket, in a folder of its own."""

    def __init__(self, *options: str, port: int | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rrqd-test-server-"))
        self.port = port or free_port()
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def dsn(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def socket_path(self) -> Path:
        return self.folder / "server.sock"

    def start(self) -> None:
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    find_binary(), "--port", str(self.port), "--bind", "127.0.0.1",
                    "--unixsocket", str(self.socket_path), "--dir", str(self.folder), "--save", "",
                    "--appendonly", "yes", "--appendfsync", "everysec", *self.options,
                ],
                stdout=log,
                stderr=log,
            )  # fmt: skip
        until(self.answers, 10, "the test server to answer")

    def answers(self) -> bool:
        try:
            return self.ask("PING").startswith(b"+PONG")
        except OSError:
            return False

    def ask(self, *words: str) -> bytes:
        """One command over a throw-away connection; the raw reply."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as link:
            link.sendall(" ".join(words).encode() + b"\r\n")
            return link.recv(65536)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the process; its data stays."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
            self.process.wait(10)
            self.process = None

    def pause(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        self.stop(signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def any_server() -> Iterator[str]:
    """A DSN of a server that may be flushed at will."""
    named = os.environ.get("RRQD_TEST_REDIS")
    if named:
        yield named
        return
    if docker_answers():
        from testcontainers.community.redis import RedisContainer

        with RedisContainer("valkey/valkey:8") as container:
            yield f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(6379)}/0"
        return
    server = Server()
    try:
        yield server.dsn
    finally:
        server.remove()


def docker_answers() -> bool:
    """Whether a Docker engine is there, asked in a second."""
    path = "/var/run/docker.sock"
    if not os.path.exists(path):
        return False
    began = time.monotonic()
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(1)
            link.connect(path)
            link.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b"200" in link.recv(64) and time.monotonic() - began < 1
    except OSError:
        return False
