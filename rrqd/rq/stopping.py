"""Stopping a plain function in its thread, from outside of it (`raising`).

Rule 1: nothing is raised after the function has returned, and nothing is lost that comes before it has begun.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from rrqd.raising import Reachable


class JobTimeoutException(Exception):
    """The function's time is over."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(args or ("the function's time is over",)))  # raised in another thread, it gets no words


class JobStopped(BaseException):
    """Somebody cancelled the job. Not an Exception, so that ``except Exception`` lets it pass."""


class Interruptible:
    """``with stopper: function()``: while inside, ``stop`` raises in this thread; a stop from before raises at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reach = Reachable()
        self._why: type[BaseException] | None = None
        self.reason: str | None = None
        """What the first stop said."""

    def stop(self, why: str) -> None:
        """``"timeout"`` or anything else (a cancel). The first one counts."""
        with self._lock:
            if self._why is None:
                self.reason = why
                self._why = JobTimeoutException if why == "timeout" else JobStopped
                self._reach.send(self._why)

    def __enter__(self) -> Self:
        with self._lock:
            if self._why is not None:
                raise self._why
            self._reach.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reach.__exit__(kind, fault, trace)
        if self._why is not None and fault is None:
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
