"""Views of jobs by a filter: a page of them, and how many there are before something is done to all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rrqd import clock
from rrqd.model.job import Job
from rrqd.model.wanted import Wanted, as_query
from rrqd.store import Store
from rrqd.store.search import search
from rrqd.store.shown import job_row
from rrqd.web.readings import PAGE_MOST

LOOK_MOST = 1000
"""Jobs that one page looks at: some milliseconds of the server's time."""
MATCH_MOST = 10_000
MATCH_LOOK_MOST = 50_000
"""What is counted, and acted on, at a time."""
SAMPLES = 10


class Misunderstood(ValueError):
    """A filter or a cursor that is none. One sentence."""


def understood(said: Mapping[str, str]) -> Wanted:
    """Raises Misunderstood."""
    try:
        return Wanted.read(said, clock.wall())
    except ValueError as fault:
        raise Misunderstood(str(fault)) from None


async def page(store: Store, said: Mapping[str, str], cursor: str | None, limit: int) -> dict[str, Any]:
    """Jobs that are meant, after a bounded look; ``next``: a cursor to look further, if there is anything left."""
    wanted = understood(said)
    try:
        found = await search(store, wanted, cursor=cursor, limit=min(limit, PAGE_MOST), look_most=LOOK_MOST)
    except ValueError as fault:
        raise Misunderstood(str(fault)) from None
    rows = [job_row(job.id, job) for job in found.jobs]
    return {"filter": as_query(said), "jobs": rows, "looked_at": found.looked, "next": found.next}


async def matching(store: Store, said: Mapping[str, str]) -> tuple[list[Job], int, bool]:
    """(Jobs that are meant, how many were looked at, whether those are all), within ``MATCH_MOST``. In many calls, each
    bounded: others are served in between."""
    wanted = understood(said)
    jobs: dict[str, Job] = {}
    looked, cursor = 0, None
    while True:
        found = await search(store, wanted, cursor=cursor, limit=MATCH_MOST - len(jobs), look_most=LOOK_MOST)
        jobs.update((job.id, job) for job in found.jobs)
        looked, cursor = looked + found.looked, found.next
        if cursor is None or len(jobs) >= MATCH_MOST or looked >= MATCH_LOOK_MOST:
            return list(jobs.values()), looked, cursor is None


async def preview(store: Store, said: Mapping[str, str]) -> dict[str, Any]:
    """How many jobs a filter means, in which states, and some of them."""
    jobs, looked, complete = await matching(store, said)
    states: dict[str, int] = {}
    for job in jobs:
        states[job.status.value] = states.get(job.status.value, 0) + 1
    return {
        "filter": as_query(said), "count": len(jobs), "states": states, "looked_at": looked, "complete": complete,
        "jobs": [job_row(job.id, job) for job in jobs[:SAMPLES]],
    }  # fmt: skip
