"""A server of our own, configured and flushed as rrqd's embedded one is, and an eye on its counters.

Everybody speaks to it over TCP, rrqd too (in a daemon with an embedded server its own processes use the socket).
"""

from __future__ import annotations

import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import redis

from rrqd.supervisor.embedded import find_binary, prepare
from rrqd.upkeep.flushing import Flushing

START_SECONDS = 10.0


def heed_term() -> None:
    """A bench that is told to stop still ends what it started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def free_ports(count: int = 1) -> int:
    """The first of so many free ports in a row, outside the range from which the kernel gives ports to others."""
    while True:
        first = random.randrange(20_000, 32_000)
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first


def until(fact: Callable[[], Any], seconds: float, what: str, every: float = 0.01) -> Any:
    """Wait for a fact; answers what it was. Raises TimeoutError naming it."""
    deadline = time.monotonic() + seconds
    while not (found := fact()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(every)
    return found


@dataclass(frozen=True, slots=True)
class Load:
    """What the server had done at one moment. ``commands`` and ``calls`` count what Lua did, too, and leave out the
    questions asked here."""

    commands: int
    cpu_seconds: float
    calls: dict[str, int]
    at: float

    def since(self, before: Load) -> Load:
        calls = {name: number - before.calls.get(name, 0) for name, number in self.calls.items()}
        return Load(
            commands=self.commands - before.commands,
            cpu_seconds=self.cpu_seconds - before.cpu_seconds,
            calls={name: number for name, number in calls.items() if number},
            at=self.at - before.at,
        )


class Server:
    """``with Server() as server:`` a process, a port, a temporary folder; all gone afterwards. ``more``: options."""

    def __init__(self, *more: str) -> None:
        self._more = more
        self._temporary = tempfile.TemporaryDirectory(prefix="rrqd-bench-server-")
        self.folder = Path(self._temporary.name)
        self.port = free_ports()
        self.process: subprocess.Popen[bytes] | None = None
        self.redis = redis.Redis(port=self.port)
        self._asked = 0
        self._line: socket.socket | None = None
        self._over = threading.Event()

    @property
    def dsn(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        embedded = prepare(find_binary(None), "127.0.0.1", self.port, self.folder)
        with (self.folder / "output").open("wb") as output:
            self.process = subprocess.Popen(
                [*embedded.argv(), *self._more],
                env=embedded.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the bench, which ends its servers last
            )
        try:
            until(self._answers, START_SECONDS, "the bench's server to answer")
        except BaseException:
            self.__exit__()
            raise
        threading.Thread(target=self._flush, args=[Flushing(embedded.folder)], daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.redis.close()
        if self._line is not None:
            self._line.close()
            self._line = None
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        self._temporary.cleanup()

    def _flush(self, flushing: Flushing) -> None:
        while not self._over.wait(flushing.interval_seconds):
            with suppress(OSError):  # its folder has just gone
                flushing.flush()

    def _answers(self) -> bool:
        try:
            return bool(self.redis.ping())
        except (redis.ConnectionError, redis.BusyLoadingError):
            return False

    def load(self) -> Load:
        """The counters now."""
        info: dict[str, Any] = self.redis.info("everything")
        self._asked += 1
        calls = {name[8:]: one["calls"] for name, one in info.items() if name.startswith("cmdstat_")}
        calls["info"] = calls.get("info", 0) - (self._asked - 1)  # an INFO does not count itself yet
        return Load(
            commands=info["total_commands_processed"] - (self._asked - 1),
            cpu_seconds=info["used_cpu_user"] + info["used_cpu_sys"],
            calls=calls,
            at=time.monotonic(),
        )

    def ended(self) -> int:
        """Jobs that have ended since the start: rrqd and the real rrq both add one stream entry for each.

        Asked often while something is measured, so the answer is not taken apart more than needed.
        """
        if self._line is None:
            self._line = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        self._line.sendall(b"INFO commandstats\r\n")
        self._asked += 1
        text = self._line.recv(65536)
        length, _, _ = text.partition(b"\r\n")
        while len(text) < int(length[1:]) + len(length) + 4:
            text += self._line.recv(65536)
        found = re.search(rb"cmdstat_xadd:calls=(\d+)", text)
        return int(found[1]) if found else 0

    def version(self) -> str:
        """Flavour and version."""
        info: dict[str, Any] = self.redis.info("server")
        self._asked += 1
        return f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"
