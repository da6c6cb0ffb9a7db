"""A store's world in few words: a node with a lease, workers under it, jobs, and where each job is."""

from __future__ import annotations

import uuid
from typing import Any

from rrqd.model.job import ClaimedJob, Job, NewJob
from rrqd.model.lifecycle import End
from rrqd.model.verdict import Verdict
from rrqd.store import Claim, ClaimRequest, Settled, Settlement, Store
from rrqd.store.keys import DUE_DIGITS

NODE = "node-1"
LEASE_MS = 15_000


def job(job_id: str | None = None, **fields: Any) -> NewJob:
    """A job with good defaults."""
    return NewJob(**{"id": job_id or str(uuid.uuid4()), "function": "noop", "queue": "default", **fields})


class Hand:
    """A worker moved by hand: it counts its own turns."""

    def __init__(self, store: Store, worker_id: str, node_id: str = NODE, queues: list[str] | None = None) -> None:
        self.store = store
        self.worker_id = worker_id
        self.node_id = node_id
        self.queues = queues or ["default"]
        self.turn = 0

    async def claim(
        self, limit: int = 10, running: int = 0, *, again: bool = False, shares: list[int] | None = None
    ) -> Claim:
        """A new claim, or (``again``) the last one repeated, as after a lost reply."""
        self.turn += 0 if again else 1
        return await self.store.claim(
            ClaimRequest(
                worker_id=self.worker_id,
                node_id=self.node_id,
                turn=self.turn,
                queues=self.queues,
                limit=limit,
                running=running,
                shares=shares or [],
            )
        )

    async def take(self, limit: int = 10) -> list[ClaimedJob]:
        """Jobs, as many as there are; more than one call hands out at most are asked for again."""
        claim = await self.claim(limit)
        jobs = claim.jobs
        while claim.full and claim.jobs and len(jobs) < limit:
            claim = await self.claim(limit - len(jobs), len(jobs))
            jobs += claim.jobs
        return jobs

    async def settle(self, claimed: ClaimedJob, end: End = End.COMPLETE, **words: Any) -> Settled:
        words = {"ttl_seconds": 60, "result": b"1" if end is End.COMPLETE else b"", "error": "why", **words}
        return (
            await self.store.settle(self.worker_id, [Settlement(claimed.id, claimed.token, Verdict(end=end, **words))])
        )[0]


async def hand(store: Store, worker_id: str = "worker-1", node_id: str = NODE, queues: list[str] | None = None) -> Hand:
    """An open worker on a node whose lease is live."""
    await store.renew(node_id, LEASE_MS)
    assert await store.open_worker(worker_id, node_id)
    return Hand(store, worker_id, node_id, queues)


async def place_of(store: Store, job_id: str) -> list[str]:
    """Every place that holds the id; a sound store answers one for a living job, none or the DLQ for an ended one."""
    places = []
    for name in {*await store.scan_queues(), *await store.queues()}:
        for kind in ("queue", "prio", "fair", "later", "alone", "depends"):
            key = getattr(store.keys, kind)(name)
            members = await raw(store, "ZRANGE", key, 0, -1) if await raw(store, "TYPE", key) == b"zset" else []
            places += [f"{kind}:{name}" for one in members if job_id in (one.decode(), one.decode()[DUE_DIGITS + 1 :])]
    for worker in await store.workers():
        if job_id in await store.held_by(worker.worker_id):
            places.append(f"held:{worker.worker_id}")
    places += [f"dlq:{name}" for name in await store.dlqs() if job_id in await store.dlq_list(name, limit=10_000)]
    return places


async def known(store: Store, job_id: str) -> Job:
    found = await store.get(job_id)
    assert found is not None
    return found


async def raw(store: Store, *words: Any) -> Any:
    """A command of the server's own, as a foreign tool would send it."""
    return await (await store.link()).call(*words)


async def lapse(store: Store, node_id: str = NODE) -> None:
    """The node's lease has ended a second ago."""
    seconds, _ = await raw(store, "TIME")
    await raw(store, "ZADD", store.keys.nodes, int(seconds) * 1000 - 1000, node_id)
