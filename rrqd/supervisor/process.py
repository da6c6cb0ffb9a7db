"""The kernel, as far as the master needs it. The only file of the supervisor with system calls about processes.

Rules of this file:

* A child is known by its pidfd, never by its number: `pidfd_send_signal` and `waitid(P_PIDFD)` can't hit a stranger
  that inherited the number, nor steal an exit that belongs to somebody else.
* Every descriptor is close-on-exec; a child gets exactly those it is given, as 3, 4, 5 ….
* Nothing here blocks and nothing decides.
"""

from __future__ import annotations

import fcntl
import os
import resource  # noqa: F401 - os.wait4 would import it at its first call, when there may be no descriptor left
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_FIRST_SAFE_FD = 200
_RESETTABLE = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}

DUMP_SIGNAL = signal.SIGRTMIN + 3
"""Makes a worker print all its stacks into its dump memfd, from C, even while Python is not running."""


@dataclass(frozen=True, slots=True)
class Gone:
    """A collected exit: exactly one of the two is set."""

    pid: int
    code: int | None
    signal: int | None


def spawn(argv: Sequence[str], environment: Mapping[str, str], fds: Sequence[int] = ()) -> tuple[int, int]:
    """Start a program in a process group of its own, with `fds` as 3, 4, 5 …. Returns (pid, pidfd).

    stdin is /dev/null; stdout and stderr are ours. Signals are back at their defaults and none is blocked.
    """
    # First out of the way, then into place: a source that lies at the number of an earlier target would be
    # overwritten before its turn.
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_SAFE_FD) for fd in fds]
    try:
        actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)
        ]
        actions += [(os.POSIX_SPAWN_DUP2, fd, 3 + place) for place, fd in enumerate(moved)]
        pid = os.posix_spawn(
            argv[0],
            list(argv),
            dict(environment),
            file_actions=actions,
            setpgroup=0,
            setsigmask=[],
            setsigdef=_RESETTABLE,
        )
    finally:
        for fd in moved:
            os.close(fd)
    try:
        return pid, os.pidfd_open(pid)
    except OSError:
        # Nobody could watch it. Its exit waits for us, so the number is surely its own; it is reaped as a stranger.
        os.kill(pid, signal.SIGKILL)
        raise


def adopt(pid: int) -> int:
    """A pidfd for a worker that a mold has forked. Raises ProcessLookupError when it is gone already."""
    return os.pidfd_open(pid)


def peek(pidfd: int) -> Gone | None:
    """How this child ended, or None while it lives. The exit is left there, so its number is still taken."""
    result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return None if result is None else _gone(result)


def collect(pid: int) -> dict[str, float]:
    """Take the exit that `peek` saw, with what the process has used in its life. From here on the number may be
    anybody's."""
    try:
        _pid, _status, usage = os.wait4(pid, os.WNOHANG)
    except ChildProcessError:
        return {}
    return {
        "user_seconds": round(usage.ru_utime, 3),
        "system_seconds": round(usage.ru_stime, 3),
        "max_rss_bytes": usage.ru_maxrss * 1024,
        "major_faults": usage.ru_majflt,
        "blocks_written": usage.ru_oublock,
    }


def reap_strangers(is_ours: Callable[[int], bool]) -> list[Gone]:
    """Collect exits of processes that we inherited and don't know (a job's orphans). Ours are left to their pidfd."""
    strangers: list[Gone] = []
    while True:
        try:
            seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return strangers
        if seen is None or is_ours(seen.si_pid):
            return strangers
        taken = os.waitid(os.P_PID, seen.si_pid, os.WEXITED | os.WNOHANG)
        if taken is not None:
            strangers.append(_gone(taken))


def _gone(result: os.waitid_result) -> Gone:
    if result.si_code == os.CLD_EXITED:
        return Gone(result.si_pid, result.si_status, None)
    return Gone(result.si_pid, None, result.si_status)


def send(pidfd: int, number: int) -> bool:
    """Signal a child. False if it has ended."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    return True


def kill_group(pid: int, pidfd: int) -> None:
    """SIGKILL for a child and for what it started. Its group has its number, which the kernel can't hand out again
    before we have collected the exit, so the group is never a stranger's."""
    send(pidfd, signal.SIGKILL)
    try:
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def kill_leftovers(pid: int) -> None:
    """SIGKILL for whatever is left of a dead worker's group. To be called before its exit is collected."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def state_letter(pid: int) -> str:
    """The state in /proc: R running, S sleeping, D in the kernel, T stopped, t traced, Z dead; "" when unknown."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return text[text.rindex(")") + 2 : text.rindex(")") + 3]


def waited_seconds(pid: int) -> float:
    """How long, in all its life, the main thread was ready to run and got no processor; 0 when unknown."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def memory_file(name: str, content: bytes = b"") -> int:
    """An anonymous file in memory, its position at the start."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    if content:
        os.write(fd, content)
        os.lseek(fd, 0, os.SEEK_SET)
    return fd


def wake_file() -> int:
    """An eventfd: whoever reads it takes all wake-ups that were written."""
    return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)


def wake(fd: int) -> None:
    try:
        os.eventfd_write(fd, 1)
    except BlockingIOError:
        pass


def listen(host: str, port: int) -> socket.socket:
    """The HTTP socket, bound and listening. OSError when the address can't be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(1024)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def take_lock(path: Path) -> int | None:
    """The record lock on a file: held by this process alone, not by its children, and gone with it.

    Returns the descriptor to keep, or None when somebody else has it.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd


def take_members_lock(path: Path) -> int | None:
    """The other kind of lock: shared by everybody who inherits the descriptor, gone with the last of them.

    So it tells whether children of an earlier master are still about.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd
