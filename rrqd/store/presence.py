"""Who is alive: a node's lease, the workers open under it, and RRQ's health keys."""

from __future__ import annotations

from collections.abc import Iterable

from rrqd.exc import StoreUnavailable
from rrqd.store.base import Base
from rrqd.store.records import Lease, LeaseWas, WorkerRow
from rrqd.store.scripts import run


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

    async def workers(self) -> list[WorkerRow]:
        """All open workers of all nodes."""
        rows: list[WorkerRow] = []
        for node_id in await self.nodes():
            for worker_id in await self.workers_of(node_id):
                link = await self.link()
                opened, held = (
                    link.call("HGET", self.keys.worker(worker_id), "opened_ms"),
                    link.call("HLEN", self.keys.held(worker_id)),
                )
                rows.append(
                    WorkerRow(
                        worker_id=worker_id,
                        node_id=node_id,
                        opened_ms=float(await opened or 0),
                        held=int(await held),
                    )
                )
        return rows

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
        """RRQ's health keys of all workers, real RRQ ones too. Walks the key space, as RRQ's own ``check`` does."""
        cursor = b"0"
        names: set[bytes] = set()
        while True:
            link = await self.link()
            cursor, found = await link.call("SCAN", cursor, "MATCH", f"{self.keys.health('')}*", "COUNT", 1000)
            names.update(found)
            if cursor == b"0":
                break
        reports = await (await self.link()).call("MGET", *sorted(names)) if names else []
        return [report for report in reports if report is not None]

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
