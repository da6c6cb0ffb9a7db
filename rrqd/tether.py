"""Child processes: tied to their parent, so that they do not outlive it however it ends; found; taken over."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from signal import Signals

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def tether(number: Signals) -> Callable[[], None]:
    """A ``preexec_fn``: the kernel sends the child this signal when the thread that starts it ends (so start it from
    the main thread), also by SIGKILL. Holds through ``exec``. Where the kernel can't (macOS) the child is free.

    Made in the parent: nothing is loaded or imported between fork and exec.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    parent = os.getpid()

    def before_exec() -> None:
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # it died before we were tied
            os._exit(1)

    return before_exec


def children(pid: int) -> list[int]:
    """Direct children of a process, the dead among them that nobody has collected. A thread may have started them, so
    all threads are asked. Empty when the process is gone, or the kernel can't tell (macOS)."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, thread.read_text().split())
        except OSError:  # it has just ended
            continue
    return found


def adopt_orphans() -> None:
    """Become a subreaper: descendants whose parent has ended become our children, not those of the process above us.
    OSError where the kernel can't."""
    libc = ctypes.CDLL(None, use_errno=True)
    prctl = getattr(libc, "prctl", None)
    if prctl is None or prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl(PR_SET_CHILD_SUBREAPER): {os.strerror(error)}")
