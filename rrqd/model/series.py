"""The history of a queue, or of all: rings of minutes, hours and days; a slot counts ends and has two latencies. Pure.

Rule 1: a ring has a fixed number of slots, and a slot a fixed size: history never grows, whatever runs.
Rule 2: a slot says which period it is about. One that speaks of an older period counts as empty, so nothing has to be
cleaned up, and a node that was away for a week changes nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from rrqd.model.figures import lower_bound_seconds

#: Lower bounds of what is told apart of waits and runs; between two of them a share is reckoned.
GRADES_SECONDS = (
    *(0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    *(1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0),
    *(3600.0, 7200.0, 21_600.0, 86_400.0),
)
#: The ends that a slot counts, in the order in which they are stored.
COUNTS = ("completed", "retried", "buried", "snoozed", "cancelled")


class Ring(NamedTuple):
    """One resolution: ``slots`` periods of ``seconds``. ``letter``: its part of the key."""

    letter: str
    seconds: int
    slots: int


RINGS = {"minutes": Ring("m", 60, 120), "hours": Ring("h", 3600, 168), "days": Ring("d", 86_400, 90)}


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds. ``p50``, ``p95``: half of the jobs, and 95 %, took no longer, as near as the grades tell."""

    count: int
    mean_seconds: float
    p50_seconds: float
    p95_seconds: float


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One period. ``at_ms``: when it began (epoch ms). ``retried``: runs that failed and come again; ``buried``: those
    that do not. ``wait``: of all runs, from due to claimed; ``run``: of completed ones; ``None``: there were none."""

    at_ms: int
    completed: int = 0
    retried: int = 0
    buried: int = 0
    snoozed: int = 0
    cancelled: int = 0
    wait: Latency | None = None
    run: Latency | None = None

    @property
    def failed(self) -> int:
        """Runs that failed, whatever came of them."""
        return self.retried + self.buried


def grades_of(buckets: Mapping[str, int]) -> list[int]:
    """The buckets of a day's figures as grades: a flat list of grade, number."""
    sums: dict[int, int] = {}
    for bucket, number in buckets.items():
        grade = bisect_right(GRADES_SECONDS, lower_bound_seconds(bucket)) - 1
        sums[grade] = sums.get(grade, 0) + number
    return [word for pair in sums.items() for word in pair]


def pairs_of(flat: Sequence[int]) -> list[tuple[int, int]]:
    """A flat list as pairs."""
    return list(zip(flat[::2], flat[1::2], strict=True))


def read_points(ring: Ring, stored: Mapping[bytes, bytes], now_ms: float) -> list[Point]:
    """All periods of a ring up to now, oldest first; one in which nothing ended is empty."""
    last = int(now_ms // 1000) // ring.seconds
    by_period: dict[int, list[Any]] = {}
    for value in stored.values():
        slot = _slot(value)
        if slot is not None:
            by_period[slot[0]] = slot
    return [
        _point(period * ring.seconds * 1000, by_period.get(period)) for period in range(last - ring.slots + 1, last + 1)
    ]


def _slot(value: bytes) -> list[Any] | None:
    try:
        slot = msgspec.msgpack.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    fits = isinstance(slot, list) and len(slot) == 4 and isinstance(slot[1], list) and len(slot[1]) == len(COUNTS)
    return slot if fits else None


def _point(at_ms: int, slot: list[Any] | None) -> Point:
    if slot is None:
        return Point(at_ms=at_ms)
    counts = dict(zip(COUNTS, map(int, slot[1]), strict=True))
    return Point(at_ms=at_ms, **counts, wait=_latency(*slot[2]), run=_latency(*slot[3]))


def _latency(count: int, total: float, flat: Any) -> Latency | None:
    if not count:
        return None
    pairs = sorted(pairs_of(flat)) if isinstance(flat, list) else []
    return Latency(
        count=int(count),
        mean_seconds=total / count,
        p50_seconds=quantile(pairs, 0.5),
        p95_seconds=quantile(pairs, 0.95),
    )


def quantile(pairs: Iterable[tuple[int, int]], share: float) -> float:
    """The seconds that this share of the jobs did not exceed; ``pairs``: (grade, number), by grade."""
    known = list(pairs)
    left = share * sum(number for _, number in known)
    for grade, number in known:
        if number and left <= number:
            low = GRADES_SECONDS[grade]
            high = GRADES_SECONDS[grade + 1] if grade + 1 < len(GRADES_SECONDS) else low
            return low + (high - low) * left / number
        left -= number
    return 0.0
