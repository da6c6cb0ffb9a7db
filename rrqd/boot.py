"""What a child process is given at its birth, and the line it keeps to the master.

Rules of this file:

* Plain records, no behaviour except the control line. A role is a function of one of these records:
  ``run_worker(WorkerBoot)``, ``run_steward(StewardBoot)``, ``run_web(WebBoot)``.
* Nothing here opens anything. All descriptors are made by the master and arrive ready to use.
* Floor 0: no asyncio, no Redis. The control line attaches to a loop that is handed in.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

    from rrqd.config.settings import Settings
    from rrqd.flight import FlightDeck, FlightPage

Message = dict[str, Any]

# The kernel refuses a datagram larger than the socket's send buffer. 208 KiB is Linux's default and what
# is left of it after the kernel's own bookkeeping is a good deal less, so the pairs are widened (`pair`).
SEND_BUFFER_BYTES = 1_048_576
LARGEST_MESSAGE_BYTES = 393_216


class Control:
    """One end of the line between the master and a child: JSON dictionaries, whole or not at all.

    The socket is a SEQPACKET end: message boundaries are kept by the kernel and the death of the other side
    shows as an end of file. Nothing here ever blocks: a message that does not fit is dropped, since
    everything said on this line is either repeated (states) or backed by something durable (the store).
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.dropped = 0
        """Messages lost because the other side did not read."""
        self.ended = False
        """True once the other side is gone."""
        self.closed: asyncio.Future[None] | None = None
        """After `attach`: done when the other side is gone. ``await control.closed``."""
        self._loop: asyncio.AbstractEventLoop | None = None

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(self, message: Message) -> bool:
        """Send one message. False if it was dropped (buffer full, too large, or nobody is there)."""
        data = json.dumps(message, separators=(",", ":"), default=str).encode()
        if self.ended or len(data) > LARGEST_MESSAGE_BYTES:
            self.dropped += 1
            return False
        try:
            self.sock.send(data, socket.MSG_NOSIGNAL)
        except OSError:  # full, or the peer has just gone: the reader will see the end of file
            self.dropped += 1
            return False
        return True

    def receive(self) -> Message | None:
        """The next message, or None when there is none now. Sets `ended` at the end of file."""
        while not self.ended:
            try:
                data = self.sock.recv(LARGEST_MESSAGE_BYTES)
            except (BlockingIOError, InterruptedError):
                return None
            except OSError:
                data = b""
            if not data:
                self.ended = True
                return None
            try:
                message = json.loads(data)
            except ValueError:
                continue
            if isinstance(message, dict) and isinstance(message.get("type"), str):
                return message
        return None

    def drain(self) -> Iterator[Message]:
        """All messages that are there now, oldest first."""
        while (message := self.receive()) is not None:
            yield message

    def attach(
        self,
        loop: asyncio.AbstractEventLoop,
        on_message: Callable[[Message], None],
        on_eof: Callable[[], None] | None = None,
    ) -> None:
        """Listen from now on: `on_message` for each message, `on_eof` once when the master is gone."""
        self._loop = loop
        self.closed = loop.create_future()

        def readable() -> None:
            for message in self.drain():
                on_message(message)
            if self.ended:
                self.detach()
                if self.closed is not None and not self.closed.done():
                    self.closed.set_result(None)
                if on_eof is not None:
                    on_eof()

        loop.add_reader(self.sock.fileno(), readable)

    def detach(self) -> None:
        """Stop listening. The socket stays open; messages can still be sent."""
        if self._loop is not None:
            self._loop.remove_reader(self.sock.fileno())
            self._loop = None

    def close(self) -> None:
        """Hang up. The other side sees the end of file."""
        self.detach()
        self.ended = True
        self.sock.close()


def pair() -> tuple[Control, socket.socket]:
    """A new line: the near end ready to use, and the far end for the child (not inheritable)."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (near, far):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    return Control(near), far


@dataclass
class WorkerBoot:
    """A worker's beginning. It was forked from a mold, so `registry` holds imported code already."""

    settings: Settings
    pool: str
    slot: int
    generation: int
    node_id: str
    worker_id: str
    registry: Any
    """What `handlers` named: a Registry, a PythonRunnerSettings, or the table the mold made of it."""
    page: FlightPage
    wake_fd: int
    """eventfd of the pool, -1 when there is none. Reading it wins the wake-up; writing 1 wakes the next."""
    control: Control
    master_pid: int
    state_dir: Path
    dump_fd: int = -1
    """memfd the fault handler prints into; the master reads it, also after the worker's death."""


@dataclass
class StewardBoot:
    """The steward's beginning."""

    settings: Settings
    node_id: str
    generation: int
    deck: FlightDeck
    wake_fds: dict[str, int]
    """Pool name to the eventfd that wakes one of its idle workers."""
    control: Control
    state_dir: Path
    queues: dict[str, list[str]]
    """Pool name to the short names of its queues."""
    slots: list[str] = field(default_factory=list)
    """Worker ids alive at this moment: any other set of held jobs of this node is nobody's."""
    workers: dict[str, int] = field(default_factory=dict)
    """Worker id to pid, for those same workers (a replaced steward got no "born" message for them)."""
    embedded_pid: int | None = None
    """The embedded server, which the steward ends when the master is gone and the workers have left."""
    master_pid: int = 0
    predecessor: str = ""
    """The node that this machine's last run was, all of whose processes are gone."""


@dataclass
class WebBoot:
    """The web process's beginning. It owns nothing: the sockets are the master's."""

    settings: Settings
    node_id: str
    generation: int
    deck: FlightDeck
    control: Control
    listen_socks: list[socket.socket]
    state_dir: Path
    config_path: Path
    master_pid: int = 0


async def when_gone(loop: asyncio.AbstractEventLoop, pid: int) -> None:
    """Wait until the process with this pid has ended (at once if there is none).

    For processes of this node that are not our children. The number is looked up once, at the call; from then on
    it is that very process that is waited for.
    """
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended: asyncio.Future[None] = loop.create_future()

    def over() -> None:
        loop.remove_reader(fd)
        if not ended.done():
            ended.set_result(None)

    loop.add_reader(fd, over)
    try:
        await ended
    finally:
        loop.remove_reader(fd)
        os.close(fd)


def leave_within(seconds: float, code: int = 70) -> threading.Timer:
    """End this process in so many seconds, whatever its loop is doing by then. `cancel()` calls it off."""
    timer = threading.Timer(max(0.0, seconds), os._exit, [code])
    timer.daemon = True
    timer.start()
    return timer
