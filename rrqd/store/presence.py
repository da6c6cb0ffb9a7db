"""Who is alive: a node's lease, the workers open under it, and RRQ's health keys."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from rrqd.exc import StoreUnavailable
from rrqd.model.job import short_queue_name
from rrqd.model.queue_patterns import may_serve
from rrqd.store.base import Base
from rrqd.store.records import Lease, LeaseWas, WorkerRow
from rrqd.store.scripts import run

#: Of a thousand keys each, on the look-out for real workers' health keys.
WALK_STEPS = 50


class Presence(Base):
    """Leases are stored deadlines by the server's clock; no key's time to live decides anything."""

    async def renew(self, node_id: str, lease_ms: int) -> Lease:
        """Move the end of the node's lease to now + ``lease_ms``; answers also what it was before."""
        deadline, now, was = await run(await self.link(), "renew", self.keys.token, node_id, lease_ms)
        return Lease(deadline_ms=float(deadline), now_ms=float(now), was=LeaseWas(was.decode()))

    async def leave(self, node_id: str) -> None:
        """Give the lease up. Workers still open are left to any reaper, at once."""
        await run(await self.link(), "renew", self.keys.token, node_id, 0)

    async def open_worker(self, worker_id: str, node_id: str) -> bool:
        """Register a worker so that it may claim; false while the node has no live lease."""
        return bool(await run(await self.link(), "open", self.keys.token, worker_id, node_id))

    async def lapsed_nodes(self) -> list[str]:
        """Nodes whose lease has ended by the server's clock."""
        link = await self.link()
        seconds, micros = await link.call("TIME")
        now = f"{int(seconds) * 1000 + int(micros) / 1000:.3f}"
        return [node.decode() for node in await link.call("ZRANGE", self.keys.nodes, "-inf", now, "BYSCORE")]

    async def lease_left(self, node_id: str) -> float | None:
        """Seconds until the node's lease ends (negative: it has), by the server's clock; ``None``: no such node."""
        link = await self.link()
        deadline, clock = link.call("ZSCORE", self.keys.nodes, node_id), link.call("TIME")
        ends, (seconds, micros) = await deadline, await clock
        return None if ends is None else (float(ends) - int(seconds) * 1000 - int(micros) / 1000) / 1000

    async def nodes(self) -> dict[str, float]:
        """Node id -> end of its lease in epoch ms."""
        pairs = await (await self.link()).call("ZRANGE", self.keys.nodes, 0, -1, "WITHSCORES")
        return {node.decode(): float(deadline) for node, deadline in pairs}

    async def workers_of(self, node_id: str) -> list[str]:
        """Ids of the node's open workers."""
        return sorted(worker.decode() for worker in await (await self.link()).call("SMEMBERS", self.keys.node(node_id)))

    async def forget_node(self, node_id: str) -> None:
        """Drop a lapsed node that has no workers left; a live one, or one with workers, is left alone."""
        if node_id in await self.lapsed_nodes() and not await self.workers_of(node_id):
            await (await self.link()).call("ZREM", self.keys.nodes, node_id)

    async def held_by(self, worker_id: str) -> dict[str, int]:
        """Job id -> token of what a worker holds."""
        held = await (await self.link()).call("HGETALL", self.keys.held(worker_id))
        return {job_id.decode(): int(entry.split(b" ")[0]) for job_id, entry in held.items()}

    async def held_counts(self) -> dict[str, int]:
        """Open worker of any node -> how many jobs it holds."""
        nodes, link = sorted(await self.nodes()), await self.link()
        sets = [link.call("SMEMBERS", self.keys.node(node_id)) for node_id in nodes]
        workers = [member.decode() for members in sets for member in await members]
        calls = [link.call("HLEN", self.keys.held(worker_id)) for worker_id in workers]
        return {worker_id: int(await call) for worker_id, call in zip(workers, calls, strict=True)}

    async def workers(self) -> list[WorkerRow]:
        """All open workers of all nodes, in three round trips."""
        nodes, link = await self.nodes(), await self.link()
        clock, seen = link.call("TIME"), link.call("ZRANGE", self.keys.seen, 0, -1, "WITHSCORES")
        sets = [link.call("SMEMBERS", self.keys.node(node_id)) for node_id in nodes]
        asked = [
            (
                node_id,
                worker_id,
                link.call("HGET", self.keys.worker(worker_id), "opened_ms"),
                link.call("HLEN", self.keys.held(worker_id)),
            )
            for node_id, members in zip(nodes, sets, strict=True)
            for worker_id in sorted(member.decode() for member in await members)
        ]
        seconds, micros = await clock
        now_ms = int(seconds) * 1000 + int(micros) / 1000
        seen_ms = {node.decode(): float(at) for node, at in await seen}
        rows = []
        for node_id, worker_id, opened, held in asked:
            opened_ms = float(await opened or 0)
            rows.append(
                WorkerRow(
                    worker_id=worker_id, node_id=node_id, opened_ms=opened_ms, held=int(await held),
                    up_seconds=max(0.0, (now_ms - opened_ms) / 1000),
                    seen_seconds=max(0.0, (now_ms - seen_ms[node_id]) / 1000) if node_id in seen_ms else None,
                    lease_seconds=(nodes[node_id] - now_ms) / 1000,
                )
            )  # fmt: skip
        return rows

    async def seen_nodes(self) -> dict[str, float]:
        """Nodes of the last day, those that are gone too -> seconds since they last renewed their lease."""
        link = await self.link()
        clock, pairs = link.call("TIME"), link.call("ZRANGE", self.keys.seen, 0, -1, "WITHSCORES")
        seconds, micros = await clock
        now_ms = int(seconds) * 1000 + int(micros) / 1000
        return {node.decode(): max(0.0, (now_ms - float(at)) / 1000) for node, at in await pairs}

    async def write_health(self, reports: Iterable[tuple[str, bytes]], ttl_seconds: int) -> None:
        """RRQ's health keys, (worker id, JSON) each; the real ``rrq check`` reads them."""
        link = await self.link()
        calls = [
            link.call("SET", self.keys.health(worker_id), report, "EX", max(1, ttl_seconds))
            for worker_id, report in reports
        ]
        for call in calls:
            await call

    async def health_reports(self) -> list[bytes]:
        """RRQ's health keys: those of our open workers, and of real RRQ ones that were seen to run jobs or are found
        among the first ``WALK_STEPS`` thousand keys. Only while nobody is found the walk goes on to the end."""
        link = await self.link()
        known = await link.call("SMEMBERS", self.keys.foreign)
        names = {self.keys.health(worker.decode(errors="replace")).encode() for worker in known}
        for node_id in await self.nodes():
            names |= {self.keys.health(worker).encode() for worker in await self.workers_of(node_id)}
        reports = await self._reports(names)
        cursor, steps = b"0", 0
        while steps == 0 or (cursor != b"0" and (steps < WALK_STEPS or not reports)):
            cursor, found = await link.call("SCAN", cursor, "MATCH", f"{self.keys.health('')}*", "COUNT", 1000)
            reports |= await self._reports(set(found) - names)
            names.update(found)
            steps += 1
        return [reports[name] for name in sorted(reports)]

    async def _reports(self, names: set[bytes]) -> dict[bytes, bytes]:
        """Those that are there."""
        if not names:
            return {}
        ordered = sorted(names)
        texts = await (await self.link()).call("MGET", *ordered)
        return {name: text for name, text in zip(ordered, texts, strict=True) if text is not None}

    async def is_served(self, queue: str) -> bool:
        """Whether a living worker takes jobs from a queue, or may (a pool with patterns), by its health record. Those
        of our open workers are looked at first; only if they serve none at all, real RRQ workers are looked for, among
        all keys."""
        link = await self.link()
        names = [self.keys.health(row.worker_id) for row in await self.workers()]
        reports = await link.call("MGET", *names) if names else []
        found = queues_of(report for report in reports if report is not None)
        return any(may_serve(queues, queue) for queues in found or queues_of(await self.health_reports()))

    async def drop_health(self, worker_ids: Iterable[str]) -> None:
        """Remove the health keys of workers that left, so that nobody takes them for alive."""
        names = [self.keys.health(worker_id) for worker_id in worker_ids]
        if names:
            await (await self.link()).call("DEL", *names)

    async def shut_down_server(self) -> None:
        """End the server itself, its AOF flushed. For the embedded one, whose keeper is gone."""
        try:
            await (await self.link()).call("SHUTDOWN", "NOSAVE")
        except StoreUnavailable:
            pass  # that is what its end looks like


def queues_of(reports: Iterable[bytes]) -> list[list[str]]:
    """The queues, or patterns, that each health record names. One that can't be read names none."""
    named: list[list[str]] = []
    for report in reports:
        try:
            told = msgspec.json.decode(report, type=_Report)
        except msgspec.DecodeError:
            continue
        if told.queues:
            named.append([short_queue_name(name) for name in told.queues])
    return named


class _Report(msgspec.Struct):
    queues: list[str] = []
