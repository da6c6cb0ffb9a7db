"""Stopping a plain function in its thread, from outside of it.

Python can be asked to raise an exception in another thread, at its next step of Python code. A function that waits in C
(a long ``time.sleep``, a query) hears of it when that returns.

Rule 1: nothing is raised after the function has returned, and nothing is lost that comes before it has begun.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Self


class JobTimeoutException(Exception):
    """The function's time is over."""


class JobStopped(BaseException):
    """Somebody cancelled the job. Not an Exception, so that ``except Exception`` lets it pass."""


class Interruptible:
    """``with stopper: function()``: while inside, ``stop`` raises in this thread; a stop from before raises at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._why: type[BaseException] | None = None
        self.reason: str | None = None
        """What the first stop said."""

    def stop(self, why: str) -> None:
        """``"timeout"`` or anything else (a cancel). The first one counts."""
        with self._lock:
            if self._why is None:
                self.reason = why
                self._why = JobTimeoutException if why == "timeout" else JobStopped
                if self._thread is not None:
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(
                        ctypes.c_ulong(self._thread), ctypes.py_object(self._why)
                    )

    def __enter__(self) -> Self:
        with self._lock:
            if self._why is not None:
                raise self._why
            self._thread = threading.get_ident()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            asked = self._why is not None and not isinstance(fault, self._why)
            if self._thread is not None:  # what was asked for and has not been raised yet is taken back
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), None)
            self._thread = None
        if asked and self._why is not None and fault is None:
            raise self._why


@contextlib.contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Inside, this thread may take so long (None: any time); then a JobTimeoutException is raised in it."""
    if seconds is None or seconds < 0:
        yield
        return
    stopper = Interruptible()
    timer = threading.Timer(seconds, stopper.stop, ["timeout"])
    timer.daemon = True
    timer.start()
    try:
        with stopper:
            yield
    finally:
        timer.cancel()
