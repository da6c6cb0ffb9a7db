"""The programs that a job has started, in a worker of the daemon that runs one job at a time: they end with the job.

Whoever was there before the job began is left alone: what a start-up hook has started serves all jobs. The dead are
collected by whoever waits for them (`subprocess`, the event loop); those that nobody waits for, when the next job ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

from rrqd.tether import adopt_orphans, children

ROUND_SECONDS = 0.001
MOST_ROUNDS = 200
"""Whoever is not dead by then is stuck in the kernel, or another user's."""


class Offspring:
    """`begin` with each job, `end` after it. What has left the process group, and what has lost its parent, is found
    as well: orphans become the worker's."""

    def __init__(self) -> None:
        with contextlib.suppress(OSError):
            adopt_orphans()
        self._before: set[int] | None = None  # no job runs
        self._ended: set[int] = set()

    def begin(self) -> None:
        self._before = set(children(os.getpid()))

    def end(self) -> None:
        """SIGKILL for everybody that is left of the job. Nothing to do when none has begun."""
        if self._before is None:
            return
        self._collect()
        spared = self._before | {_tracker()}
        self._before = None
        # A process that is killed leaves its children to us, and the kernel's list is only right while nobody ends: ask
        # until all are dead.
        for _round in range(MOST_ROUNDS):
            found = set(_below(os.getpid(), spared))
            self._ended |= found
            if not any(map(_killed, found)):
                break
            time.sleep(ROUND_SECONDS)

    def _collect(self) -> None:
        """The dead of earlier jobs that are still there: nobody waits for them."""
        left = self._ended & set(children(os.getpid()))
        self._ended = {pid for pid in left if not _collected(pid)}


def _killed(pid: int) -> bool:
    """SIGKILL; False for one that is dead already."""
    try:
        dead = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # a grandchild
        dead = None
    if dead is None:
        with contextlib.suppress(OSError):  # gone, or become another user's
            os.kill(pid, signal.SIGKILL)
    return dead is None


def _collected(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _below(pid: int, spared: set[int]) -> list[int]:
    """All descendants but those who are spared, and theirs."""
    found = [child for child in children(pid) if child not in spared]
    return found + [one for child in found for one in _below(child, spared)]


def _tracker() -> int:
    """Python's own helper, which `multiprocessing` starts when it is first needed and misses loudly."""
    tracker = getattr(sys.modules.get("multiprocessing.resource_tracker"), "_resource_tracker", None)
    return getattr(tracker, "_pid", None) or 0
