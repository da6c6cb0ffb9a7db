"""What we tell systemd, over its datagram socket, and the sockets that it hands to us. Without systemd nothing happens.

Rules of this file:

* systemd's variables are taken out of the environment, so that no child talks to systemd in our name or takes a
  descriptor for its own.
* Never waits. What is said again anyway (watchdog, status, more time) is lost when systemd's queue is full; what is
  said once (ready, reloading, stopping) is kept, and goes first when there is room.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import MutableMapping

FIRST_FD = 3
"""Where systemd lays the descriptors that it hands over, one after the other."""
EXTEND_EVERY_SECONDS = 2.0
EXTEND_SECONDS = 30.0
"""How much more time is asked for. Ten requests and more may be lost before systemd loses its patience."""
MOST_OWED = 16
TCP = (socket.AF_INET, socket.AF_INET6)


class Notifier:
    """`watchdog_seconds`: how often `alive` wants to be called, or None when nobody listens."""

    def __init__(self, address: str | None, watchdog_seconds: float | None = None) -> None:
        self.watchdog_seconds = watchdog_seconds
        self._last_status = ""
        self._last_alive = float("-inf")
        self._last_extend = float("-inf")
        self._owed: deque[bytes] = deque(maxlen=MOST_OWED)
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
        mine = not pid or pid == str(os.getpid())
        seconds = int(interval) / 2_000_000 if interval.isdigit() and int(interval) > 0 and mine else None
        return cls(address, seconds)

    def send(self, *lines: str) -> bool:
        """False when nobody listens, or the message was lost. Never waits."""
        return self._pay() and self._send("\n".join(lines).encode())

    def ready(self, status: str) -> None:
        self._last_status = status
        self._owe("READY=1", f"STATUS={status}")

    def reloading(self, now_ns: int) -> None:
        """`now_ns`: monotonic. Without this stamp systemd can't tell this reload from the one before."""
        self._owe("RELOADING=1", f"MONOTONIC_USEC={now_ns // 1000}")

    def stopping(self, patience_seconds: float) -> None:
        self._owe("STOPPING=1", _more_time(patience_seconds))

    def status(self, text: str) -> None:
        """Say it only when it changed."""
        if text != self._last_status and self.send(f"STATUS={text}"):
            self._last_status = text

    def extend(self, now: float, status: str) -> None:
        """Ask for more time, now and then, with what it is needed for. It can only lengthen what the unit allows."""
        due = now - self._last_extend >= EXTEND_EVERY_SECONDS
        if due and self.send(_more_time(EXTEND_SECONDS), f"STATUS={status}"):
            self._last_extend, self._last_status = now, status

    def alive(self, now: float) -> None:
        """The loop has turned. Sent at half the watchdog's interval at most."""
        self._pay()
        due = self.watchdog_seconds is not None and now - self._last_alive >= self.watchdog_seconds
        if due and self.send("WATCHDOG=1"):
            self._last_alive = now

    def environment(self) -> dict[str, str]:
        """The variables from which `from_environment` makes this notifier again, in the same process after an exec."""
        if self._sock is None:
            return {}
        address = self._address.replace("\0", "@", 1)
        watchdog = {} if self.watchdog_seconds is None else {"WATCHDOG_USEC": str(int(self.watchdog_seconds * 2e6))}
        return {"NOTIFY_SOCKET": address, **watchdog}

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _owe(self, *lines: str) -> None:
        if self._sock is not None:
            self._owed.append("\n".join(lines).encode())
            self._pay()

    def _pay(self) -> bool:
        """Send what is owed, in its order. True when nothing is."""
        while self._owed and self._send(self._owed[0]):
            self._owed.popleft()
        return not self._owed

    def _send(self, message: bytes) -> bool:
        if self._sock is None:
            return False
        try:
            self._sock.sendto(message, self._address)
        except OSError:
            return False
        return True


def _more_time(seconds: float) -> str:
    return f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}"


def handed_over(environ: MutableMapping[str, str], first_fd: int = FIRST_FD) -> list[socket.socket]:
    """The sockets that systemd opened for us and no child inherits; its variables are removed.

    Empty when there are none, or when they were meant for another process: then the descriptors are not touched.
    """
    count, pid = environ.pop("LISTEN_FDS", ""), environ.pop("LISTEN_PID", "")
    for name in ("LISTEN_FDNAMES", "LISTEN_PIDFDID"):
        environ.pop(name, None)
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    found = []
    for fd in range(first_fd, first_fd + int(count)):
        try:
            os.set_inheritable(fd, False)
        except OSError:
            break  # fewer than was said
        try:
            found.append(socket.socket(fileno=fd))
        except OSError:
            os.close(fd)  # a pipe or a file: nothing that we know a use for
    return found


def takes_connections(sock: socket.socket) -> bool:
    """Whether it is a listening TCP socket."""
    return (
        sock.family in TCP
        and sock.type == socket.SOCK_STREAM
        and bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    )
