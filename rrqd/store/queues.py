"""Looking: jobs, queues, the DLQ. Nothing here changes a job, and no call costs more than what it shows.

A key that holds something else than its name says counts as empty: one spoilt key must not hide all the others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from typing import Any

from rrqd.model.job import Job, short_dlq_name
from rrqd.store.base import Base
from rrqd.store.connection import ServerSaid
from rrqd.store.records import QueueDepth, ServerInfo


class Readings(Base):
    """The reading side of the store."""

    async def get(self, job_id: str) -> Job | None:
        """The job, or ``None``. A key of that name that is no hash counts as no job."""
        return Job.read(job_id, await _unless_spoilt((await self.link()).call("HGETALL", self.keys.job(job_id)), {}))

    async def jobs(self, job_ids: Sequence[str]) -> list[Job | None]:
        """Many jobs in one round trip, in the order asked for."""
        link = await self.link()
        calls = [link.call("HGETALL", self.keys.job(job_id)) for job_id in job_ids]
        return [Job.read(job_id, await _unless_spoilt(call, {})) for job_id, call in zip(job_ids, calls, strict=True)]

    async def queues(self) -> list[str]:
        """Names of all queues ever seen (an empty one too)."""
        return sorted(name.decode() for name in await (await self.link()).call("SMEMBERS", self.keys.queues))

    async def note_queues(self, names: Iterable[str]) -> None:
        """Remember queues that others made."""
        named = list(names)
        if named:
            await (await self.link()).call("SADD", self.keys.queues, *named)

    async def scan_queues(self) -> list[str]:
        """Queues that have jobs, by walking the key space in steps: O(all keys), for a rare census."""
        prefix = self.keys.queue("")
        cursor = b"0"
        names: set[str] = set()
        while True:
            cursor, found = await (await self.link()).call("SCAN", cursor, "MATCH", f"{prefix}*", "COUNT", 1000)
            names.update(key.decode(errors="replace").removeprefix(prefix) for key in found)
            if cursor == b"0":
                return sorted(names)

    async def scan_jobs(self) -> AsyncIterator[list[str]]:
        """All job ids, in pages, by walking the key space in steps: O(all keys), for a person who asked."""
        prefix = self.keys.job("")
        cursor = b"0"
        while True:
            cursor, found = await (await self.link()).call("SCAN", cursor, "MATCH", f"{prefix}*", "COUNT", 1000)
            yield [key.decode(errors="replace").removeprefix(prefix) for key in found]
            if cursor == b"0":
                return

    async def queue_depths(self, names: Sequence[str]) -> list[QueueDepth]:
        """How full the named queues are, in one round trip."""
        link = await self.link()
        seconds, micros = await link.call("TIME")
        now_ms = int(seconds) * 1000 + int(micros) / 1000
        bound = f"{now_ms:.3f}"
        calls = [
            (
                link.call("ZCARD", self.keys.queue(name)),
                link.call("ZCOUNT", self.keys.queue(name), "-inf", bound),
                link.call("ZRANGE", self.keys.queue(name), 0, 0, "WITHSCORES"),
                link.call("ZRANGE", self.keys.queue(name), f"({bound}", "+inf", "BYSCORE", "LIMIT", 0, 1, "WITHSCORES"),
            )
            for name in names
        ]
        depths = []
        for name, (size, due, first, later) in zip(names, calls, strict=True):
            waiting, ready = await _unless_spoilt(size, 0), await _unless_spoilt(due, 0)
            head, coming = await _unless_spoilt(first, []), await _unless_spoilt(later, [])
            age = max(0.0, (now_ms - float(head[0][1])) / 1000) if ready and head else 0.0
            depths.append(
                QueueDepth(
                    name=name,
                    waiting=waiting,
                    due=ready,
                    oldest_due_age_seconds=age,
                    next_due_ms=float(coming[0][1]) if coming else None,
                )
            )
        return depths

    async def queue_page(self, name: str, offset: int, limit: int) -> list[str]:
        """Ids waiting in a queue, soonest first."""
        link = await self.link()
        found = await _unless_spoilt(link.call("ZRANGE", self.keys.queue(name), offset, offset + limit - 1), [])
        return [job_id.decode(errors="replace") for job_id in found]

    async def dlqs(self) -> list[str]:
        """Names of all DLQs ever written by rrqd, and the default one."""
        found = await (await self.link()).call("SMEMBERS", self.keys.dlqs)
        return sorted({name.decode() for name in found} | {self.policy.default_dlq})

    async def dlq_size(self, name: str | None = None) -> int:
        """Ids in a DLQ, also those whose job has expired since."""
        return int(await _unless_spoilt((await self.link()).call("LLEN", self._dlq(name)), 0))

    async def dlq_sizes(self) -> dict[str, int]:
        """All DLQs and their sizes."""
        names = await self.dlqs()
        link = await self.link()
        calls = [link.call("LLEN", self.keys.dlq(name)) for name in names]
        return {name: int(await _unless_spoilt(call, 0)) for name, call in zip(names, calls, strict=True)}

    async def aside_count(self) -> int:
        """How many ids were set aside because their key is no job."""
        return int(await (await self.link()).call("HLEN", self.keys.aside))

    async def dlq_list(self, name: str | None = None, *, offset: int = 0, limit: int = 20) -> list[str]:
        """Ids in a DLQ, newest first."""
        link = await self.link()
        found = await _unless_spoilt(link.call("LRANGE", self._dlq(name), offset, offset + limit - 1), [])
        return [job_id.decode(errors="replace") for job_id in found]

    async def dlq_from_oldest(self, name: str | None = None, *, batch: int = 200) -> AsyncIterator[Job | str]:
        """Walk a DLQ from its oldest entry: a Job, or the bare id of one that has expired.

        Entries may be revived or removed while walking: the walk goes by position from the tail and skips nothing
        that stays, as long as only entries already given out are removed.
        """
        left = await self.dlq_size(name)
        kept = 0
        while left > 0:
            size = await self.dlq_size(name)
            stop = size - 1 - kept
            start = max(0, stop - min(batch, left) + 1)
            if stop < 0:
                return
            ids = [i.decode() for i in await (await self.link()).call("LRANGE", self._dlq(name), start, stop)]
            if not ids:
                return
            ids.reverse()
            for job_id, job in zip(ids, await self.jobs(ids), strict=True):
                yield job if job is not None else job_id
            left -= len(ids)
            kept += len(ids) - (size - await self.dlq_size(name))
            kept = max(0, kept)

    async def trim_dlq(self, name: str, *, most: int, living_most: int = 100) -> int:
        """Remove entries whose jobs have expired, from the old end on: up to ``most``, and past at most
        ``living_most`` that are still there (some may be kept for ever). Answers how many."""
        link = await self.link()
        hollow: list[bytes] = []
        start = living = 0
        while living < living_most and len(hollow) < most:
            page = await _unless_spoilt(link.call("LRANGE", self._dlq(name), -start - 200, -start - 1), [])
            if not page:
                break
            page.reverse()
            start += len(page)
            there = [link.call("EXISTS", self.keys.job(job_id.decode(errors="replace"))) for job_id in page]
            found = [bool(await call) for call in there]
            hollow += [job_id for job_id, exists in zip(page, found, strict=True) if not exists]
            living += sum(found)
        calls = [link.call("LREM", self._dlq(name), -1, job_id) for job_id in hollow[:most]]
        return sum([int(await call) for call in calls])

    async def server_info(self) -> ServerInfo:
        """Which server answers."""
        await self.link()
        assert self.server is not None
        return self.server

    async def info(self) -> dict[str, str]:
        """The server's INFO, all sections, as text."""
        text = (await (await self.link()).call("INFO")).decode(errors="replace")
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line and not line.startswith("#"))

    def _dlq(self, name: str | None) -> str:
        return self.keys.dlq(short_dlq_name(name or self.policy.default_dlq))


async def _unless_spoilt(call: Awaitable[Any], empty: Any) -> Any:
    """The answer, or ``empty`` when the key holds another type."""
    try:
        return await call
    except ServerSaid as said:
        if said.code != "WRONGTYPE":
            raise
        return empty
