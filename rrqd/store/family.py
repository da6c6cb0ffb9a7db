"""Jobs that wait for others: who waits for whom, changing that, and telling children of ends they have not heard of."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from rrqd.exc import InvalidRequest, StoreRefused, UnknownParent
from rrqd.job import JobResult, JobStatus
from rrqd.model.family import MAX_PARENTS
from rrqd.model.job import Job, short_queue_name
from rrqd.model.lifecycle import Move
from rrqd.store.base import Base
from rrqd.store.scripts import run

#: Parents looked at in one call of the chore.
LOOK_MOST = 200


class Waits(StrEnum):
    """WAITS: for somebody still. READY: it lies in its queue. TOO_LATE: it runs, or has ended, or waits for nobody.
    UNKNOWN: no such job."""

    WAITS = "waits"
    READY = "ready"
    TOO_LATE = "too-late"
    UNKNOWN = "unknown"


class Parent(msgspec.Struct, frozen=True, kw_only=True):
    """A job that another was made to wait for. ``status``: ``None`` when its record is gone. ``waited_for``: still."""

    id: str
    status: JobStatus | None
    waited_for: bool


class Kinship(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a job waits for and who waits for it. ``children``: how many; ``some_children``: ids of the first."""

    parents: list[Parent]
    on_parent: str
    children: int
    some_children: list[str]


class Family(Base):
    """All raise StoreUnavailable (may be repeated) and StoreRefused."""

    async def depend(self, job_id: str, parents: Sequence[str]) -> Waits:
        """Let a waiting job wait for more jobs. Raises UnknownParent, or InvalidRequest for a circle."""
        return await self._depend("add", job_id, parents)

    async def undepend(self, job_id: str, parents: Sequence[str] = ()) -> Waits:
        """Let a job wait no more for these, or for nobody when none is named."""
        return await self._depend("drop", job_id, parents)

    async def _depend(self, verb: str, job_id: str, parents: Sequence[str]) -> Waits:
        said, about = await run(
            await self.link(), Move.DEPEND, self.keys.token, verb, job_id, MAX_PARENTS, *parents
        )  # fmt: skip
        answer, parent = said.decode(), about.decode(errors="replace")
        match answer:
            case "unknown-parent":
                raise UnknownParent([parent])
            case "cycle":
                raise InvalidRequest(f"job {parent} waits for job {job_id} itself, if only through others")
            case "deep":
                raise InvalidRequest(f"too many jobs wait for each other above job {parent} to look for a circle")
            case "full":
                raise InvalidRequest(f"a job can wait for at most {MAX_PARENTS} others")
            case "refused":
                raise StoreRefused(f"the place that job {job_id} should move to holds something that is not a queue")
        return Waits(answer)

    async def inform(self, start: int = 0, look_most: int = LOOK_MOST) -> tuple[bool, int]:
        """Tell children of ended parents, a step. Answers whether more of them are to be told, and where to go on
        looking through the parents (0: all were looked at)."""
        more, then = await run(
            await self.link(), Move.INFORM, self.keys.token, start, look_most,
            self.policy.cancelled_retention_seconds,
        )  # fmt: skip
        return bool(more), int(then)

    async def parent_results(self, job_ids: Sequence[str]) -> dict[str, JobResult | None]:
        """How these jobs ended, for a child that begins; ``None`` for one whose record has expired."""
        link = await self.link()
        fields = ("status", "result", "last_error")
        calls = [link.call("HMGET", self.keys.job(job_id), *fields) for job_id in job_ids]
        results: dict[str, JobResult | None] = {}
        for job_id, call in zip(job_ids, calls, strict=True):
            raw = dict(zip((name.encode() for name in fields), await call, strict=True))
            job = Job.read(job_id, {name: value for name, value in raw.items() if value is not None})
            done = job is not None and job.status is JobStatus.COMPLETED
            results[job_id] = (
                JobResult(status=job.status, result=job.result if done else None, last_error=job.last_error)
                if job is not None
                else None
            )
        return results

    async def kinship(self, job: Job, most: int = 20) -> Kinship:
        """Whom the job waits for, and who for it."""
        link = await self.link()
        names = job.parents
        waited = link.call("SMEMBERS", self.keys.parents(job.id))
        hashes = [link.call("HGET", self.keys.job(name), "status") for name in names]
        sets = [self.keys.children(job.id), self.keys.heirs(job.id)]
        sizes = [link.call("ZCARD", key) for key in sets]
        firsts = [link.call("ZRANGE", key, 0, most - 1) for key in sets]
        still = {name.decode(errors="replace") for name in await waited}
        statuses = [await call for call in hashes]
        return Kinship(
            parents=[
                Parent(id=name, status=JobStatus.read(raw.decode()) if raw else None, waited_for=name in still)
                for name, raw in zip(names, statuses, strict=True)
            ],
            on_parent=job.fields.get("rrqd_on_parent", "hold"),
            children=sum([int(await size) for size in sizes]),
            some_children=[child.decode(errors="replace") for first in firsts for child in await first][:most],
        )

    async def waiting_for_others(self, queue: str, offset: int, limit: int) -> list[str]:
        """Ids of the jobs of a queue that wait for others, oldest first."""
        key = self.keys.depends(short_queue_name(queue))
        found = await (await self.link()).call("ZRANGE", key, offset, offset + limit - 1)
        return [job_id.decode(errors="replace") for job_id in found]
