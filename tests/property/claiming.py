"""Which jobs of the model a claim takes: it looks along the lanes of one queue after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tests.property.places import ModelJob, Places

#: With so many stopped by throttles or rates a claim looks no further.
STOPPED_MOST = 50


@dataclass
class Lane:
    """Jobs of a queue in the order in which they are to be taken; ``at``: how many have been looked at."""

    name: str
    queue: str
    jobs: list[ModelJob]
    at: int = 0


class Look:
    """One claim. What ends up in ``picked`` (and what each holds) is to be taken; ``parked`` and ``deferred`` are not
    to start yet; ``empty`` are lanes in which nothing was found."""

    def __init__(self, places: Places, turn: int, limit: int) -> None:
        self.places = places
        self.turn = turn
        self.limit = limit
        self.picked: list[tuple[ModelJob, list[str]]] = []
        self.parked: list[tuple[ModelJob, str]] = []
        self.deferred: list[tuple[ModelJob, float]] = []
        self.empty: set[tuple[str, str]] = set()
        self.rooms: dict[str, float] = {}
        self._lanes: dict[str, list[Lane]] = {}
        self._late: dict[str, float] = {}

    def through(self, queues: Sequence[str]) -> None:
        """From the queues in this order: a share of each first, then whatever is left."""
        for most in (-(-self.limit // len(queues)), self.limit):
            for queue in queues:
                self._into(queue, min(most, self.limit - len(self.picked)))

    def room(self, throttle: str) -> float:
        return self.rooms.setdefault(throttle, self.places.room(throttle))

    def _into(self, queue: str, share: float) -> None:
        own = f"queue:{queue}"
        if own in self.places.limits:
            if self.room(own) <= 0:
                return
            share = min(share, self.room(own))
        want = len(self.picked) + share
        if queue not in self._lanes:
            self._lanes[queue] = self._lanes_of(queue)
        for lane in self._lanes[queue]:
            self._along(lane, want)

    def _lanes_of(self, queue: str) -> list[Lane]:
        """Those of tenants, those with a limit and the others, none with a priority, come first in turn."""
        places = self.places
        here = [job for job in places.jobs.values() if job.queue == queue and job.due <= places.clock]
        for job in sorted(here, key=lambda job: (job.due, job.id)):
            if job.place == "later":
                places.enter(job)
        ranked = sorted((job for job in here if job.place == "prio"), key=lambda job: (-job.priority, job.due, job.id))
        plain = sorted((job for job in here if job.place == "queue"), key=lambda job: (job.due, job.id))
        fair = sorted((job for job in here if job.place == "fair"), key=lambda job: (job.start, job.due, job.id))
        none = [Lane("plain", queue, plain)]
        if queue in places.zero:
            none.insert(0, Lane("zero", queue, [job for job in ranked if not job.priority]))
        if queue in places.now:
            none.append(Lane("fair", queue, fair))
        first = self.turn % len(none)
        high = Lane("high", queue, [job for job in ranked if job.priority > 0])
        low = Lane("low", queue, [job for job in ranked if job.priority < 0])
        return [high, *none[first:], *none[:first], low]

    def _along(self, lane: Lane, want: float) -> None:
        while len(self.picked) < want and len(self.parked) + len(self.deferred) < STOPPED_MOST:
            asked = int(want) - len(self.picked)
            found = lane.jobs[lane.at : lane.at + asked]
            if not lane.jobs:
                self.empty.add((lane.queue, lane.name))
            for job in found:
                self._at(job)
            lane.at += len(found)
            if len(found) < asked:
                return

    def _at(self, job: ModelJob) -> None:
        own = f"queue:{job.queue}"
        stop = next((name for name in job.throttles if self.room(name) <= 0), None)
        if stop is not None:
            self.parked.append((job, stop))
            return
        when = self.places.too_early(job, self._late) if job.rate else None
        if when is not None:
            self.deferred.append((job, when))
            return
        holds = [*job.throttles, *([own] if own in self.places.limits else [])]
        for name in holds:
            self.rooms[name] = self.room(name) - 1
        self.picked.append((job, holds))

    def full_queues(self, queues: Sequence[str]) -> set[str]:
        """Limits of queues that have no room left."""
        return {own for own in (f"queue:{queue}" for queue in queues) if self.rooms.get(own, math.inf) <= 0}
