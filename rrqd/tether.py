"""Child processes that do not outlive their parent, however it ends."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from signal import Signals

_PR_SET_PDEATHSIG = 1


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
