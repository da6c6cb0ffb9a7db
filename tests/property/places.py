"""Where a job of the model lies, and what moves there by itself: turns of tenants, throttles, rates, children of
parents that end. The moves that somebody makes are in ``model``.

The model's clock counts moments: each thing that happens is one later. An hour is longer than any number of them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

HOUR = 10**9
HELD = "held "
PARKED = "parked "
#: Places out of which a claim takes jobs, sooner or later.
QUEUED = ("queue", "prio", "fair", "later", "alone")
#: Deaths of workers that a job was aboard of.
SUSPECT_AFTER = 2
#: Children of one parent that hear of its end before those of the next one do.
TOLD_AT_ONCE = 10


@dataclass
class ModelJob:
    """One job. ``place``: the kind of key in which it lies: ``queue``, ``prio``, ``fair``, ``later``, ``alone``,
    ``depends``, ``parked <throttle>``, ``held <worker>``, ``dlq`` or ``none``. ``waits``: parent -> its own due time
    when it began to wait for it. ``holds``: throttles of its last run."""

    id: str
    queue: str
    priority: float = 0
    tenant: str = ""
    throttles: tuple[str, ...] = ()
    rate: str = ""
    tags: tuple[str, ...] = ()
    tracked: bool = False
    on_parent: str = "hold"
    due: float = 0
    place: str = ""
    status: str = "PENDING"
    attempts: int = 0
    stalls: int = 0
    aboard: int = 0
    steps: int = 0
    ends: int = 0
    start: float = 0
    slotted: bool = False
    cancel_asked: bool = False
    waits: dict[str, float] = field(default_factory=dict)
    holds: tuple[str, ...] = ()

    @property
    def held(self) -> bool:
        return self.place.startswith(HELD)

    @property
    def suspect(self) -> bool:
        """It runs alone from now on."""
        return self.aboard >= SUSPECT_AFTER

    @property
    def queued(self) -> bool:
        """In its queue, or at a throttle."""
        return self.place in QUEUED or self.place.startswith(PARKED)


@dataclass
class Limit:
    """Of a throttle; ``until``: from then on it is none."""

    most: int
    until: float = math.inf

    @property
    def expires(self) -> bool:
        return self.until < math.inf


@dataclass
class ModelRate:
    """``burst`` starts at once, then one an hour. ``clock``: when the next one would be due without a burst; ``slot``:
    the first time that nobody waits for."""

    burst: int
    clock: float = 0
    slot: float = 0


class Places:
    """All jobs, and what they wait for."""

    def __init__(self) -> None:
        self.jobs: dict[str, ModelJob] = {}
        self.clock = 0
        #: Of a queue with jobs of tenants: its virtual time, and that of each tenant's next job.
        self.now: dict[str, float] = {}
        self.turns: dict[tuple[str, str], float] = {}
        self.weights: dict[str, float] = {}
        #: Queues known to have jobs without a priority that have a throttle or a rate.
        self.zero: set[str] = set()
        #: Queues known to have suspects -> the worker that is to run them, or "".
        self.suspects: dict[str, str] = {}
        self.limits: dict[str, Limit] = {}
        self.holders: defaultdict[str, set[str]] = defaultdict(set)
        #: Throttles at which something waits, or did a moment ago.
        self.throttled: set[str] = set()
        self.rates: dict[str, ModelRate] = {}
        #: What was told of tracked jobs: (job, event).
        self.told: list[tuple[str, str]] = []
        self._endings: list[tuple[str, str]] = []

    # -- looking -------------------------------------------------------------------------------------------

    def held_by(self, worker: str) -> list[str]:
        return [job.id for job in self.jobs.values() if job.place == HELD + worker]

    def parked(self, throttle: str) -> list[ModelJob]:
        there = [job for job in self.jobs.values() if job.place == PARKED + throttle]
        return sorted(there, key=lambda job: (-job.priority, job.due, job.id))

    def children_of(self, parent: str, *, heirs: bool) -> list[ModelJob]:
        """In the order in which they hear of its end; ``heirs`` hear of any, the others only of a completion."""
        there = [job for job in self.jobs.values() if parent in job.waits and (job.on_parent != "hold") == heirs]
        return sorted(there, key=lambda job: (job.waits[parent], job.id))

    def reaches(self, start: str, target: str) -> bool:
        """Whether ``start`` is, or waits for, ``target``, over any number of others."""
        return target in self._above(start)

    def _above(self, start: str) -> Iterator[str]:
        seen, line = {start}, [start]
        while line:
            here = line.pop()
            yield here
            for parent in (self.jobs[here].waits.keys() if here in self.jobs else set()) - seen:
                seen.add(parent)
                line.append(parent)

    # -- time ----------------------------------------------------------------------------------------------

    def tick(self, hours: float = 0) -> float:
        """A moment goes by; answers the one so many hours after it."""
        self.clock += 1
        return self.clock + hours * HOUR

    def an_hour_passes(self) -> None:
        """As if the clock had been set back, and all that is still to come with it."""
        for job in self.jobs.values():
            if job.due > self.clock:
                job.due -= HOUR
        for rate in self.rates.values():
            rate.clock -= HOUR
            rate.slot -= HOUR
        for limit in self.limits.values():
            limit.until -= HOUR

    # -- queues --------------------------------------------------------------------------------------------

    def enter(self, job: ModelJob, *, has_turn: bool = False) -> None:
        """Into its queue. A tenant's job gets a turn there, unless it has one."""
        limited = bool(job.throttles or job.rate)
        if not (job.priority or job.tenant or limited):
            job.place = "queue"
        elif job.due > self.clock:
            job.place = "later"
        elif job.priority or not job.tenant:
            job.place = "prio"
            if not job.priority:
                self.zero.add(job.queue)
        else:
            job.place = "fair"
            now, whose = self.now.setdefault(job.queue, 0.0), (job.queue, job.tenant)
            job.start = now if has_turn else max(now, self.turns.get(whose, 0.0))
            if not has_turn:
                self.turns[whose] = job.start + 1 / self.weights.get(job.tenant, 1)

    def set_apart(self, job: ModelJob) -> None:
        """A suspect, from the others of its queue."""
        job.place = "alone"
        self.suspects.setdefault(job.queue, "")

    def forget_suspects(self, queues: Iterable[str]) -> None:
        """Of queues in which none was found; not those that have one by now."""
        for queue in queues:
            if not any(job.place == "alone" and job.queue == queue for job in self.jobs.values()):
                self.suspects.pop(queue, None)

    def leave(self, job: ModelJob) -> None:
        """Out of its queue, without a run."""
        if job.place == "fair":
            self.give_back(job.queue, job.tenant)

    def give_back(self, queue: str, tenant: str) -> None:
        if (queue, tenant) in self.turns:
            self.turns[queue, tenant] -= 1 / self.weights.get(tenant, 1)

    def begin_anew(self, queue: str) -> None:
        """No tenant's job waits there any more."""
        self.now.pop(queue, None)
        self.turns = {key: start for key, start in self.turns.items() if key[0] != queue}

    # -- throttles and rates -------------------------------------------------------------------------------

    def room(self, throttle: str) -> float:
        limit = self.limits.get(throttle)
        if limit is None or limit.until <= self.clock:
            return math.inf
        return limit.most - len(self.holders[throttle])

    def wake(self, throttle: str, most: float) -> int:
        """Those that wait longest go back to their queues."""
        line = self.parked(throttle)
        woken = line[: int(min(most, len(line)))]
        for job in woken:
            self.enter(job, has_turn=True)
        if line and woken == line:
            self.throttled.discard(throttle)
        return len(woken)

    def next_of(self, throttle: str) -> None:
        """A place under it has come free."""
        if throttle.startswith("queue:"):
            self.throttled.discard(throttle)
        else:
            self.wake(throttle, 1)

    def pass_on(self, job: ModelJob) -> None:
        """It may have been woken for a place that is now another's."""
        for name in job.throttles:
            self.next_of(name)

    def let_go(self, job: ModelJob) -> None:
        """Its run is over."""
        for name in job.holds:
            if job.id in self.holders[name]:
                self.holders[name].remove(job.id)
                self.next_of(name)
        job.holds = ()

    def too_early(self, job: ModelJob, late: dict[str, float]) -> float | None:
        """When its rate lets it start; ``None``: now, and that start counts. ``late``: of a rate, where those whose
        slot has come too early find the next one."""
        rate = self.rates[job.rate]
        clock = max(rate.clock, self.clock)
        earliest = clock - (rate.burst - 1) * HOUR
        if earliest <= self.clock and (job.slotted or rate.slot <= self.clock):
            rate.clock = clock + HOUR
            return None
        if job.slotted:
            slot = max(late.get(job.rate, 0), earliest)
            late[job.rate] = slot + HOUR
        else:
            slot = max(rate.slot, earliest)
            rate.slot = slot + HOUR
        return slot

    # -- parents -------------------------------------------------------------------------------------------

    def tell(self, job: ModelJob, event: str) -> None:
        if job.tracked:
            self.told.append((job.id, event))

    def cancelled(self, job: ModelJob) -> None:
        job.waits = {}
        self.ended(job, "CANCELLED")

    def ended(self, job: ModelJob, status: str) -> None:
        job.status, job.place, job.ends = status, "dlq" if status == "FAILED" else "none", job.ends + 1
        self._endings.append((job.id, status))

    def gone(self, job_id: str) -> None:
        """Its record: so it can't complete any more."""
        self._endings.append((job_id, "CANCELLED"))

    def inform(self) -> None:
        """Children hear of ends; some of them may end, and with them others that wait for it."""
        while self._endings:
            parent, status = self._endings.pop(0)
            groups = (False, True) if status == "COMPLETED" else (True,)
            for heirs in groups:
                for child in self.children_of(parent, heirs=heirs)[:TOLD_AT_ONCE]:
                    self._hear(child, parent, status)
            if any(self.children_of(parent, heirs=heirs) for heirs in groups):
                self._endings.append((parent, status))

    def _hear(self, child: ModelJob, parent: str, status: str) -> None:
        del child.waits[parent]
        if status != "COMPLETED" and child.on_parent == "cancel":
            self.cancelled(child)
            self.tell(child, "cancelled")
        elif not child.waits:
            self.enter(child)
            self.tell(child, "ready")
