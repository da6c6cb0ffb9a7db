"""Jobs that lie in RQ's own keys, for moving them over. This is RQ's server, which need not be ours.

Rule 1: a job that is being moved lies in a list of ours (``rrqd:import:<queue>``) from the moment it leaves RQ's queue
        until it has been enqueued; whoever is interrupted goes on from there.
"""

from __future__ import annotations

from typing import NamedTuple, Self

from rrqd.dsn import Endpoint
from rrqd.store.connection import Link
from rrqd.store.finding import Finder


class Found(NamedTuple):
    """A job of RQ's. ``due_ms``: when it was scheduled for; ``None``: it was queued."""

    id: str
    queue: str
    fields: dict[bytes, bytes]
    due_ms: float | None = None


class RqSource:
    """RQ's queues on one server. All calls raise StoreUnavailable and StoreRefused."""

    def __init__(self, link: Link) -> None:
        self._link = link

    @classmethod
    async def open(cls, dsn: str) -> Self:
        """Raises ValueError for a bad DSN."""
        return cls(await Finder(Endpoint.parse(dsn), "").open(name="rrqd:import"))

    def close(self) -> None:
        self._link.close()

    async def queues(self) -> list[str]:
        """Names of RQ's queues."""
        found = await self._link.call("SMEMBERS", "rq:queues")
        return sorted(key.decode().removeprefix("rq:queue:") for key in found)

    async def count(self, queue: str) -> int:
        """How many jobs could be taken."""
        sizes = [
            await self._link.call("LLEN", _aside(queue)),
            await self._link.call("LLEN", f"rq:queue:{queue}"),
            await self._link.call("ZCARD", f"rq:scheduled:{queue}"),
        ]
        return sum(int(size) for size in sizes)

    async def take(self, queue: str) -> Found | None:
        """The next queued job, or one that an interrupted move has left; ``None`` when there is none."""
        job_id = await self._link.call("LINDEX", _aside(queue), 0)
        if job_id is None:
            job_id = await self._link.call("LMOVE", f"rq:queue:{queue}", _aside(queue), "LEFT", "RIGHT")
        return await self._found(job_id, queue) if job_id is not None else None

    async def scheduled(self, queue: str, offset: int) -> Found | None:
        """The next job that is to start later, past so many that are left where they are."""
        first = await self._link.call("ZRANGE", f"rq:scheduled:{queue}", offset, offset, "WITHSCORES")
        return await self._found(first[0][0], queue, float(first[0][1]) * 1000) if first else None

    async def done(self, job: Found) -> None:
        """It is enqueued elsewhere, or was no job: RQ need not know of it any more."""
        if job.due_ms is None:
            await self._link.call("LREM", _aside(job.queue), 1, job.id)
        else:
            await self._link.call("ZREM", f"rq:scheduled:{job.queue}", job.id)
        await self._link.call("DEL", f"rq:job:{job.id}")

    async def give_back(self, job: Found) -> None:
        """It can't be moved: it goes to the end of its queue."""
        if job.due_ms is None:
            await self._link.call("RPUSH", f"rq:queue:{job.queue}", job.id)
            await self._link.call("LREM", _aside(job.queue), 1, job.id)

    async def _found(self, job_id: bytes, queue: str, due_ms: float | None = None) -> Found:
        name = job_id.decode()
        flat = await self._link.call("HGETALL", f"rq:job:{name}")
        return Found(name, queue, dict(flat), due_ms)


def _aside(queue: str) -> str:
    return f"rrqd:import:{queue}"
