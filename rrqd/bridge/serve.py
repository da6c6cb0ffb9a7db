"""Our own runner as a process: serves an rrqd or RRQ's own orchestrator until it is told to end.

Rule: it ends with whom it serves: with its inherited socket, or with the parent that connected to it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from typing import Any

import psutil
import structlog

from rrqd.bridge.line import Line
from rrqd.bridge.server import Server
from rrqd.exc import RRQError
from rrqd.handlers import LoadedHandlers
from rrqd.local_socket import peer_of

log: Any = structlog.get_logger()


async def serve(
    handlers: LoadedHandlers, *, address: tuple[str, int] | None = None, socket_fd: int | None = None
) -> None:
    """Serve on an address, or on a connected socket that was inherited, until TERM, INT or the end of whom we serve.

    Raises ``RRQError`` when the address can't be had.
    """
    loop = asyncio.get_running_loop()
    server = Server(handlers)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.ended.set)
    if handlers.on_startup is not None:
        await _hook(handlers.on_startup())
    listener: asyncio.Server | None = None
    if socket_fd is not None:
        line = server.connection()
        line.when_lost(server.ended.set)
        await loop.create_connection(lambda: line, sock=_inherited(socket_fd))
    elif address is not None:
        guard = ParentGuard(server.ended.set)
        try:
            listener = await loop.create_server(lambda: guard.watching(server.connection()), *address)
        except OSError as fault:
            raise RRQError(f"--tcp-socket {address[0]}:{address[1]}: {fault.strerror or fault}") from None
    log.info("runner.serving", functions=len(handlers.registry), address=address and f"{address[0]}:{address[1]}")
    await server.ended.wait()
    if listener is not None:
        listener.close()
    await server.close()
    if handlers.on_shutdown is not None:
        await _hook(handlers.on_shutdown())


def _inherited(fd: int) -> socket.socket:
    """The socket, if it is one and its other end is this user's, or root's. Raises ``RRQError``."""
    try:
        sock = socket.socket(fileno=fd)
        _pid, uid = peer_of(sock)
    except OSError as fault:
        raise RRQError(f"--socket-fd {fd}: is no connected socket of this machine: {fault.strerror or fault}") from None
    if uid not in (0, os.geteuid()):
        raise RRQError(f"--socket-fd {fd}: its other end belongs to the user {uid}, who may not run handlers here")
    return sock


class ParentGuard:
    """Ends the runner with its parent, if it is the parent that uses it. One started by hand outlives the shell."""

    def __init__(self, leave: Any) -> None:
        self._leave = leave
        self._parent = os.getppid()
        self._is_bound = False

    def watching(self, line: Line) -> Line:
        """A new connection; the first of our parent's binds us to him."""
        if not self._is_bound:
            line.when_made(self._look)
        return line

    def _look(self, transport: Any) -> None:
        peer = transport.get_extra_info("peername")
        if self._is_bound or not peer or not _has_port(self._parent, peer[1]):
            return
        self._is_bound = True
        loop = asyncio.get_running_loop()
        fd = os.pidfd_open(self._parent)

        def gone() -> None:
            loop.remove_reader(fd)
            os.close(fd)
            self._leave()

        loop.add_reader(fd, gone)


def _has_port(pid: int, port: int) -> bool:
    """Whether a connection from this port is one of the process's."""
    try:
        return any(one.laddr and one.laddr.port == port for one in psutil.Process(pid).net_connections("tcp"))
    except psutil.Error:
        return False


async def _hook(answer: Any) -> None:
    if asyncio.iscoroutine(answer) or asyncio.isfuture(answer):
        await answer
