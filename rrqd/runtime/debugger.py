"""`kill -USR2 <worker>`: a console inside a worker that goes on working, on a socket for its own user only.

Rules of this file:

* The loop is not asked: the signal's handler starts a thread. So a worker whose loop is blocked can be looked into as
  well, unless a C call keeps the interpreter; then the fault handler (USR1) is what is left.
* One client at a time. The socket is there from the signal until the client has left, or nobody came.
* Nothing here keeps a worker from leaving: only daemon threads, and `close` waits for nobody.
* Who may connect is decided by the kernel: folder 0700, socket 0600, and the peer's user is asked for.
"""

from __future__ import annotations

import _thread
import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import structlog

from rrqd.local_socket import peer_of, reachable
from rrqd.runtime.console import Aside, Console, hang_up

UNVISITED_SECONDS = 300.0
"""A socket that nobody comes to is closed again."""
LEAVING_SECONDS = 0.5
"""How long a console whose client is gone may compute on, before it is interrupted."""

log = structlog.get_logger()


def socket_path(state_dir: Path, pool: str, slot: int) -> Path:
    """Where the debugger of a slot listens while it is open."""
    return state_dir / "debug" / f"{pool}.{slot}.sock"


def own_socket_path(state_dir: Path, worker_id: str) -> Path:
    """Where it listens if it may not write there: under Landlock a worker has no other folder than its own."""
    return state_dir / "sandboxes" / worker_id / "debug.sock"


def possible_paths(state_dir: Path, pool: str, slot: int) -> list[Path]:
    """Where to look for it, for those who know the slot only."""
    return [socket_path(state_dir, pool, slot), *state_dir.glob(f"sandboxes/*_{pool}.{slot}_*/debug.sock")]


class Debugger:
    """Waits for the signal, in the main thread of a worker; then opens the socket."""

    def __init__(
        self, paths: Sequence[Path], names: Callable[[], Mapping[str, Any]], banner: Callable[[], str]
    ) -> None:
        self._paths = paths
        self.path = paths[0]
        """Where it listens: the first of `paths` where it is let."""
        self._names = names
        self._banner = banner
        self._pid = os.getpid()
        self._inode = 0
        self._is_open = False
        self._turn = threading.Lock()
        self._listener: socket.socket | None = None
        self._client: socket.socket | None = None

    def install(self) -> None:
        """From now on the signal opens the debugger."""
        signal.signal(signal.SIGUSR2, self._asked)

    def close(self) -> None:
        """The worker leaves: no further debugger, and the one that is open says so and ends."""
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        listener, client = self._listener, self._client
        if client is not None:
            with suppress(OSError):
                client.send(b"\nthe worker leaves\n", socket.MSG_DONTWAIT)
            hang_up(client)
        if listener is not None:
            hang_up(listener)
        self._unlink()

    # The signal.

    def _asked(self, _number: int, _frame: FrameType | None) -> None:
        """Between any two steps of the main thread, also while it holds the lock with which `threading` keeps its
        list: making a Thread here could wait for itself. So a bare thread is started, and that one makes it.

        A child that a handler has forked has inherited this handler, but is no worker.
        """
        if self._is_open or os.getpid() != self._pid:
            return
        self._is_open = True
        try:
            _thread.start_new_thread(self._start, ())
        except RuntimeError:  # no thread to be had. Raised from here it would strike whatever job is being run.
            self._is_open = False

    def _start(self) -> None:
        try:
            threading.Thread(target=self._serve, name="rrqd-debugger", daemon=True).start()
        except RuntimeError as fault:
            self._is_open = False
            log.warning("debugger.failed", path=str(self.path), error=str(fault))

    # The socket.

    def _serve(self) -> None:
        """The life of one opening, in a thread of its own. The next one, which may be asked for while this one leaves,
        begins after it."""
        with self._turn:
            try:
                with self._listen() as listener:
                    log.info("debugger.open", path=str(self.path))
                    self._listener = listener
                    try:
                        client = self._first(listener)
                        if client is not None:
                            with client:
                                self._entertain(client, listener)
                    finally:
                        self._listener = self._client = None
                        self._is_open = False
                        self._unlink()
            except OSError as fault:
                self._is_open = False
                if signal.getsignal(signal.SIGUSR2) != signal.SIG_IGN:  # else it is `close` that has ended it
                    log.warning("debugger.failed", path=str(self.path), error=str(fault))

    def _listen(self) -> socket.socket:
        *others, last = self._paths
        for path in others:
            self.path = path
            with suppress(PermissionError):
                return self._listen_here()
        self.path = last
        return self._listen_here()

    def _listen_here(self) -> socket.socket:
        """In the place of what a killed worker may have left there. Nobody can connect before `listen`."""
        self.path.parent.mkdir(mode=0o700, exist_ok=True)
        self.path.parent.chmod(0o700)
        self.path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        try:
            with reachable(self.path) as address:
                listener.bind(address)
            self.path.chmod(0o600)
            self._inode = self.path.stat().st_ino
            listener.listen(8)
        except BaseException:
            listener.close()
            raise
        return listener

    def _unlink(self) -> None:
        """Only what is ours: after a reload, the new worker of the slot may have put its own there."""
        with suppress(OSError):
            if self.path.lstat().st_ino == self._inode:
                self.path.unlink()

    # The client.

    def _first(self, listener: socket.socket) -> socket.socket | None:
        """The first one that may come in; None when nobody comes."""
        listener.settimeout(UNVISITED_SECONDS)
        while True:
            try:
                client, _ = listener.accept()
            except TimeoutError:
                return None
            client.settimeout(None)
            pid, uid = peer_of(client)
            if uid in (0, os.geteuid()):
                log.warning("debugger.attached", by_pid=pid, by_uid=uid)
                return client
            client.close()

    def _entertain(self, client: socket.socket, listener: socket.socket) -> None:
        """Watch over one console until its client has left. Whoever comes meanwhile is told so."""
        self._client = client
        console = Console(client, self._names(), self._banner())
        thread = threading.Thread(target=console.serve, name="rrqd-console", daemon=True)
        with Aside(console):
            thread.start()
            watch = select.poll()
            watch.register(client, 0)  # its end is reported unasked; also when it is the console that hangs up
            watch.register(listener, select.POLLIN)
            while client.fileno() not in (ready := dict(watch.poll())):
                if ready[listener.fileno()] != select.POLLIN:
                    break
                other, _ = listener.accept()
                with other:
                    other.send(b"somebody is in this worker already; one at a time\n", socket.MSG_DONTWAIT)
            # Its thread may still compute, for ever if it was told so: nobody is there any more to end that.
            thread.join(LEAVING_SECONDS)
            while thread.is_alive() and console.thread_id is not None:
                console.interrupt()
                thread.join(1.0)
        log.info("debugger.left")
