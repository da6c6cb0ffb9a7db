"""What we tell systemd, over its datagram socket. Without systemd every call does nothing.

The variables are taken out of the environment, so that no child talks to systemd in our name.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping


class Notifier:
    """`watchdog_seconds`: how often `alive` wants to be called, or None when nobody listens."""

    def __init__(self, address: str | None, watchdog_seconds: float | None = None) -> None:
        self.watchdog_seconds = watchdog_seconds
        self._last_status = ""
        self._last_alive = float("-inf")
        self._sock: socket.socket | None = None
        if address and address[0] in "/@":
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._sock.setblocking(False)
            self._address = "\0" + address[1:] if address[0] == "@" else address

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Notifier:
        """Read and remove systemd's variables. A watchdog meant for another pid is not ours."""
        address = environ.pop("NOTIFY_SOCKET", None)
        interval = environ.pop("WATCHDOG_USEC", "")
        pid = environ.pop("WATCHDOG_PID", "")
        for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
            environ.pop(name, None)
        mine = not pid or pid == str(os.getpid())
        seconds = int(interval) / 2_000_000 if interval.isdigit() and int(interval) > 0 and mine else None
        return cls(address, seconds)

    def send(self, *lines: str) -> bool:
        """False when nobody listens, or the message was lost. Never waits."""
        if self._sock is None:
            return False
        try:
            self._sock.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            return False
        return True

    def ready(self, status: str) -> None:
        self._last_status = status
        self.send("READY=1", f"STATUS={status}")

    def status(self, text: str) -> None:
        """Say it only when it changed."""
        if text != self._last_status:
            self._last_status = text
            self.send(f"STATUS={text}")

    def reloading(self, now_ns: int) -> None:
        """`now_ns`: monotonic. Without this stamp systemd can't tell this reload from the one before."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={now_ns // 1000}")

    def stopping(self, patience_seconds: float) -> None:
        self.send("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(patience_seconds * 1_000_000)}")

    def alive(self, now: float) -> None:
        """The loop has turned. Sent at half the watchdog's interval at most."""
        if self.watchdog_seconds is not None and now - self._last_alive >= self.watchdog_seconds:
            self._last_alive = now
            self.send("WATCHDOG=1")

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None
