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
    on_parent: str = "hold"
    waits: set[str] = field(default_factory=set)
    cancel_asked: bool = False

    @property
    def kind(self) -> str:
        """The kind of key in which it lies."""
        if self.place != "queue" or not self.priority:
            return self.place
        return "later" if self.far else "prio"


class Model:
    """All jobs, and the moves on them."""

    def __init__(self) -> None:
        self.jobs: dict[str, ModelJob] = {}
        self._ages = 0

    # -- looking -------------------------------------------------------------------------------------------

    def line(self, queue: str) -> list[str]:
        """Due jobs of a queue in the order in which they are to be taken."""
        due = [job for job in self.jobs.values() if job.queue == queue and job.place == "queue" and not job.far]
        return [job.id for job in sorted(due, key=lambda job: (-job.priority, job.age))]

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
        job.place = "depends" if job.waits else "queue"

    def claim(self, worker: str, queues: Sequence[str], limit: int) -> list[str]:
        """From the queues in this order: a share of each first, then whatever is left."""
        taken: list[str] = []
        share = -(-limit // len(queues))
        for most in (share, limit):
            for queue in queues:
                for job_id in self.line(queue)[: min(most, limit - len(taken))]:
                    job = self.jobs[job_id]
                    job.place, job.status = f"held:{worker}", "ACTIVE"
                    taken.append(job_id)
        return taken

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
            job.far, job.age, job.place = far, self._next_age(), "queue"
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
                job.place, job.status = "queue", "PENDING"

    def cancel(self, job_id: str) -> str:
        job = self.jobs[job_id]
        if job.place.startswith("held:"):
            job.cancel_asked = True
            return "asked"
        if job.status == "CANCELLED":
            return "cancelled"
        if job.place not in WAITING:
            return "too-late"
        self._cancelled(job)
        return "cancelled"

    def revive(self, job_id: str) -> None:
        job = self.jobs[job_id]
        job.place, job.status, job.far, job.age = "queue", "PENDING", False, self._next_age()
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
        if buried:
            self.revive(job_id)
        if far is not None:
            job.far, job.age = far, self._next_age()
        if held or buried:
            job.place, job.status = "queue", "PENDING"
        job.queue = queue
        job.priority = job.priority if priority is None else priority
        return "taken" if held else "revived" if buried else "moved"

    def prioritise(self, job_id: str, priority: float) -> str:
        job = self.jobs[job_id]
        if job.status in ("COMPLETED", "CANCELLED"):
            return "too-late"
        job.priority = priority
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
        del self.jobs[job_id]
        self._heard(job_id, "CANCELLED")

    # -- what follows --------------------------------------------------------------------------------------

    def _next_age(self) -> int:
        self._ages += 1
        return self._ages

    def _freed(self, job: ModelJob) -> str:
        job.place = "queue"
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
