"""Small values of RQ's API that programs use in two spellings, and how RQ writes spans of time.

RQ has ``job.is_finished`` and ``queue.count`` as properties, the emulator has them as methods. A :class:`Truth` and a
:class:`Count` can be used either way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from rrqd.rq.exceptions import TimeoutFormatError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
#: rrqd's longest timeout; RQ's -1 ("none at all") is written as this.
LONGEST_SECONDS = 31_536_000


class JobStatus(StrEnum):
    """RQ's words for where a job is."""

    QUEUED = "queued"
    STARTED = "started"
    FINISHED = "finished"
    FAILED = "failed"
    DEFERRED = "deferred"
    SCHEDULED = "scheduled"
    STOPPED = "stopped"
    CANCELED = "canceled"


class Count(int):
    """A number that may also be called."""

    def __call__(self) -> int:
        return int(self)


class Truth(int):
    """True or false; may also be called. (``bool`` itself can't be subclassed: compare it with ==, not with ``is``.)"""

    def __call__(self) -> bool:
        return bool(self)

    def __repr__(self) -> str:
        return repr(bool(self))

    __str__ = __repr__


def seconds_of(span: Any, what: str) -> int | None:
    """A span of time as RQ takes it: 90, "90", "90s", "3m", "1h", "2d", a timedelta; -1 is "for ever".

    Raises TimeoutFormatError, a ValueError, naming ``what``.
    """
    if span is None:
        return None
    wrong = TimeoutFormatError(f"{what} must be seconds or text like '90s', '3m', '1h', '2d', not {span!r}")
    if hasattr(span, "total_seconds"):
        span = span.total_seconds()
    if isinstance(span, str):
        text = span.strip().lower()
        unit = _UNITS.get(text[-1:], 0)
        number = text[:-1] if unit else text
        if not number.lstrip("-").isdecimal():
            raise wrong
        span = int(number) * (unit or 1)
    if isinstance(span, bool) or not isinstance(span, int | float) or not math.isfinite(span):
        raise wrong
    if span == -1:
        return -1
    if span < 0:
        raise TimeoutFormatError(f"{what} must not be negative, except for -1 (for ever); it is {span!r}")
    return -(-int(span * 1000) // 1000)


class Retry:
    """Up to ``max`` further attempts after a failure; ``interval`` seconds between them, or a list: one for each, the
    last for all further ones. Zero: at once."""

    def __init__(self, max: int, interval: float | Sequence[float] = 0) -> None:
        if isinstance(max, bool) or not isinstance(max, int) or max < 1:
            raise ValueError(f"Retry's max must be a whole number above 0, not {max!r}")
        self.max = max
        self.intervals = _intervals(interval, "Retry")


class Repeat:
    """Run ``times`` more times after each success, ``interval`` seconds (or a list, as in Retry) later."""

    def __init__(self, times: int, interval: float | Sequence[float] = 0) -> None:
        if isinstance(times, bool) or not isinstance(times, int) or times < 1:
            raise ValueError(f"Repeat's times must be a whole number above 0, not {times!r}")
        self.times = times
        self.intervals = _intervals(interval, "Repeat")


class Dependency:
    """The jobs that one waits for. ``allow_failure``: it runs also when they have failed."""

    def __init__(self, jobs: Any, allow_failure: bool = False, enqueue_at_front: bool = False) -> None:
        del enqueue_at_front  # it gets the place that it would have had without waiting
        self.dependencies: list[Any] = list(jobs) if isinstance(jobs, list | tuple) else [jobs]
        self.allow_failure = allow_failure


def _intervals(interval: Any, whose: str) -> list[float]:
    spans = list(interval) if isinstance(interval, list | tuple) else [interval]
    for span in spans:
        if isinstance(span, bool) or not isinstance(span, int | float) or not 0 <= span <= LONGEST_SECONDS:
            raise ValueError(f"{whose}'s interval must be seconds, or a list of them, not {interval!r}")
    return [float(span) for span in spans] or [0.0]


class Callback:
    """A function to call after a job: ``Callback(report, timeout="10s")``. It is stopped, as a job would be, when it
    takes longer than its ``timeout`` (seconds, or as ``seconds_of`` reads them), or than the job may take in all."""

    def __init__(self, func: Any, timeout: Any = None) -> None:
        if not callable(func) and not isinstance(func, str):
            raise ValueError("a Callback needs a function or its dotted path")
        self.func = func
        self.timeout = seconds_of(timeout, "a callback's timeout")
