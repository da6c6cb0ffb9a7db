"""Buried jobs by what went wrong: in groups, and chosen by a filter. A bounded look, the newest first."""

from __future__ import annotations

from typing import Any, NamedTuple

from rrqd.model.job import Job
from rrqd.model.signature import signature_of
from rrqd.store import Store
from rrqd.web.readings import PAGE_MOST

LOOK_LEAST = 1000
LOOK_MOST = 20_000
"""So many of the newest buried jobs are looked at, unless and at most; the rest is found page by page."""
SAMPLES = 5


class Which(NamedTuple):
    """Which buried jobs: all that is given must hold. `type`: of the error; `words`: in its message."""

    signature: str | None = None
    function: str | None = None
    queue: str | None = None
    type: str | None = None
    words: str | None = None

    def fits(self, job: Job) -> bool:
        return (
            (self.function is None or job.function == self.function)
            and (self.queue is None or job.queue == self.queue)
            and (self.type is None or _type_of(job) == self.type)
            and (self.words is None or self.words in (job.last_error or ""))
            and (self.signature is None or signature_of(job) == self.signature)
        )


class Found(NamedTuple):
    """`jobs`: the newest first. `looked_at`: entries, also those whose job has expired."""

    jobs: list[Job]
    looked_at: int


async def find(store: Store, dlq: str | None, which: Which, look: int) -> Found:
    """The buried jobs that are meant, among so many of the newest."""
    most, seen = min(look, LOOK_MOST), 0
    jobs: list[Job] = []
    while seen < most and (ids := await store.dlq_list(dlq, offset=seen, limit=min(PAGE_MOST, most - seen))):
        jobs += [job for job in await store.jobs(ids) if job is not None and which.fits(job)]
        seen += len(ids)
    return Found(jobs, seen)


async def failures(store: Store, dlq: str | None, which: Which, look: int) -> dict[str, Any]:
    """The same, grouped: the largest group first."""
    found = await find(store, dlq, which, look)
    groups: dict[str, dict[str, Any]] = {}
    for job in found.jobs:
        _add_to_group(groups, job)
    return {
        "dlqs": await store.dlq_sizes(),
        "groups": sorted(groups.values(), key=lambda group: -group["count"]),
        "matched": len(found.jobs),
        "looked_at": found.looked_at,
        "look": min(look, LOOK_MOST),
        "total": await store.dlq_size(dlq),
        "dlq": dlq,
        "which": {name: value for name, value in which._asdict().items() if value is not None},
    }


def _type_of(job: Job) -> str:
    return str((job.error or {}).get("type") or "")


def _add_to_group(groups: dict[str, dict[str, Any]], job: Job) -> None:
    at = job.fields.get("completion_time")
    group = groups.setdefault(
        signature_of(job),
        {
            "signature": signature_of(job), "function": job.function, "queues": [], "count": 0,
            "type": _type_of(job), "message": (job.last_error or "").split("\n", 1)[0][:300],
            "last": at, "first": at, "jobs": [],
        },
    )  # fmt: skip
    group["count"] += 1
    group["first"] = at
    if job.queue not in group["queues"] and len(group["queues"]) < SAMPLES:
        group["queues"].append(job.queue)
    if len(group["jobs"]) < SAMPLES:
        group["jobs"].append(job.id)
