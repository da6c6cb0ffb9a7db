"""Real RRQ workers on the same queues: who they are, and what becomes of the jobs of those that died.

A real worker lists what it runs in ``rrq:active:jobs:<worker>``, renews ``rrq:health:worker:<worker>``, and locks each
job for its timeout and a bit. We write none of these; we only read them, and take entries out of a dead one's list.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from rrqd.model.job import Job
from rrqd.model.lifecycle import Move
from rrqd.store.connection import ServerSaid
from rrqd.store.queues import Readings
from rrqd.store.records import Adopted, Adoption
from rrqd.store.scripts import run

#: Jobs put back in one call.
ADOPT_MOST = 100
#: Until they come due again; a real worker that recovers the same jobs has found them locked by then.
GUARD_MS = 2000


class Foreign(Readings):
    """The moves of foreign workers' jobs, and how the workers are found. All calls may be repeated."""

    async def note_foreign(self, worker_ids: Iterable[str]) -> None:
        """Remember foreign workers that were seen to run jobs."""
        named = list(worker_ids)
        if named:
            await (await self.link()).call("SADD", self.keys.foreign, *named)

    async def foreign_workers(self, most: int) -> list[str]:
        """Some of those that were noted, at random, and not yet found without jobs."""
        found = await (await self.link()).call("SRANDMEMBER", self.keys.foreign, most)
        return [worker.decode(errors="replace") for worker in found]

    async def scan_foreign(self, cursor: bytes, steps: int) -> tuple[bytes, list[str]]:
        """Look for lists of running jobs on a part of the key space; answers where to go on."""
        link = await self.link()
        prefix = self.keys.active("")
        names: list[str] = []
        for _ in range(steps):
            cursor, found = await link.call("SCAN", cursor, "MATCH", f"{prefix}*", "COUNT", 1000, "TYPE", "zset")
            names += [key.decode(errors="replace").removeprefix(prefix) for key in found]
            if cursor == b"0":
                break
        return cursor, names

    async def adopt(self, worker_id: str) -> Adopted:
        """Put back what a foreign worker held, if it is dead: at most ``ADOPT_MOST`` jobs a call."""
        return await self._adopt(worker_id)

    async def adopt_stranded(self, job_ids: Sequence[str]) -> Adopted:
        """Put back jobs that say they run while nobody runs them; others are left as they are."""
        queued: list[str] = []
        buried: list[str] = []
        locked = 0
        for at in range(0, len(job_ids), ADOPT_MOST):
            part = await self._adopt("", *job_ids[at : at + ADOPT_MOST])
            queued, buried, locked = queued + part.queued, buried + part.buried, locked + part.locked
        return Adopted(was=Adoption.DEAD, queued=queued, buried=buried, locked=locked)

    async def _adopt(self, worker_id: str, *job_ids: str) -> Adopted:
        policy = self.policy
        was, queued, buried, locked, left = await run(
            await self.link(), Move.ADOPT, self.keys.token, worker_id, ADOPT_MOST, GUARD_MS, policy.max_stalls,
            policy.default_queue, policy.default_dlq, policy.dlq_retention_seconds, *job_ids,
        )  # fmt: skip
        return Adopted(
            was=Adoption(was.decode()),
            queued=[job_id.decode(errors="replace") for job_id in queued],
            buried=[job_id.decode(errors="replace") for job_id in buried],
            locked=int(locked),
            left=int(left),
        )

    async def stranded(self) -> AsyncIterator[list[Job]]:
        """Jobs that say ACTIVE and that nobody runs: no rrqd worker holds them, no lock lives, and the worker they name
        has no health record. Walks all jobs, in pages, for a person who asked."""
        async for page in self.scan_jobs():
            link = await self.link()
            calls = [link.call("HMGET", self.keys.job(job_id), "status", "rrqd_token", "worker_id") for job_id in page]
            active = [
                (job_id, (worker or b"").decode(errors="replace"))
                for job_id, (status, token, worker) in zip(page, [await _row(call) for call in calls], strict=True)
                if status == b"ACTIVE" and (token is None or token.startswith(b"-"))
            ]
            signs = [
                (link.call("EXISTS", self._lock(job_id)), link.call("EXISTS", self.keys.health(worker)))
                for job_id, worker in active
            ]
            ids = [
                job_id
                for (job_id, worker), (lock, health) in zip(active, signs, strict=True)
                if not await lock and not (await health and worker)
            ]
            if ids:
                yield [job for job in await self.jobs(ids) if job is not None]

    def _lock(self, job_id: str) -> str:
        return f"{self.keys.namespace}rrq:lock:job:{job_id}"


async def _row(call: Any) -> list[bytes | None]:
    """Three fields; none of a key that is no hash."""
    try:
        row: list[bytes | None] = await call
    except ServerSaid:
        return [None, None, None]
    return row
