"""A master, its replica, and a Sentinel that makes the replica the master within a second of the master's death."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.server import Server, find_binary, free_port
from tests.support.wait import until

NAME = "main"
PASSWORD = "watchword"
"""The Sentinel's own; the servers have none."""


class Watched:
    """``dsn`` names the Sentinel, after a place where none answers."""

    def __init__(self, master: Server, replica: Server, port: int) -> None:
        self.master = master
        self.replica = replica
        self.port = port

    @property
    def dsn(self) -> str:
        return f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{self.port}/{NAME}/0?sentinel_password={PASSWORD}"

    def is_healthy(self) -> bool:
        """The Sentinel knows the replica, and the replica follows."""
        with contextlib.suppress(OSError):
            return (
                b"state=online" in self.master.ask("INFO", "replication")
                and b"num-slaves\r\n$1\r\n1" in _ask(self.port, "SENTINEL", "MASTER", NAME)
                and b"role:slave" in self.replica.ask("INFO", "replication")
            )
        return False

    def comes_back_as_replica(self) -> None:
        """The dead master, following the new one: the Sentinel would see to it, after ten seconds."""
        self.master.options = (*self.master.options, "--replicaof", "127.0.0.1", str(self.replica.port))
        self.master.start()

    def has_failed_over(self) -> bool:
        with contextlib.suppress(OSError):  # the Sentinel ends all connections to it when it makes it the master
            return b"role:master" in self.replica.ask("INFO", "replication")
        return False


@contextlib.contextmanager
def watched() -> Iterator[Watched]:
    """All three, gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="rrqd-test-sentinel-"))
    port = free_port()
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        master = Server("--repl-diskless-sync-delay", "0")
        stack.callback(master.remove)
        replica = Server("--replicaof", "127.0.0.1", str(master.port), "--repl-diskless-sync-delay", "0")
        stack.callback(replica.remove)
        (folder / "sentinel.conf").write_text(
            f"port {port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor {NAME} 127.0.0.1 {master.port} 1\n"
            f"sentinel down-after-milliseconds {NAME} 500\nsentinel failover-timeout {NAME} 3000\n"
            f"requirepass {PASSWORD}\n"
        )
        log = stack.enter_context((folder / "log").open("ab"))
        process = subprocess.Popen(
            [find_binary(), str(folder / "sentinel.conf"), "--sentinel"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        stack.callback(process.wait, 10)
        stack.callback(process.kill)
        family = Watched(master, replica, port)
        until(family.is_healthy, 20, "the Sentinel to see master and replica")
        yield family


def _ask(port: int, *words: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as link:
        link.sendall(f"AUTH {PASSWORD}\r\n{' '.join(words)}\r\n".encode())
        assert link.recv(5) == b"+OK\r\n"
        return link.recv(65536)
