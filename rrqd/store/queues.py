"""Looking: jobs, queues, the DLQ. Nothing here changes a job, and no call costs more than what it shows.

A key that holds something else than its name says counts as empty: one spoilt key must not hide all the others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Container, Iterable, Sequence
from typing import Any

import msgspec

from rrqd.model.job import Job, short_dlq_name
from rrqd.store.base import Base
from rrqd.store.connection import Link, ServerSaid
from rrqd.store.keys import DUE_DIGITS
from rrqd.store.records import QueueDepth, ServerInfo

BUNCH = 50
"""Queues that are asked together whether any job waits for others."""
LANES = ("high", "zero", "low")
"""Words in ``rrqd:facts`` for queues that have jobs with such a priority (``_places.lua``)."""


class Readings(Base):
    """The reading side of the store."""

    async def get(self, job_id: str) -> Job | None:
        """The job, or ``None``. A key of that name that is no hash counts as no job."""
        return Job.read(job_id, await unless_spoilt((await self.link()).call("HGETALL", self.keys.job(job_id)), {}))

    async def jobs(self, job_ids: Sequence[str]) -> list[Job | None]:
        """Many jobs in one round trip, in the order asked for."""
        link = await self.link()
        calls = [link.call("HGETALL", self.keys.job(job_id)) for job_id in job_ids]
        return [Job.read(job_id, await unless_spoilt(call, {})) for job_id, call in zip(job_ids, calls, strict=True)]

    async def queues(self) -> list[str]:
        """Names of all queues ever seen (an empty one too)."""
        return sorted(name.decode() for name in await (await self.link()).call("SMEMBERS", self.keys.queues))

    async def queue_count(self) -> int:
        """How many queues were ever seen."""
        return int(await (await self.link()).call("SCARD", self.keys.queues))

    async def note_queues(self, names: Iterable[str]) -> None:
        """Remember queues that others made."""
        named = list(names)
        if named:
            await (await self.link()).call("SADD", self.keys.queues, *named)

    async def scan_queues(self, most_steps: int | None = None) -> list[str]:
        """Queues that have jobs, by walking the key space in steps of a thousand keys: all of it, for a rare census, or
        at most so many steps."""
        prefix = self.keys.queue("")
        cursor = b"0"
        names: set[str] = set()
        steps = 0
        while True:
            cursor, found = await (await self.link()).call("SCAN", cursor, "MATCH", f"{prefix}*", "COUNT", 1000)
            names.update(key.decode(errors="replace").removeprefix(prefix) for key in found)
            steps += 1
            if cursor == b"0" or steps == most_steps:
                return sorted(names)

    async def scan_step(self, cursor: str, keys: int) -> tuple[str, list[str]]:
        """The next cursor (``"0"``: the end), and job ids among about so many keys from ``cursor`` on (``"0"``: the
        beginning)."""
        prefix = self.keys.job("")
        after, found = await (await self.link()).call("SCAN", cursor, "MATCH", f"{prefix}*", "COUNT", keys)
        return after.decode(), [key.decode(errors="replace").removeprefix(prefix) for key in found]

    async def scan_jobs(self) -> AsyncIterator[list[str]]:
        """All job ids, in pages, by walking the key space in steps: O(all keys), for a person who asked."""
        cursor = "0"
        while True:
            cursor, ids = await self.scan_step(cursor, 1000)
            yield ids
            if cursor == "0":
                return

    async def queue_depths(self, names: Sequence[str]) -> list[QueueDepth]:
        """How full the named queues are, in three round trips at most.

        The first job of each is asked for, and more of those that have one. Jobs that wait for others are seldom:
        queues are asked in bunches whether they have any, and in other places only where the facts that claims go by
        say that there are some.
        """
        link = await self.link()
        clock = link.call("TIME")
        pauses, facts = link.call("HKEYS", self.keys.paused), link.call("HKEYS", self.keys.facts)
        firsts = [link.call("ZRANGE", self.keys.queue(name), 0, 0, "WITHSCORES") for name in names]
        bunches = [names[at : at + BUNCH] for at in range(0, len(names), BUNCH)]
        any_waits = [link.call("EXISTS", *map(self.keys.depends, bunch)) for bunch in bunches]
        seconds, micros = await clock
        now_ms = int(seconds) * 1000 + int(micros) / 1000
        paused = {name.decode(errors="replace") for name in await unless_spoilt(pauses, [])}
        known = {fact.decode(errors="replace") for fact in await unless_spoilt(facts, [])}

        first_ms = {name: _score(await unless_spoilt(call, [])) for name, call in zip(names, firsts, strict=True)}
        waits = {
            name: link.call("ZCARD", self.keys.depends(name))
            for bunch, there in zip(bunches, any_waits, strict=True)
            if await there
            for name in bunch
        }
        sizes = await self._sizes(link, first_ms, now_ms)
        elsewhere = {fact.partition(" ")[2] for fact in known}
        depths: list[QueueDepth] = []
        more: dict[int, Awaitable[QueueDepth]] = {}
        for name in names:
            (waiting, due), first = sizes.get(name, (0, 0)), first_ms[name]
            depth = QueueDepth(
                name=name, waiting=waiting, due=due,
                oldest_due_age_seconds=0.0 if first is None else max(0.0, (now_ms - first) / 1000),
                paused=name in paused, dependent=int(await unless_spoilt(waits[name], 0)) if name in waits else 0,
            )  # fmt: skip
            if name in elsewhere:
                more[len(depths)] = self._further(link, depth, known, now_ms)
            depths.append(depth)
        for at, whole in more.items():
            depths[at] = await whole
        return depths

    async def _sizes(self, link: Link, first_ms: dict[str, float | None], now_ms: float) -> dict[str, tuple[int, int]]:
        """(Waiting, due) of those that have a first job, in RRQ's zset. What is not due yet is counted: mostly nothing,
        and then the server has only looked at the last."""
        asked = {}
        for name, first in first_ms.items():
            if first is not None:
                key = self.keys.queue(name)
                later = link.call("ZCOUNT", key, f"({now_ms:.3f}", "+inf") if first <= now_ms else None
                asked[name] = link.call("ZCARD", key), later
        sizes: dict[str, tuple[int, int]] = {}
        for name, (size, later) in asked.items():
            waiting = int(await size)
            sizes[name] = waiting, max(0, waiting - int(await later)) if later is not None else 0
        return sizes

    def _further(self, link: Link, first: QueueDepth, facts: Container[str], now_ms: float) -> Awaitable[QueueDepth]:
        """The same with jobs that have a priority, due and not due yet, those of tenants, and those that run alone; the
        questions are sent now."""
        name = first.name
        later = self.keys.later(name) if f"later {name}" in facts else None
        by_time = later and (
            link.call("ZCARD", later),
            link.call("ZCOUNT", later, "-inf", f"{now_ms:.3f}"),
            link.call("ZRANGE", later, 0, 0, "WITHSCORES"),
        )
        lines = [self.keys.prio(name)] if any(f"{lane} {name}" in facts for lane in LANES) else []
        lines += [
            key(name)
            for what, key in (("fair", self.keys.fair), ("alone", self.keys.alone))
            if f"{what} {name}" in facts
        ]
        in_line = [[link.call("ZCARD", line), *(link.call("ZRANGE", line, at, at) for at in (0, -1))] for line in lines]

        async def read() -> QueueDepth:
            waiting, due = first.waiting, first.due
            since: list[float] = []
            if by_time:
                total, ripe, head = [await unless_spoilt(call, []) for call in by_time]
                waiting, due = waiting + int(total or 0), due + int(ripe or 0)
                since += [float(score) for _, score in head]
            for line in in_line:
                there, *ends = [await unless_spoilt(call, []) for call in line]
                waiting, due = waiting + int(there or 0), due + int(there or 0)
                since += [_due_ms(found[0]) for found in ends if found]
            oldest = max([first.oldest_due_age_seconds, *((now_ms - at) / 1000 for at in since)])
            return msgspec.structs.replace(first, waiting=waiting, due=due, oldest_due_age_seconds=oldest)

        return read()

    async def queue_page(self, name: str, offset: int, limit: int) -> list[str]:
        """Ids waiting in a queue, in the order in which they are to be taken; those that are not due come last."""
        link = await self.link()
        seconds, micros = await link.call("TIME")
        now = f"{int(seconds) * 1000 + int(micros) / 1000:.3f}"
        queue, prio, later = self.keys.queue(name), self.keys.prio(name), self.keys.later(name)
        fair, alone = self.keys.fair(name), self.keys.alone(name)
        stretches = [
            (prio, "-inf", "(0"), (alone, "-inf", "+inf"), (queue, "-inf", now), (prio, "0", "0"),
            (fair, "-inf", "+inf"), (prio, "(0", "+inf"),
            (queue, f"({now}", "+inf"), (later, "-inf", "+inf"),
        ]  # fmt: skip
        sizes = [link.call("ZCOUNT", *stretch) for stretch in stretches]
        found: list[str] = []
        for stretch, size in zip(stretches, sizes, strict=True):
            there = int(await unless_spoilt(size, 0))
            if offset < there and len(found) < limit:
                ids = await link.call("ZRANGE", *stretch, "BYSCORE", "LIMIT", offset, limit - len(found))
                found += [
                    _id_of(member) if stretch[0] in (prio, fair, alone) else member.decode(errors="replace")
                    for member in ids
                ]
            offset = max(0, offset - there)
        return found

    async def dlqs(self) -> list[str]:
        """Names of all DLQs ever written by rrqd, and the default one."""
        found = await (await self.link()).call("SMEMBERS", self.keys.dlqs)
        return sorted({name.decode() for name in found} | {self.policy.default_dlq})

    async def dlq_size(self, name: str | None = None) -> int:
        """Ids in a DLQ, also those whose job has expired since."""
        return int(await unless_spoilt((await self.link()).call("LLEN", self._dlq(name)), 0))

    async def dlq_sizes(self) -> dict[str, int]:
        """All DLQs and their sizes."""
        names = await self.dlqs()
        link = await self.link()
        calls = [link.call("LLEN", self.keys.dlq(name)) for name in names]
        return {name: int(await unless_spoilt(call, 0)) for name, call in zip(names, calls, strict=True)}

    async def aside_count(self) -> int:
        """How many ids were set aside because their key is no job."""
        return int(await (await self.link()).call("HLEN", self.keys.aside))

    async def dlq_list(self, name: str | None = None, *, offset: int = 0, limit: int = 20) -> list[str]:
        """Ids in a DLQ, newest first."""
        link = await self.link()
        found = await unless_spoilt(link.call("LRANGE", self._dlq(name), offset, offset + limit - 1), [])
        return [job_id.decode(errors="replace") for job_id in found]

    async def is_buried(self, job_id: str, name: str | None = None) -> bool:
        """Whether the id is in the DLQ; the server walks its list."""
        return await unless_spoilt((await self.link()).call("LPOS", self._dlq(name), job_id), None) is not None

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
            page = await unless_spoilt(link.call("LRANGE", self._dlq(name), -start - 200, -start - 1), [])
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

    async def events_of(self, job_id: str) -> list[tuple[float, str]]:
        """The ends of a job that are still stored: (epoch ms, status) each, oldest first."""
        link = await self.link()
        entries = await unless_spoilt(link.call("XRANGE", self.keys.events(job_id), "-", "+"), [])
        ends = []
        for entry_id, flat in entries:
            words: dict[bytes, bytes] = dict(zip(flat[::2], flat[1::2], strict=True))
            status = words.get(b"status", b"").decode(errors="replace")
            ends.append((float(entry_id.split(b"-")[0]), status))
        return ends

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


def _id_of(member: bytes) -> str:
    """The id in a member of ``rrqd:work:prio:``."""
    return member[DUE_DIGITS + 1 :].decode(errors="replace")


def _score(ranked: Sequence[Sequence[Any]]) -> float | None:
    """Of the one member that was asked for, if there is one."""
    return float(ranked[0][1]) if ranked else None


def _due_ms(member: bytes) -> float:
    """Since when that job is due."""
    return int(member[:DUE_DIGITS]) / 1000


async def unless_spoilt(call: Awaitable[Any], empty: Any) -> Any:
    """The answer, or ``empty`` when the key holds another type."""
    try:
        return await call
    except ServerSaid as said:
        if said.code != "WRONGTYPE":
            raise
        return empty
