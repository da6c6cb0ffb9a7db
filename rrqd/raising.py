"""Raising an exception in another thread.

Python can be asked to raise one at the next step of a thread's Python code. A thread that waits in C (a long
``time.sleep``, a query) hears of it when that returns.

Rule 1: nothing is raised outside of what was entered.

Rule 2: what was sent is let in, never taken back, and no thread ends with one under way. Python 3.11 notes for the
whole process that an exception is to be raised, and forgets it only when it has been raised. If its thread ended first,
or was told "none after all", every later step of every thread looks for it, and the first traced one (under a debugger,
coverage, hypothesis) never ends.
"""

from __future__ import annotations

import ctypes
import threading
from types import TracebackType
from typing import Self

_STEPS = 3
"""What is under way arrives at the first of them: each turn of a loop looks for it."""


class Reachable:
    """``with reachable: …``: while a thread is inside, `send` raises in it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._sent: type[BaseException] | None = None

    def send(self, kind: type[BaseException]) -> bool:
        """Raise this in the thread that is inside. False when none is."""
        with self._lock:
            if self._thread is None:
                return False
            self._sent = kind
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), ctypes.py_object(kind))
            return True

    def __enter__(self) -> Self:
        with self._lock:
            self._thread = threading.get_ident()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What arrives only now is dropped: `send` was answered too late to matter."""
        try:
            self._leave()
        except BaseException as late:
            if self._sent is None or not isinstance(late, self._sent):
                raise
            self._leave()

    def _leave(self) -> None:
        with self._lock:
            self._thread = None
        for _ in range(_STEPS if self._sent else 0):
            pass
