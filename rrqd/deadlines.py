"""When the time of many runs is over, with one timer for all of them: most end long before, and a timer for each would
be what a short one costs most. Knows no loop: what sets a timer is an argument."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Generic, Protocol, TypeVar

from rrqd import clock

NEVER_NS = 1 << 63
SOONEST_SECONDS = 0.001

T = TypeVar("T")


class Timer(Protocol):
    """What ``loop.call_later`` answers."""

    def cancel(self) -> None: ...


class Deadlines(Generic[T]):
    """``late(run)`` once for each whose time, by the monotonic clock, comes before it is dropped."""

    def __init__(self, call_later: Callable[[float, Callable[[], None]], Timer], late: Callable[[T], None]) -> None:
        self._call_later = call_later
        self._late = late
        self._times: dict[T, int] = {}
        self._timer: Timer | None = None
        self._rings_ns = NEVER_NS

    def set(self, run: T, at_ns: int) -> None:
        """Its time runs until then."""
        self._times[run] = at_ns
        if at_ns < self._rings_ns:
            self._ring_at(at_ns)

    def shorten(self, run: T, seconds: float) -> float:
        """It has at most so long from now; answers how many seconds that takes from it."""
        now_ns, at_ns = clock.monotonic_ns(), self._times.get(run, NEVER_NS)
        sooner_ns = min(at_ns, now_ns + int(seconds * 1e9))
        if sooner_ns < at_ns:
            self.set(run, sooner_ns)
        return (at_ns - sooner_ns) / 1e9

    def running(self) -> Collection[T]:
        """Whose time runs."""
        return self._times.keys()

    def drop(self, run: T) -> None:
        """It has ended."""
        self._times.pop(run, None)

    def _ring_at(self, at_ns: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_ns = at_ns
        self._timer = self._call_later(max(SOONEST_SECONDS, (at_ns - clock.monotonic_ns()) / 1e9), self._rings)

    def _rings(self) -> None:
        self._timer, self._rings_ns = None, NEVER_NS
        now_ns = clock.monotonic_ns()
        for run in [run for run, at_ns in self._times.items() if at_ns <= now_ns]:
            del self._times[run]
            self._late(run)
        if self._times:
            self._ring_at(min(self._times.values()))
