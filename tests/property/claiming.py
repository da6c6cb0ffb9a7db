"""Which jobs of the model a claim takes: it looks along the lanes of one queue after the other.

A suspect runs alone: under a worker that has nothing else to do, or for which a queue's suspects are reserved, and
which then empties itself.
"""

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
    to start yet; ``empty`` are lanes in which nothing was found, ``unused`` throttles under which a job might have run
    that does not, ``reserved`` is the queue whose suspects are this worker's now."""

    def __init__(self, places: Places, worker: str, turn: int, limit: int) -> None:
        self.places = places
        self.worker = worker
        self.runs = bool(places.held_by(worker))
        self.turn = turn
        self.limit = limit
        self.picked: list[tuple[ModelJob, list[str]]] = []
        self.parked: list[tuple[ModelJob, str]] = []
        self.deferred: list[tuple[ModelJob, float]] = []
        self.empty: set[tuple[str, str]] = set()
        self.unused: list[str] = []
        self.rooms: dict[str, float] = {}
        self.reserved = ""
        self._over = False
        self._apart = 0
        self._last: list[Lane] = []
        self._lanes: dict[str, list[Lane]] = {}
        self._late: dict[str, float] = {}

    def through(self, queues: Sequence[str]) -> None:
        """From the queues in this order: a share of each first, then whatever is left."""
        share = -(-self.limit // len(queues))
        for queue in queues:
            self._into(queue, min(share, self.limit - len(self.picked)))
        for queue in queues if len(queues) > 1 and not self._over else ():
            self._into(queue, self.limit - len(self.picked))
        for lane in self._last:
            if not self.runs and not self.picked:
                self._along(lane, 1)

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
            if lane.name != "alone":
                self._along(lane, want)
            elif len(self.picked) >= want:
                break
            elif self.places.suspects.get(queue) in ("", self.worker):
                self._along(lane, len(self.picked) + 1)
            else:
                self._last.append(lane)

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
        if queue in places.suspects:
            none = [Lane("alone", queue, []), *none[first:], *none[:first]]
            first = 0
        return [high, *none[first:], *none[:first], low]

    def _along(self, lane: Lane, want: float) -> None:
        while not self._over and len(self.picked) < want and self._stopped < STOPPED_MOST:
            asked = int(want) - len(self.picked)
            if lane.name == "alone":
                lane.jobs = self._suspects_of(lane.queue)
            found = lane.jobs[lane.at : lane.at + asked]
            if not lane.jobs:
                self.empty.add((lane.queue, lane.name))
            for job in found:
                if not self._over:
                    self._at(job, alone=lane.name == "alone")
            lane.at += len(found)
            if len(found) < asked:
                return

    @property
    def _stopped(self) -> int:
        return len(self.parked) + len(self.deferred) + self._apart

    def _suspects_of(self, queue: str) -> list[ModelJob]:
        there = [job for job in self.places.jobs.values() if job.place == "alone" and job.queue == queue]
        return sorted(there, key=lambda job: (-job.priority, job.due, job.id))

    def _at(self, job: ModelJob, *, alone: bool) -> None:
        if job.suspect and not alone:
            self.places.set_apart(job)
            self.unused += job.throttles
            self._apart += 1
            return
        own = f"queue:{job.queue}"
        stop = next((name for name in job.throttles if self.room(name) <= 0), None)
        if stop is not None:
            self.parked.append((job, stop))
            return
        holds = [*job.throttles, *([own] if own in self.places.limits else [])]
        for name in holds:
            self.rooms[name] = self.room(name) - 1
        if alone:
            self.reserved = job.queue
            if self.runs or self.picked:
                self._over = True
                return
        when = self.places.too_early(job, self._late) if job.rate else None
        if when is not None:
            self.deferred.append((job, when))
            for name in holds:
                self.rooms[name] += 1
            return
        self._over = alone
        self.picked.append((job, holds))

    def full_queues(self, queues: Sequence[str]) -> set[str]:
        """Limits of queues that have no room left."""
        return {own for own in (f"queue:{queue}" for queue in queues) if self.rooms.get(own, math.inf) <= 0}
