"""A runner's process: started with a socket to speak over, listened to line by line, ended with its worker.

Rule 1: under a daemon it stays in the worker's process group, so that whoever kills the worker's group has the runner
        too; and the kernel kills it when the worker dies, however that happens.
Rule 2: a port that somebody else has is said with his name, and another one is taken: who listens where is between the
        worker and its runner.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import psutil

from rrqd.bridge.line import Line
from rrqd.exc import RRQError
from rrqd.tether import tether

LOOPBACK = "127.0.0.1"
CONNECT_PAUSE_SECONDS = (0.01, 0.2)
LONGEST_LINE_BYTES = 16_384
KEPT_LINES = 5
UNSEEN = "a process that is not ours to see"
_IGNORED_BY_WORKERS = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE)


class RunnerFailed(RRQError):
    """A runner could not be started, or not be reached. One line, for the operator."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What to start, and how long its start may take."""

    name: str
    cmd: Sequence[str]
    environment: Mapping[str, str]
    cwd: str | None
    port: int
    """The port it should have; another one if that is taken."""
    inherits: bool
    """It gets a connected socket instead of a port."""
    connect_seconds: float
    term_grace_seconds: float
    own_group: bool
    """It gets a process group of its own: the worker's is a terminal's, where Ctrl-C would reach it."""


@dataclass(slots=True)
class Output:
    """One of its two streams: cut into lines as they come."""

    fd: int
    stream: str
    said: Callable[[str, str], None]
    rest: bytes = b""
    last: list[str] = field(default_factory=list)

    def read(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take what is there."""
        try:
            data = os.read(self.fd, 65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close(loop)
            return
        *lines, self.rest = (self.rest + data).split(b"\n")
        if len(self.rest) > LONGEST_LINE_BYTES:
            lines, self.rest = [*lines, self.rest], b""
        for line in lines:
            self._say(line)

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """No more lines."""
        if self.fd >= 0:
            loop.remove_reader(self.fd)
            os.close(self.fd)
            self.fd = -1
        if self.rest:
            self._say(self.rest)
            self.rest = b""

    def _say(self, line: bytes) -> None:
        text = line[:LONGEST_LINE_BYTES].decode(errors="replace").rstrip("\r")
        if text:
            self.last = [*self.last[-KEPT_LINES + 1 :], text]
            self.said(self.stream, text)


class Runner:
    """The process. ``on_exit(how)`` once, when it has ended; ``said(stream, line)`` for each line it prints."""

    def __init__(self, spec: Spec, said: Callable[[str, str], None], on_exit: Callable[[str], None], log: Any) -> None:
        self.spec = spec
        self._log = log
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._far: socket.socket | None = None
        self.port = 0
        cmd = list(spec.cmd)
        if spec.inherits:
            self._socket, self._far = socket.socketpair()
            cmd += ["--socket-fd", str(self._far.fileno())]
        else:
            self.port = self._choose_port()
            cmd += ["--tcp-socket", f"{LOOPBACK}:{self.port}"]
        try:
            self.process = self._start(cmd)
        finally:
            if self._far is not None:
                self._far.close()
        streams = {"stdout": self.process.stdout, "stderr": self.process.stderr}
        self.outputs = [Output(_unblocked(pipe), name, said) for name, pipe in streams.items() if pipe is not None]
        for output in self.outputs:
            self._loop.add_reader(output.fd, output.read, self._loop)
        self.exited: asyncio.Future[str] = self._loop.create_future()
        self._pidfd = os.pidfd_open(self.process.pid)
        self._loop.add_reader(self._pidfd, self._ended)

    def _start(self, cmd: list[str]) -> subprocess.Popen[bytes]:
        tie = tether(signal.SIGKILL)

        def before_exec() -> None:
            tie()
            for number in _IGNORED_BY_WORKERS:
                signal.signal(number, signal.SIG_DFL)

        try:
            return subprocess.Popen(
                cmd,
                cwd=self.spec.cwd,
                env={**os.environ, **self.spec.environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=() if self._far is None else (self._far.fileno(),),
                process_group=0 if self.spec.own_group else None,
                preexec_fn=before_exec,  # before the first job: no handler's thread can hold a lock
            )
        except (OSError, ValueError, subprocess.SubprocessError) as fault:
            where = f" in {self.spec.cwd}" if self.spec.cwd else ""
            reason = getattr(fault, "strerror", None) or str(fault)
            raise RunnerFailed(f"runner {self.spec.name}: {cmd[0]} can't be started{where}: {reason}") from None

    def _choose_port(self) -> int:
        """The port of the file if it is free."""
        if 0 < self.spec.port <= 65_535 and is_free(self.spec.port):
            return self.spec.port
        port = any_port()
        if self.spec.port <= 65_535:
            holder, is_kin = who_listens(self.spec.port)
            say = self._log.info if is_kin else self._log.warning
            say("runner.port_taken", port=self.spec.port, holder=holder, what_now=f"port {port} instead")
        return port

    # Its life.

    async def connect(self, make: Callable[[], Line]) -> None:
        """Reach it. Raises ``RunnerFailed`` when it ends before, or takes too long."""
        if self._socket is not None:
            await self._loop.create_connection(make, sock=self._socket)
            return
        if await reach(make, LOOPBACK, self.port, self.spec.connect_seconds, self.exited):
            stranger = self._stranger()
            if stranger:
                who = f"runner {self.spec.name}: {LOOPBACK}:{self.port} is answered by {stranger}"
                raise RunnerFailed(f"{who}, which is not the runner")
            return
        where = f"{LOOPBACK}:{self.port}"
        raise self.failure(f"nobody listens on {where}; it must listen on the address given as --tcp-socket")

    def _stranger(self) -> str:
        """Who answers on our port, if it is neither the runner nor one of its own: between our look and the runner's
        start anybody may have taken it, and would get the jobs. A runner of another user's can't be judged."""
        unseen, holder = listener(self.port)
        try:
            if holder is not None:
                is_ours = os.getpgid(holder.pid) == os.getpgid(self.process.pid)
                return "" if is_ours else f"{holder.name()} (pid {holder.pid})"
            is_visible = os.stat(f"/proc/{self.process.pid}").st_uid == os.geteuid()
        except (OSError, psutil.Error):
            return ""
        return UNSEEN if unseen and is_visible else ""

    def failure(self, what: str) -> RunnerFailed:
        """Why it is of no use: it has ended, or else ``what`` is so after all the time that it had."""
        if self.exited.done():
            why = f"{self.exited.result()} before it could be used"
        else:
            why = f"after {self.spec.connect_seconds:g} s {what}"
        return RunnerFailed(f"runner {self.spec.name}: {why}{self._last_lines()}")

    def _last_lines(self) -> str:
        lines = [line for output in self.outputs for line in output.last]
        return f"; it said: {' / '.join(lines[-KEPT_LINES:])}" if lines else ""

    def end_within(self, seconds: float) -> str | None:
        """How it ended, if it has or does so in this time, during which the loop stands still."""
        if not self.exited.done() and select.select([self._pidfd], [], [], seconds)[0]:
            self._ended()
        return self.exited.result() if self.exited.done() else None

    def _ended(self) -> None:
        code = self.process.poll()
        if code is None:
            return
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        for output in self.outputs:
            if output.fd >= 0:
                output.read(self._loop)
        how = f"it was killed by {signal.Signals(-code).name}" if code < 0 else f"it ended with exit code {code}"
        self.exited.set_result(how)
        self._on_exit(how)

    async def stop(self) -> None:
        """TERM, and KILL when its grace is over."""
        if not self.exited.done():
            self.process.terminate()
            await asyncio.wait([self.exited], timeout=self.spec.term_grace_seconds)
        self.kill()
        await asyncio.wait([self.exited], timeout=1.0)
        for output in self.outputs:
            output.close(self._loop)

    def kill(self) -> None:
        """At once."""
        if not self.exited.done():
            self.process.kill()


class Outside:
    """A runner that somebody else started and looks after."""

    def __init__(self, name: str, host: str, port: int, connect_seconds: float) -> None:
        self.name = name
        self.host = host
        self.port = port
        self._connect_seconds = connect_seconds
        self.exited: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Never done: its end is not for us to see."""

    async def connect(self, make: Callable[[], Line]) -> None:
        """Reach it. Raises ``RunnerFailed`` when that takes too long."""
        if not await reach(make, self.host, self.port, self._connect_seconds, self.exited):
            raise RunnerFailed(
                f"runner {self.name}: nobody listens on {self.host}:{self.port} after {self._connect_seconds:g} s, and "
                'with runner_management_mode = "external" it is not for rrqd to start it'
            )

    def end_within(self, _seconds: float) -> str | None:
        """Never seen."""
        return None

    async def stop(self) -> None:
        """The connection is all that was ours."""

    def kill(self) -> None:
        """The same."""


async def reach(make: Callable[[], Line], host: str, port: int, seconds: float, gone: asyncio.Future[str]) -> bool:
    """Connect, again and again until it succeeds, the time is over or nobody is there any more."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    pause, most = CONNECT_PAUSE_SECONDS
    while not gone.done():
        try:
            await loop.create_connection(make, host, port)
            return True
        except OSError:
            if loop.time() >= deadline:
                return False
        await asyncio.wait([gone], timeout=pause)
        pause = min(pause * 2, most)
    return False


def _unblocked(pipe: IO[bytes]) -> int:
    """The pipe's end as a bare descriptor that never waits."""
    fd = os.dup(pipe.fileno())
    pipe.close()
    os.set_blocking(fd, False)
    return fd


def is_free(port: int) -> bool:
    """Whether somebody could listen on this port of the loopback interface."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            return True
        except OSError:
            return False


def any_port() -> int:
    """A port of the loopback interface that is free at the moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def who_listens(port: int) -> tuple[str, bool]:
    """The process that has this port, for people, and whether it is a runner of an rrqd."""
    _unseen, process = listener(port)
    try:
        if process is not None:
            parent = process.parent()
            is_kin = parent is not None and " ".join(parent.cmdline()).startswith("rrqd: ")
            return f"{process.name()} (pid {process.pid})", is_kin
    except psutil.Error:
        pass
    return UNSEEN, False


def listener(port: int) -> tuple[bool, psutil.Process | None]:
    """The process that listens on this port, or that there is one that is not ours to see."""
    unseen = False
    try:
        for one in psutil.net_connections("tcp"):
            if one.laddr and one.laddr.port == port and one.status == psutil.CONN_LISTEN:
                if one.pid:
                    return False, psutil.Process(one.pid)
                unseen = True
    except psutil.Error:
        pass
    return unseen, None
