"""One fork on trial: does it come back, and how many threads has the child?

Rules of this file:

* Libraries may hang hooks on every fork, and a hook that waits for a thread or a lock can wait for ever. On the
  parent's side an alarm interrupts it; on the child's side the child is asked where it stands, and killed.
* The hook is named by its file and line. A hook in C can't be interrupted, nor named: then the master's patience
  with a mold that does not get ready (`boot_timeout_seconds`) decides.
* Everything is as it was when it is over: signals, timers, descriptors.
"""

from __future__ import annotations

import faulthandler
import os
import re
import select
import signal
import sys
import time
import warnings
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

from rrqd.supervisor.process import DUMP_SIGNAL

PATIENCE_SECONDS = 1.0
STACK_SECONDS = 0.5
"""For a child that hangs to write down where."""


@dataclass(frozen=True, slots=True)
class Trial:
    """How it went."""

    seconds: float
    threads: int = 0
    """In the child, with its main thread; 0 when it could not be asked."""
    problem: str = ""


class _TooLate(Exception):
    """Raised into a hook that takes too long. Python swallows it there and goes on with the fork."""


def trial() -> Trial:
    """Fork a child that counts its threads and ends."""
    began = time.perf_counter()
    reader, writer = os.pipe()
    stack_fd = os.memfd_create("rrqd-stack", os.MFD_CLOEXEC)
    late: list[str] = []
    child = -1

    def too_late(_number: int, frame: FrameType | None) -> None:
        hook = _called_by_us(frame)
        late.append(f" ({hook.f_code.co_filename}:{hook.f_lineno})" if hook else "")
        if hook and child < 0:  # later, and in our own lines, there is a child that must be looked after
            raise _TooLate

    faulthandler.register(DUMP_SIGNAL, file=stack_fd, all_threads=False)
    handler_before = signal.signal(signal.SIGALRM, too_late)
    unraisable_before, sys.unraisablehook = sys.unraisablehook, _all_but_too_late
    timer_before = signal.setitimer(signal.ITIMER_REAL, PATIENCE_SECONDS, PATIENCE_SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, about threads: we are here for them
            child = os.fork()
        if child == 0:
            _count_and_leave(writer)
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer_before)
        signal.signal(signal.SIGALRM, handler_before or signal.SIG_DFL)
        sys.unraisablehook = unraisable_before
    os.close(writer)
    answer = _answer(reader)
    where = "" if answer is not None else _where_it_stands(child, stack_fd)
    if answer is None:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    faulthandler.unregister(DUMP_SIGNAL)
    os.close(reader)
    os.close(stack_fd)
    seconds = time.perf_counter() - began
    if late or answer is None:
        where = late[0] if late else where
        hang = f"a fork takes longer than {PATIENCE_SECONDS:g} s: an at-fork hook hangs{where}"
        return Trial(seconds, problem=f"{hang}; register it in on_startup")
    if not answer:
        return Trial(seconds, problem=f"an at-fork hook ends what is forked ({_how_it_ended(status)})")
    return Trial(seconds, threads=int.from_bytes(answer, "little"))


def _count_and_leave(writer: int) -> NoReturn:
    """In the child."""
    try:
        os.write(writer, len(os.listdir("/proc/self/task")).to_bytes(4, "little"))
    finally:
        os._exit(0)


def _answer(reader: int) -> bytes | None:
    """What the child says; nothing if it has died, None if it says nothing in time."""
    ready, _, _ = select.select([reader], [], [], PATIENCE_SECONDS)
    return os.read(reader, 4) if ready else None


def _where_it_stands(child: int, stack_fd: int) -> str:
    """Make the child print its stack; the line above our own is the hook's."""
    os.kill(child, DUMP_SIGNAL)
    deadline = time.monotonic() + STACK_SECONDS
    while time.monotonic() < deadline:
        text = os.pread(stack_fd, 65_536, 0).decode(errors="replace")
        lines = re.findall(r'File "(.*)", line (\d+) in ', text)
        ours = next((place for place, (file, _) in enumerate(lines) if file == trial.__code__.co_filename), None)
        if ours is not None:
            return f" ({lines[ours - 1][0]}:{lines[ours - 1][1]})" if ours else ""
        select.select([], [], [], 0.01)
    return ""


def _called_by_us(frame: FrameType | None) -> FrameType | None:
    """The frame of the hook that was being run, if one was."""
    while frame is not None and frame.f_back is not None:
        if frame.f_back.f_code is trial.__code__:
            return frame
        frame = frame.f_back
    return None


def _all_but_too_late(unraisable: Any) -> None:
    if not isinstance(unraisable.exc_value, _TooLate):
        sys.__unraisablehook__(unraisable)


def _how_it_ended(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
