"""Figures of a queue's jobs: counts, and how long jobs waited and ran. Pure.

Rule 1: spreads are merged, never recomputed from what is lost: (count, mean, sum of squared differences) of two halves
give those of the whole, exactly, whatever the size of the mean.
Rule 2: a bucket is named for its lower bound. Under a second in steps of 1-2-5 (``ms0``, ``ms1``, ``ms2``, ``ms5`` …
``ms500``), then by the second (``s1`` … ``s59``), the minute (``m1`` …), the hour (``h1`` …) and the day (``d1`` …).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping

import msgspec

from rrqd.model.lifecycle import End

_STEPS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
_SMALL = ("ms0", *(f"ms{step}" for step in _STEPS_MS))
_UNITS = (("s", 1, 60), ("m", 60, 3600), ("h", 3600, 86_400))

#: How the ends of runs are counted; a diverted one was none, and is counted with those that cost no attempt.
COUNTED = {
    End.COMPLETE: "completed", End.ADVANCE: "completed", End.RETRY: "retried", End.BURY: "buried",
    End.SNOOZE: "snoozed", End.CANCEL: "cancelled", End.DIVERT: "snoozed",
}  # fmt: skip


def bucket_of(seconds: float) -> str:
    """The bucket a duration falls into."""
    if seconds < 1:
        return _SMALL[bisect_right(_STEPS_MS, seconds * 1000)]
    for letter, unit, end in _UNITS:
        if seconds < end:
            return f"{letter}{int(seconds // unit)}"
    return f"d{int(seconds // 86_400)}"


def lower_bound_seconds(bucket: str) -> float:
    """Where a bucket begins."""
    if bucket.startswith("ms"):
        return int(bucket[2:]) / 1000
    return int(bucket[1:]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[bucket[0]]


class Spread:
    """Durations, summed up as they come."""

    __slots__ = ("buckets", "count", "mean", "squares")

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self.squares = 0.0
        self.buckets: dict[str, int] = {}

    def add(self, seconds: float) -> None:
        self.count += 1
        off = seconds - self.mean
        self.mean += off / self.count
        self.squares += off * (seconds - self.mean)
        bucket = bucket_of(seconds)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1

    def merge(self, other: Spread) -> None:
        """Add what another one has summed up."""
        count = self.count + other.count
        if not other.count:
            return
        off = other.mean - self.mean
        self.squares += other.squares + off * off * self.count * other.count / count
        self.mean += off * other.count / count
        self.count = count
        for bucket, number in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + number


class Tallied:
    """What one worker has seen of one queue, of one function, or of one function in one queue, since it last told."""

    __slots__ = ("counts", "run", "wait")

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.wait = Spread()
        self.run = Spread()

    def add(self, end: End, wait_seconds: float, run_seconds: float) -> None:
        """One run. Only completed runs count for how long running takes: a failure's time says little."""
        word = COUNTED[end]
        self.counts[word] = self.counts.get(word, 0) + 1
        self.wait.add(wait_seconds)
        if word == "completed":
            self.run.add(run_seconds)

    def merge(self, other: Tallied) -> None:
        """Add what another one has seen."""
        for word, number in other.counts.items():
            self.counts[word] = self.counts.get(word, 0) + number
        self.wait.merge(other.wait)
        self.run.merge(other.run)


#: (queue, function) -> what was seen of it.
Seen = Mapping[tuple[str, str], Tallied]


def by_subject(seen: Seen) -> list[tuple[str, str, Tallied]]:
    """(kind, name, sum) for each ``queue`` and ``function``, and for ``all`` (its name is empty)."""
    sums: dict[tuple[str, str], Tallied] = {}
    for (queue, function), one in seen.items():
        for subject in (("queue", queue), ("function", function), ("all", "")):
            sums.setdefault(subject, Tallied()).merge(one)
    return [(kind, name, one) for (kind, name), one in sums.items()]


class SpreadFigures(msgspec.Struct, frozen=True, kw_only=True):
    """``sd``: of the sample; 0 while there are fewer than two. ``histogram``: bucket -> jobs, shortest first."""

    count: int
    mean_seconds: float
    sd_seconds: float
    histogram: dict[str, int]


class DayFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One queue or one function (the other name is empty) on one day (UTC, the server's clock, of the runs' ends).
    ``wait``: from due to claimed, of every run; ``run``: of completed ones. ``retried``: runs that failed and come
    again; ``buried``: those that do not."""

    queue: str = ""
    day: str
    completed: int = 0
    retried: int = 0
    buried: int = 0
    snoozed: int = 0
    cancelled: int = 0
    wait: SpreadFigures
    run: SpreadFigures
    function: str = ""

    @classmethod
    def read(cls, day: str, stored: dict[str, str], *, queue: str = "", function: str = "") -> DayFigures:
        """From the fields of the stored hash; an empty one is a day on which nothing ran."""
        counts = {word: int(stored.get(word, 0)) for word in COUNTED.values()}
        return cls(
            queue=queue, function=function, day=day, wait=_spread(stored, "wait"), run=_spread(stored, "run"), **counts
        )


def _spread(stored: dict[str, str], what: str) -> SpreadFigures:
    count = int(stored.get(f"{what}.count", 0))
    squares = float(stored.get(f"{what}.squares", 0.0))
    start = f"{what}:"
    buckets = {name.removeprefix(start): int(n) for name, n in stored.items() if name.startswith(start)}
    return SpreadFigures(
        count=count,
        mean_seconds=float(stored.get(f"{what}.mean", 0.0)),
        sd_seconds=math.sqrt(max(0.0, squares) / (count - 1)) if count > 1 else 0.0,
        histogram=dict(sorted(buckets.items(), key=lambda one: lower_bound_seconds(one[0]))),
    )
