"""The store as plain Python: what each move does to jobs, without a server, a script or a clock.

A job lies in one place. In a queue it stands by priority, then by age; ``age`` is a number that grows with each moment
at which something becomes due, and one that is not due has ``far``. Whatever the real store does in steps happens at
once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

WAITING = ("queue", "depends")
STALLS_MOST = 3


@dataclass
class ModelJob:
    """One job. ``place``: ``queue``, ``depends``, ``held:<worker>``, ``dlq`` or ``none``."""

    id: str
    queue: str
    priority: float = 0
    far: bool = False
    age: int = 0
    place: str = "queue"
    status: str = "PENDING"
    attempts: int = 0
    stalls: int = 0
    steps: int = 0
    tenant: str = ""
    start: float = 0
    on_parent: str = "hold"
    waits: set[str] = field(default_factory=set)
    cancel_asked: bool = False

    @property
    def kind(self) -> str:
        """The kind of key in which it lies."""
        if self.place != "queue" or not (self.priority or self.tenant):
            return self.place
        return "later" if self.far else "prio" if self.priority else "fair"


class Model:
    """All jobs, and the moves on them."""

    def __init__(self) -> None:
        self.jobs: dict[str, ModelJob] = {}
        self._ages = 0
        #: Of a queue with jobs of tenants: its virtual time, and that of each tenant's next job.
        self.now: dict[str, float] = {}
        self.turns: dict[tuple[str, str], float] = {}

    # -- looking -------------------------------------------------------------------------------------------

    def lanes(self, queue: str, turn: int) -> list[tuple[str, list[ModelJob]]]:
        """Due jobs of a queue, in the order in which they are to be taken. Those of tenants and those of nobody, none
        with a priority, come first in turn."""
        due = [job for job in self.jobs.values() if job.queue == queue and job.place == "queue" and not job.far]
        ranked = sorted((job for job in due if job.priority), key=lambda job: (-job.priority, job.age))
        plain = sorted((job for job in due if job.kind == "queue"), key=lambda job: job.age)
        fair = sorted((job for job in due if job.kind == "fair"), key=lambda job: (job.start, job.age))
        none = [("plain", plain), *([("fair", fair)] if queue in self.now else [])]
        first = turn % len(none)
        high, low = [job for job in ranked if job.priority > 0], [job for job in ranked if job.priority < 0]
        return [("high", high), *none[first:], *none[:first], ("low", low)]

    def held_by(self, worker: str) -> list[str]:
        return [job.id for job in self.jobs.values() if job.place == f"held:{worker}"]

    def ids(self, wanted: Callable[[ModelJob], bool] = lambda job: True) -> list[str]:
        return [job.id for job in self.jobs.values() if wanted(job)]

    def children_of(self, parent: str) -> list[ModelJob]:
        return [job for job in self.jobs.values() if parent in job.waits]

    def reaches(self, start: str, target: str) -> bool:
        """Whether ``start`` is, or waits for, ``target``, over any number of others."""
        return target in self._above(start)

    def _above(self, start: str) -> Iterator[str]:
        seen, line = {start}, [start]
        while line:
            here = line.pop()
            yield here
            for parent in (self.jobs[here].waits if here in self.jobs else set()) - seen:
                seen.add(parent)
                line.append(parent)

    # -- the moves -----------------------------------------------------------------------------------------

    def enqueue(self, job: ModelJob, parents: Sequence[str]) -> bool:
        """False when a parent is unknown."""
        if any(parent not in self.jobs for parent in parents):
            return False
        self.jobs[job.id] = job
        job.age = self._next_age()
        self._wait_for(job, parents)
        return True

    def _wait_for(self, job: ModelJob, parents: Sequence[str]) -> None:
        """Into the place that its parents leave it."""
        failed = {one for one in parents if self.jobs[one].status in ("FAILED", "CANCELLED")}
        if failed and job.on_parent == "cancel":
            self._cancelled(job)
            return
        done = {one for one in parents if self.jobs[one].status == "COMPLETED"}
        job.waits = set(parents) - done - (failed if job.on_parent == "run" else set())
        if job.waits:
            job.place = "depends"
        else:
            self._enter(job)

    def claim(self, worker: str, queues: Sequence[str], limit: int, turn: int) -> list[str]:
        """From the queues in this order: a share of each first, then whatever is left. A queue that is seen to have no
        job of a tenant begins anew."""
        taken: list[ModelJob] = []
        share = -(-limit // len(queues))
        lanes = {queue: self.lanes(queue, turn) for queue in queues}
        empty = {(queue, name) for queue in queues for name, jobs in lanes[queue] if not jobs}
        for most in (share, limit):
            for queue in queues:
                want = len(taken) + min(most, limit - len(taken))
                for name, jobs in lanes[queue]:
                    if len(taken) < want and name == "fair" and (queue, name) in empty:
                        self._begin_anew(queue)
                    while jobs and len(taken) < want:
                        taken.append(jobs.pop(0))
        for job in taken:
            if job.kind == "fair":
                self.now[job.queue] = max(self.now[job.queue], job.start)
            job.place, job.status = f"held:{worker}", "ACTIVE"
        return [job.id for job in taken]

    def _begin_anew(self, queue: str) -> None:
        self.now.pop(queue, None)
        self.turns = {key: start for key, start in self.turns.items() if key[0] != queue}

    def _enter(self, job: ModelJob, *, has_turn: bool = False) -> None:
        """Into its queue. A tenant's job gets a turn there, unless it has one."""
        job.place = "queue"
        if job.kind == "fair":
            now, whose = self.now.setdefault(job.queue, 0.0), (job.queue, job.tenant)
            job.start = now if has_turn else max(now, self.turns.get(whose, 0.0))
            if not has_turn:
                self.turns[whose] = job.start + 1

    def _leave(self, job: ModelJob) -> None:
        """Out of its queue, without a run."""
        if job.kind == "fair":
            self._give_back(job.queue, job.tenant)

    def _give_back(self, queue: str, tenant: str) -> None:
        if (queue, tenant) in self.turns:
            self.turns[queue, tenant] -= 1

    def settle(self, job_id: str, end: str, far: bool) -> None:
        job = self.jobs[job_id]
        if end in ("retry", "bury"):
            job.attempts += 1
        if end == "complete":
            self._ended(job, "COMPLETED")
        elif end == "bury":
            self._ended(job, "FAILED")
        elif end == "cancel" or job.cancel_asked:
            self._cancelled(job)
        else:
            job.far, job.age = far, self._next_age()
            self._enter(job)
            job.status = "RETRYING" if end == "retry" else "PENDING"

    def advance(self, job_id: str, queue: str, parents: Sequence[str], on_parent: str) -> None:
        job = self.jobs[job_id]
        if job.cancel_asked:
            self._cancelled(job)
        elif any(parent not in self.jobs for parent in parents) or self._circular(job, parents, on_parent):
            self._ended(job, "FAILED")
        else:
            job.queue, job.far, job.age, job.status = queue, False, self._next_age(), "PENDING"
            before, job.on_parent = job.on_parent, on_parent if parents else job.on_parent
            self._wait_for(job, parents)
            if job.status == "CANCELLED":
                job.on_parent = before
            else:
                job.attempts, job.stalls, job.steps = 0, 0, job.steps + 1

    def _circular(self, job: ModelJob, parents: Sequence[str], on_parent: str) -> bool:
        ended = {"COMPLETED"} | ({"FAILED", "CANCELLED"} if on_parent != "hold" else set())
        return any(self.jobs[one].status not in ended and self.reaches(one, job.id) for one in parents)

    def release(self, worker: str, death: bool) -> None:
        """All that a worker holds goes back; a death is charged to a job that was alone."""
        held = [self.jobs[job_id] for job_id in self.held_by(worker)]
        for job in held:
            job.stalls += death and len(held) == 1
            if job.cancel_asked:
                self._cancelled(job)
            elif job.stalls >= STALLS_MOST and death:
                self._ended(job, "FAILED")
            else:
                self._enter(job, has_turn=True)
                job.status = "PENDING"

    def cancel(self, job_id: str) -> str:
        job = self.jobs[job_id]
        if job.place.startswith("held:"):
            job.cancel_asked = True
            return "asked"
        if job.status == "CANCELLED":
            return "cancelled"
        if job.place not in WAITING:
            return "too-late"
        self._leave(job)
        self._cancelled(job)
        return "cancelled"

    def revive(self, job_id: str) -> None:
        job = self.jobs[job_id]
        job.status, job.far, job.age = "PENDING", False, self._next_age()
        self._enter(job)
        job.attempts, job.stalls, job.cancel_asked = 0, 0, False

    def move(self, job_id: str, queue: str, far: bool | None, priority: float | None, running: bool) -> str:
        """``far``, ``priority``: ``None`` leaves them as they are."""
        job = self.jobs[job_id]
        if job.status in ("COMPLETED", "CANCELLED"):
            return "too-late"
        held, buried = job.place.startswith("held:"), job.place == "dlq"
        if held and not running:
            return "running"
        if held and job.cancel_asked:
            self._cancelled(job)
            return "cancelled"
        before, kind = job.queue, job.kind
        if buried:
            job.far, job.age = False, self._next_age()
            job.attempts, job.stalls, job.cancel_asked = 0, 0, False
        if far is not None:
            job.far, job.age = far, self._next_age()
        job.queue = queue
        job.priority = job.priority if priority is None else priority
        if held or buried:
            job.status = "PENDING"
            self._enter(job, has_turn=held)
        elif job.place == "queue" and not (kind == job.kind == "fair" and before == queue and far is None):
            self._enter(job)
            if kind == "fair":
                self._give_back(before, job.tenant)
        return "taken" if held else "revived" if buried else "moved"

    def prioritise(self, job_id: str, priority: float) -> str:
        job = self.jobs[job_id]
        if job.status in ("COMPLETED", "CANCELLED"):
            return "too-late"
        was, kind, job.priority = job.priority, job.kind, priority
        if job.place == "queue" and was != priority:
            if kind == "fair":
                self._give_back(job.queue, job.tenant)
            self._enter(job)
        return "moved" if job.place == "queue" else "noted"

    def depend(self, job_id: str, parent: str) -> str:
        """``waits``, ``ready``, ``too-late`` (also when the parent has failed and the child would end) or ``cycle``."""
        job, above = self.jobs[job_id], self.jobs[parent]
        if job.place not in WAITING:
            return "too-late"
        failed = above.status in ("FAILED", "CANCELLED")
        if failed and job.on_parent == "cancel":
            return "too-late"
        if above.status != "COMPLETED" and not (failed and job.on_parent == "run"):
            if self.reaches(parent, job_id):
                return "cycle"
            job.waits.add(parent)
            self._leave(job)
            job.place = "depends"
        return "waits" if job.place == "depends" else "ready"

    def undepend(self, job_id: str, parent: str) -> str:
        job = self.jobs[job_id]
        if job.place != "depends":
            return "too-late"
        job.waits.discard(parent)
        return "waits" if job.waits else self._freed(job)

    def purge(self, job_id: str) -> None:
        """Its record is gone: it can't complete any more."""
        self._leave(self.jobs[job_id])
        del self.jobs[job_id]
        self._heard(job_id, "CANCELLED")

    # -- what follows --------------------------------------------------------------------------------------

    def _next_age(self) -> int:
        self._ages += 1
        return self._ages

    def _freed(self, job: ModelJob) -> str:
        self._enter(job)
        return "ready"

    def _cancelled(self, job: ModelJob) -> None:
        job.waits = set()
        self._ended(job, "CANCELLED")

    def _ended(self, job: ModelJob, status: str) -> None:
        job.status, job.place = status, "dlq" if status == "FAILED" else "none"
        self._heard(job.id, status)

    def _heard(self, parent: str, status: str) -> None:
        """By its children; some of them may end, and with them others that wait for it."""
        for child in self.children_of(parent):
            if parent not in child.waits:
                continue
            if status == "COMPLETED" or child.on_parent == "run":
                child.waits.discard(parent)
                if not child.waits:
                    self._freed(child)
            elif child.on_parent == "cancel":
                self._cancelled(child)
