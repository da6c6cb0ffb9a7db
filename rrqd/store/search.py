"""Finding jobs by a filter: only where such jobs can be, a bounded number a call, with a cursor to go on from.

Rule 1: no call looks at more than it was allowed to; it says how many it looked at, and whether there is more.
Rule 2: lists of the server's lead to jobs that run, wait, are buried or have a tag. Finished ones are in no list: they
are looked for among all keys, in steps.
Rule 3: a cursor is a place and a position in it. What moves while somebody turns pages may be seen twice or not at all.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Sequence

import msgspec

from rrqd.job import JobStatus
from rrqd.model.job import Job
from rrqd.model.wanted import ENDED, Wanted
from rrqd.store.connection import ServerSaid
from rrqd.store.store import Store

#: Jobs in one round trip: as many as are wanted at first, for they may all be meant, then twice as many each time.
FIRST_LEAST, PAGE = 20, 200
#: Keys in one step of a walk over all of them.
STEP_KEYS = 500
#: Queues that are asked for their depth in one round trip.
BUNCH = 50
#: Going to a place costs the server as much as looking at so many jobs.
VISIT = 5
#: What a row of a list and a filter need; the rest of a job may be large.
FIELDS = (
    "status", "function_name", "queue_name", "current_retries", "enqueue_time", "next_scheduled_run_time", "start_time",
    "completion_time", "last_error", "worker_id", "dlq_name", "rrqd_tags", "rrqd_tenant",
)  # fmt: skip
#: Kinds of places, in the order in which they are looked at.
KINDS = ("held", "queue", "waits", "parked", "dlq", "tag", "keys")


class Spot(msgspec.Struct, frozen=True, array_like=True, order=True):
    """Where to go on: a place (kind and name), and a position in it; ``step``: of a walk over keys, its cursor."""

    kind: int
    name: str = ""
    at: int = 0
    step: str = "0"

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip("=")

    @classmethod
    def read(cls, text: str) -> Spot:
        """Raises ValueError when it is no cursor."""
        try:
            raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            spot = msgspec.json.decode(raw, type=cls)
        except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError, ValueError):
            raise ValueError(f"{text[:40]!r} is no cursor of a search") from None
        if not (0 <= spot.kind < len(KINDS) and 0 <= spot.at < 2**53 and spot.step.isdecimal()):
            raise ValueError(f"{text[:40]!r} is no cursor of a search")
        return spot


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """``jobs``: records with the fields that a list shows. ``looked``: at so many jobs. ``next``: a cursor; ``None``
    when everything has been looked at."""

    jobs: list[Job]
    looked: int
    next: str | None


async def search(
    store: Store, wanted: Wanted, *, cursor: str | None = None, limit: int = 50, look_most: int = 1000,
    everywhere: bool = False,
) -> Found:  # fmt: skip
    """The next ``limit`` jobs that are meant, after a look at about ``look_most`` at the most. ``everywhere``: finished
    ones, too, when the filter names no state. Raises ValueError for a wrong cursor."""
    spot = Spot.read(cursor) if cursor else None
    return await _Walk(store, wanted, limit, look_most).go(spot, everywhere)


class _Walk:
    """One call's way through the places."""

    def __init__(self, store: Store, wanted: Wanted, limit: int, look_most: int) -> None:
        self.store = store
        self.wanted = wanted
        self.limit = limit
        self.left = look_most
        self.few = min(PAGE, max(FIRST_LEAST, limit))
        self.looked = 0
        self.jobs: dict[str, Job] = {}
        self._holders: list[tuple[str, int]] | None = None

    async def go(self, spot: Spot | None, everywhere: bool) -> Found:
        async for place in self._places(spot or Spot(0), everywhere):
            here = spot if spot is not None and (spot.kind, spot.name) == (place.kind, place.name) else place
            stop = await self._look_through(here)
            if stop is not None:
                return Found(jobs=list(self.jobs.values()), looked=self.looked, next=str(stop))
        return Found(jobs=list(self.jobs.values()), looked=self.looked, next=None)

    async def _places(self, start: Spot, everywhere: bool) -> AsyncIterator[Spot]:
        """Where such jobs can be, from a place on, in the order of the walk. Asked for as the walk gets there."""
        for kind in range(start.kind, len(KINDS)):
            names = sorted(await self._names(KINDS[kind], everywhere))
            if kind == start.kind:
                names = [name for name in names if name >= start.name]
            if KINDS[kind] in ("queue", "waits"):
                async for name in self._filled(KINDS[kind], names):
                    yield Spot(kind, name)
            else:
                for name in names:
                    yield Spot(kind, name)

    async def _names(self, kind: str, everywhere: bool) -> list[str]:
        """The places of a kind that come into question."""
        wanted, store = self.wanted, self.store
        if kind == "tag" or wanted.tag is not None:
            return [wanted.tag] if kind == "tag" and wanted.tag is not None else []
        if kind == "held" and wanted.may_be(JobStatus.ACTIVE):
            return [""]
        if kind in ("queue", "waits") and wanted.may_be(JobStatus.PENDING, JobStatus.RETRYING):
            return [wanted.queue] if wanted.queue is not None else await store.queues()
        if kind == "parked" and wanted.may_be(JobStatus.PENDING, JobStatus.RETRYING):
            return await store.throttle_names()
        if kind == "dlq" and wanted.may_be(JobStatus.FAILED):
            return await store.dlqs()
        ended = not wanted.states.isdisjoint(ENDED) or (everywhere and not wanted.states)
        return [""] if kind == "keys" and ended else []

    async def _filled(self, kind: str, names: Sequence[str]) -> AsyncIterator[str]:
        """Queues that have jobs, or jobs that wait for others; asked for in bunches."""
        for at in range(0, len(names), BUNCH):
            for depth in await self.store.queue_depths(names[at : at + BUNCH]):
                if depth.waiting if kind == "queue" else depth.dependent:
                    yield depth.name

    async def _look_through(self, spot: Spot | None) -> Spot | None:
        """One place, from here to its end; or where to go on, when it was enough."""
        while spot is not None:
            if len(self.jobs) >= self.limit or self.left <= 0:
                return spot
            ids, after = await self._page(spot)
            self.left -= VISIT + len(ids)
            for place, job in enumerate(await self._briefs(ids)):
                self.looked += 1
                if job is not None and job.id not in self.jobs and self.wanted.wants(job):
                    self.jobs[job.id] = job
                    if len(self.jobs) >= self.limit and place + 1 < len(ids):
                        return msgspec.structs.replace(spot, at=spot.at + place + 1)
            spot = after
        return None

    async def _briefs(self, ids: Sequence[str]) -> list[Job | None]:
        """What a list shows of those that are meant. Most are passed over, so at first only what decides that is asked
        for: each field costs the server a walk through the record."""
        deciding = self.wanted.fields()
        if not deciding:
            return await briefs(self.store, ids)
        looked = await briefs(self.store, ids, deciding)
        meant = [job.id for job in looked if job is not None and self.wanted.wants(job)]
        shown = (*FIELDS, "rrqd_error") if self.wanted.signature is not None else FIELDS
        whole = dict(zip(meant, await briefs(self.store, meant, shown), strict=True))
        return [whole.get(job_id) for job_id in ids]

    async def _page(self, spot: Spot) -> tuple[list[str], Spot | None]:
        """Ids from here on, and where the next ones are; ``None`` at the end of the place."""
        store, name, few = self.store, spot.name, max(1, min(self.few, self.left))
        self.few = min(PAGE, 2 * self.few)
        match KINDS[spot.kind]:
            case "held":
                return await self._held(spot, few)
            case "queue":
                ids = await store.queue_page(name, spot.at, few)
            case "waits":
                ids = await store.waiting_for_others(name, spot.at, few)
            case "parked":
                ids = await store.throttle_waiting(name, offset=spot.at, limit=few)
            case "dlq":
                ids = await store.dlq_list(name, offset=spot.at, limit=few)
            case "tag":
                ids = (await store.tagged(name, offset=spot.at, limit=few)).ids
            case _:
                return await self._step(spot)
        return ids, msgspec.structs.replace(spot, at=spot.at + len(ids)) if len(ids) == few else None

    async def _held(self, spot: Spot, few: int) -> tuple[list[str], Spot | None]:
        """Jobs that run, worker after worker as if in one list; only those that hold these few are asked for them."""
        if self._holders is None:
            counts = await self.store.held_counts()
            self._holders = sorted(one for one in counts.items() if self.wanted.worker in (None, one[0]))
        asked: list[str] = []
        passed, skip = 0, 0
        for worker, held in self._holders:
            if not asked:
                skip = spot.at - passed
            if passed < spot.at + few and passed + held > spot.at:
                asked.append(worker)
            passed += held
        self.left -= len(asked)
        found = await asyncio.gather(*map(self.store.held_by, asked))
        ids = [job_id for held_ids in found for job_id in sorted(held_ids)][skip : skip + few]
        return ids, msgspec.structs.replace(spot, at=spot.at + few) if passed > spot.at + few else None

    async def _step(self, spot: Spot) -> tuple[list[str], Spot | None]:
        """The keys of one step; a page may end within it."""
        keys = max(STEP_KEYS // 10, min(STEP_KEYS, self.left))
        cursor, ids = await self.store.scan_step(spot.step, keys)
        self.left -= keys // 10
        return ids[spot.at :], Spot(spot.kind, step=cursor) if cursor != "0" else None


async def briefs(store: Store, ids: Sequence[str], names: Sequence[str] = FIELDS) -> list[Job | None]:
    """Jobs with some of their fields only, in one round trip. ``None``: one that has none of them, or is not there."""
    link = await store.link()
    calls = [link.call("HMGET", store.keys.job(job_id), *names) for job_id in ids]
    found: list[Job | None] = []
    for job_id, call in zip(ids, calls, strict=True):
        try:
            values = await call
        except ServerSaid as said:
            if said.code != "WRONGTYPE":
                raise
            values = []
        raw = {name.encode(): value for name, value in zip(names, values, strict=False) if value is not None}
        found.append(Job.read(job_id, raw))
    return found
