"""The store as plain Python: what each move does to jobs, without a server, a script or a clock.

A job lies in one place. In a queue it stands by priority, then by age. Whatever the real store does in steps happens at
once. ``places`` says what moves by itself, ``claiming`` which jobs a claim takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from tests.property.claiming import Look
from tests.property.places import HELD, HOUR, PARKED, Limit, ModelJob, ModelRate, Places

STALLS_MOST = 3
#: Jobs that one call about a throttle moves.
WAKE_MOST = 100
OVER = ("COMPLETED", "CANCELLED")


@dataclass
class Template:
    """A job that recurs every hour. ``last``: id of its newest job; ``asked``: whether any was due yet."""

    job: ModelJob
    next: float
    backlog: int
    unique: bool
    count: int = 0
    last: str = ""
    asked: bool = False


class Model(Places):
    """The moves."""

    def __init__(self, rates: dict[str, int]) -> None:
        """``rates``: name -> burst."""
        super().__init__()
        self.rates = {name: ModelRate(burst) for name, burst in rates.items()}
        self.paused: set[str] = set()
        self.templates: dict[str, Template] = {}

    def ids(self, wanted: Callable[[ModelJob], bool] = lambda job: True) -> list[str]:
        return [job.id for job in self.jobs.values() if wanted(job)]

    # -- into a queue --------------------------------------------------------------------------------------

    def enqueue(self, jobs: Sequence[tuple[ModelJob, bool]], parents: Sequence[str] = ()) -> None:
        """Each with whether it is due in an hour only. All that wait for a throttle then go to wait for it, too."""
        known = {name for job, _ in jobs for name in job.throttles if self.parked(name)}
        for job, far in jobs:
            job.due = self.tick(far)
            self._write(job, parents, known)

    def _write(self, job: ModelJob, parents: Sequence[str], known: Collection[str]) -> None:
        self.jobs[job.id] = job
        self._wait_for(job, parents, known)
        self.tell(job, "enqueued")
        self.inform()

    def _wait_for(self, job: ModelJob, parents: Sequence[str], known: Collection[str] = ()) -> None:
        """Into the place that its parents leave it. ``known``: throttles at which somebody waits."""
        failed = {one for one in parents if self.jobs[one].status in ("FAILED", "CANCELLED")}
        if failed and job.on_parent == "cancel":
            self.cancelled(job)
            return
        done = {one for one in parents if self.jobs[one].status == "COMPLETED"}
        waits = set(parents) - done - (failed if job.on_parent == "run" else set())
        job.waits = dict.fromkeys(waits, job.due)
        full = next((name for name in job.throttles if name in known), None)
        if job.waits:
            job.place = "depends"
        elif full is not None and job.due <= self.clock:
            job.place = PARKED + full
        else:
            self.enter(job)

    def recur(self) -> None:
        """All templates whose time has come make their jobs."""
        due = [(one.next, name) for name, one in self.templates.items() if one.next <= self.tick()]
        for _, name in sorted(due):
            one = self.templates[name]
            waiting = math.floor((self.clock - one.next) / HOUR) + 1
            if one.backlog:
                one.next += max(0, waiting - one.backlog) * HOUR
                waiting = min(waiting, one.backlog)
            known = {name for name in one.job.throttles if self.parked(name)}
            one.asked = True
            for _ in range(waiting):
                one.count += 1
                last = self.jobs.get(one.last)
                if not (one.unique and last and last.status in ("PENDING", "ACTIVE", "RETRYING")):
                    one.last = f"{name}-{one.count}"
                    self._write(replace(one.job, id=one.last, due=one.next, waits={}), (), known)
                one.next += HOUR

    def an_hour_passes(self) -> None:
        super().an_hour_passes()
        for one in self.templates.values():
            one.next -= HOUR

    # -- a run ---------------------------------------------------------------------------------------------

    def claim(self, worker: str, queues: Sequence[str], limit: int, turn: int) -> list[str]:
        """``turn`` says with which of the queues to begin. What is stopped goes to wait elsewhere; what it would have
        held may be another's."""
        self.tick()
        queues = [queue for queue in queues if queue not in self.paused]
        if not queues:
            return []
        first = turn % len(queues)
        look = Look(self, worker, turn, limit)
        look.through([*queues[first:], *queues[:first]])
        self.zero -= {queue for queue, lane in look.empty if lane == "zero"}
        self.forget_suspects(queue for queue, lane in look.empty if lane == "alone")
        for queue in [queue for queue, lane in look.empty if lane == "fair"]:
            self.begin_anew(queue)
        for job, stop in look.parked:
            job.place = PARKED + stop
            self.throttled.add(stop)
        for job, due in look.deferred:
            job.due, job.slotted, job.place = due, True, "later"
        self.throttled |= look.full_queues(queues)
        for name in [*look.unused, *(name for job, stop in look.parked for name in job.throttles if name != stop)]:
            if look.room(name) > 0:
                self.wake(name, 1)
        if look.reserved:
            self.suspects[look.reserved] = worker
        for job, holds in look.picked:
            if job.place == "fair":
                self.now[job.queue] = max(self.now[job.queue], job.start)
            job.place, job.status, job.slotted = HELD + worker, "ACTIVE", False
            job.holds = tuple(holds)
            for name in holds:
                self.holders[name].add(job.id)
            self.tell(job, "claimed")
        return [job.id for job, _ in look.picked]

    def settle(self, job_id: str, end: str, far: bool) -> None:
        """One that is diverted goes to queue b, at once."""
        job, due = self.jobs[job_id], self.tick(far and end != "divert")
        job.queue = "b" if end == "divert" else job.queue
        if end in ("retry", "bury"):
            job.attempts += 1
        if end == "complete":
            self.ended(job, "COMPLETED")
            event = "completed"
        elif end == "bury":
            self.ended(job, "FAILED")
            event = "buried"
        elif end == "cancel" or job.cancel_asked:
            self.cancelled(job)
            event = "cancelled"
        else:
            job.due = due
            self.enter(job)
            job.status = "RETRYING" if end == "retry" else "PENDING"
            event = {"retry": "retrying", "snooze": "snoozed", "divert": "diverted"}[end]
        self._over(job, event)

    def advance(
        self, job_id: str, queue: str, far: bool, parents: Sequence[str], on_parent: str, priority: float | None
    ) -> None:
        job, due = self.jobs[job_id], self.tick(far)
        event = "advanced"
        if job.cancel_asked:
            self.cancelled(job)
            event = "cancelled"
        elif any(parent not in self.jobs for parent in parents) or self._circular(job, parents, on_parent):
            self.ended(job, "FAILED")
            event = "buried"
        else:
            before = job.queue, job.on_parent, job.priority
            job.queue, job.due, job.status = queue, due, "PENDING"
            job.on_parent = on_parent if parents else job.on_parent
            job.priority = job.priority if priority is None else priority
            self._wait_for(job, parents)
            if job.status == "CANCELLED":
                job.queue, job.on_parent, job.priority = before
                event = "cancelled"
            else:
                job.attempts, job.stalls, job.aboard, job.steps = 0, 0, 0, job.steps + 1
        self._over(job, event)

    def _circular(self, job: ModelJob, parents: Sequence[str], on_parent: str) -> bool:
        ended = {"COMPLETED"} | ({"FAILED", "CANCELLED"} if on_parent != "hold" else set())
        return any(self.jobs[one].status not in ended and self.reaches(one, job.id) for one in parents)

    def release(self, worker: str, charge: str, culprit: str | None) -> None:
        """All that a worker holds goes back. A death is charged to its culprit, else to a job that was alone, else all
        were aboard; that of a node only to one that was aboard before."""
        held = [self.jobs[job_id] for job_id in self.held_by(worker)]
        self.tick()
        for job in held:
            stalled = charge != "nobody" and (job.id == culprit if culprit else len(held) == 1)
            aboard = charge != "nobody" and not culprit and not stalled
            if charge == "node" and not job.suspect:
                stalled, aboard = False, True
            job.aboard += aboard
            self._put_back(job, stalled)
        self.inform()

    def release_one(self, job_id: str) -> None:
        self.tick()
        self._put_back(self.jobs[job_id], False)
        self.inform()

    def _put_back(self, job: ModelJob, stalled: bool) -> None:
        job.stalls += stalled
        event = "released"
        if job.cancel_asked:
            self.cancelled(job)
            event = "cancelled"
        elif stalled and job.stalls >= STALLS_MOST:
            self.ended(job, "FAILED")
            event = "buried"
        else:
            if job.suspect:
                self.set_apart(job)
            else:
                self.enter(job, has_turn=True)
            job.status = "PENDING"
        self.let_go(job)
        self.tell(job, event)

    def _over(self, job: ModelJob, event: str) -> None:
        self.tell(job, event)
        self.let_go(job)
        self.inform()

    # -- by hand -------------------------------------------------------------------------------------------

    def cancel(self, job_ids: Sequence[str]) -> list[str]:
        said = [self._cancel(self.jobs[job_id]) for job_id in job_ids]
        self.inform()
        return said

    def _cancel(self, job: ModelJob) -> str:
        if job.held:
            if not job.cancel_asked:
                self.tell(job, "cancel-asked")
            job.cancel_asked = True
            return "asked"
        if job.status == "CANCELLED":
            return "cancelled"
        if not (job.queued or job.place == "depends"):
            return "too-late"
        place = job.place
        self.leave(job)
        self.cancelled(job)
        if place in ("prio", "fair"):
            self.pass_on(job)
        self.tell(job, "cancelled")
        return "cancelled"

    def revive(self, job_id: str) -> None:
        self._dig_out(self.jobs[job_id])
        self.enter(self.jobs[job_id])

    def _dig_out(self, job: ModelJob) -> None:
        job.status, job.due = "PENDING", self.tick()
        job.attempts, job.stalls, job.aboard, job.cancel_asked = 0, 0, 0, False
        self.tell(job, "revived")

    def move(self, job_id: str, queue: str | None, far: bool | None, priority: float | None, running: bool) -> str:
        """``queue``, ``far``, ``priority``: ``None`` leaves them as they are."""
        job = self.jobs[job_id]
        queue = queue or job.queue
        if job.status in OVER:
            return "too-late"
        held, buried = job.held, job.place == "dlq"
        if held and not running:
            return "running"
        if held and job.cancel_asked:
            self.cancelled(job)
            self.let_go(job)
            self.tell(job, "cancelled")
            self.inform()
            return "cancelled"
        place, before = job.place, job.queue
        if buried:
            self._dig_out(job)
        keeps_turn = place == "fair" and before == queue and far is None and not (priority or 0)
        job.due = job.due if far is None else self.tick(far)
        job.queue = queue
        job.priority = job.priority if priority is None else priority
        if held or buried:
            job.status = "PENDING"
            self.enter(job, has_turn=held)
            self.let_go(job)
        elif place != "depends" and not keeps_turn:
            self.enter(job)
            if place == "fair":
                self.give_back(before, job.tenant)
        if place in ("prio", "fair"):
            self.pass_on(job)
        self.tell(job, "taken" if held else "moved")
        return "taken" if held else "revived" if buried else "moved"

    def prioritise(self, job_id: str, priority: float) -> str:
        job = self.jobs[job_id]
        if job.status in OVER:
            return "too-late"
        was, job.priority = job.priority, priority
        if job.queued and was != priority:
            self.leave(job)
            self.enter(job)
        return "moved" if job.queued else "noted"

    def depend(self, job_id: str, parent: str) -> str:
        """``waits``, ``ready``, ``too-late`` (also when the parent has failed and the child would end) or ``cycle``."""
        job, above = self.jobs[job_id], self.jobs[parent]
        if not (job.queued or job.place == "depends"):
            return "too-late"
        failed = above.status in ("FAILED", "CANCELLED")
        if failed and job.on_parent == "cancel":
            return "too-late"
        if above.status != "COMPLETED" and not (failed and job.on_parent == "run"):
            if self.reaches(parent, job_id):
                return "cycle"
            job.waits[parent] = job.due
            self.leave(job)
            job.place = "depends"
        return "waits" if job.place == "depends" else "ready"

    def undepend(self, job_id: str, parent: str) -> str:
        job = self.jobs[job_id]
        if job.place != "depends":
            return "too-late"
        job.waits.pop(parent, None)
        if job.waits:
            return "waits"
        self.enter(job)
        return "ready"

    def purge(self, job_id: str) -> None:
        """Its record is gone."""
        job = self.jobs[job_id]
        self.leave(job)
        self.tell(job, "purged")
        del self.jobs[job_id]
        self.gone(job_id)
        self.inform()

    def track(self, job_id: str, on: bool) -> bool:
        """False when it was so already."""
        job = self.jobs[job_id]
        if job.tracked == on:
            return False
        job.tracked = True
        self.tell(job, "tracked" if on else "untracked")
        job.tracked = on
        return True

    # -- throttles -----------------------------------------------------------------------------------------

    def set_throttle(self, name: str, most: int, expires: bool) -> bool:
        """``expires``: it is lifted in an hour."""
        fresh = name not in self.limits
        self.limits[name] = Limit(most, self.tick(1) if expires else math.inf)
        if most > 0:
            self.tend(name)
        return fresh

    def delete_throttle(self, name: str) -> bool:
        was = self.limits.pop(name, None) is not None
        self.tend(name)
        return was

    def free(self, name: str, job_ids: Sequence[str]) -> int:
        """They run on, and count no more."""
        freed = [job_id for job_id in job_ids if job_id in self.holders[name]]
        for job_id in freed:
            self.holders[name].remove(job_id)
            self.next_of(name)
        return len(freed)

    def tend(self, name: str) -> int:
        """What may run of those that wait for it goes back to its queue."""
        limit = self.limits.get(name)
        if limit is not None and limit.until <= self.tick():
            del self.limits[name]
        room = self.room(name)
        if room <= 0:
            return 0
        if name.startswith("queue:"):
            self.throttled.discard(name)
            return 0
        moved = self.wake(name, min(room, WAKE_MOST))
        if not moved:
            self.throttled.discard(name)
        return moved

    def tend_all(self) -> int:
        return sum(self.tend(name) for name in sorted(self.throttled))
