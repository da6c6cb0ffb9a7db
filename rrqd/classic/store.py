"""``JobStore``: what RRQ's first API let programs do with Redis, one step a call.

Rule 1: what rrqd has a move for is that move (enqueue by the client, requeueing from a DLQ); the rest are single steps
        on RRQ's keys, with the meaning they had.
Rule 2: a step waits out a short absence of the server, as every call of a client does.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from rrqd import clock
from rrqd.classic import constants
from rrqd.classic.job import Job, JobStatus
from rrqd.classic.steps import Locks, Presence
from rrqd.store import Store

REQUEUE_BATCH = 500


class JobStore(Locks, Presence):
    """Jobs, queues, locks and health records. Connects when first used; usable from several event loops."""

    # Definitions.

    async def save_job_definition(self, job: Job) -> None:
        """Write all fields of a job down. It is not in any queue by that."""
        await self._by_hand(lambda hand: hand.write(job.id, job.to_hash()))

    async def get_job_definition(self, job_id: str) -> Job | None:
        """The job, or ``None``."""
        fields = await self.get_job_data_dict(job_id)
        return Job.from_hash(job_id, fields) if fields is not None and "function_name" in fields else None

    async def get_job_data_dict(self, job_id: str) -> dict[str, str] | None:
        """All fields as they are stored, or ``None``."""
        job = await self._door.ask(lambda store: store.get(job_id))
        return job.fields if job is not None else None

    async def get_job(self, job_id: str) -> dict[str, Any] | None:
        """The job as a dictionary, or ``None``."""
        job = await self.get_job_definition(job_id)
        return job.model_dump() if job is not None else None

    async def update_job_status(self, job_id: str, status: JobStatus) -> None:
        """Set the status alone."""
        await self._by_hand(lambda hand: hand.write(job_id, {"status": JobStatus(status).value}))

    async def increment_job_retries(self, job_id: str) -> int:
        """Count a failed attempt; answers how many there are."""
        return await self._by_hand(lambda hand: hand.count_attempt(job_id))

    async def save_job_result(self, job_id: str, result: Any, ttl_seconds: int) -> None:
        """Write a result down and call the job completed; it is kept for ``ttl_seconds`` (0: for ever)."""
        fields = {
            "result": json.dumps(result, default=str),
            "completion_time": clock.wall().isoformat(),
            "status": JobStatus.COMPLETED.value,
        }
        await self._by_hand(lambda hand: hand.write(job_id, fields))
        await self._by_hand(lambda hand: hand.expire(job_id, ttl_seconds))

    # Queues.

    async def add_job_to_queue(self, queue_name: str, job_id: str, score: float) -> None:
        """Put an id into a queue; ``score`` is when it is due, in epoch milliseconds."""
        await self._by_hand(lambda hand: hand.queue(queue_name, job_id, score))

    async def get_queued_job_ids(self, queue_name: str, start: int = 0, end: int = -1) -> list[str]:
        """Ids in a queue by rank, soonest first."""
        return await self._by_hand(lambda hand: hand.queued(queue_name, start, end))

    async def get_ready_job_ids(self, queue_name: str, count: int) -> list[str]:
        """At most ``count`` ids that are due."""
        return await self._by_hand(lambda hand: hand.ready(queue_name, count)) if count > 0 else []

    async def batch_get_queue_sizes(self, queue_names: list[str]) -> dict[str, int]:
        """How many jobs wait in each queue."""
        return await self._by_hand(lambda hand: hand.sizes(queue_names))

    async def defer_job(self, job: Job, defer_by: timedelta) -> None:
        """Let a job wait so much longer from now."""
        queue = job.queue_name or self.settings.default_queue_name
        due_ms = clock.wall_ms() + max(0.0, defer_by.total_seconds()) * 1000
        await self.add_job_to_queue(queue, job.id, due_ms)

    async def atomic_retry_job(
        self, job_id: str, queue_name: str, retry_at_score: float, error_message: str, status: JobStatus
    ) -> int:
        """Count a failed attempt and put the job back for later; answers how many attempts failed."""
        fields = {"status": JobStatus(status).value, "last_error": error_message}
        await self._by_hand(lambda hand: hand.write(job_id, fields))
        made = await self.increment_job_retries(job_id)
        await self.add_job_to_queue(queue_name, job_id, retry_at_score)
        return made

    # Dead letters.

    async def move_job_to_dlq(self, job_id: str, dlq_name: str, error_message: str, completion_time: datetime) -> None:
        """Call a job failed and put it into a DLQ, kept for a week."""
        fields = {
            "status": JobStatus.FAILED.value,
            "last_error": error_message,
            "completion_time": completion_time.isoformat(),
        }
        await self._by_hand(lambda hand: hand.write(job_id, fields))
        await self._by_hand(lambda hand: hand.bury(dlq_name, job_id))
        await self._by_hand(lambda hand: hand.expire(job_id, constants.DEFAULT_DLQ_RESULT_TTL_SECONDS))

    async def requeue_dlq(self, dlq_name: str, target_queue: str, limit: int | None = None) -> int:
        """Bring jobs of a DLQ back as if new, oldest first, into ``target_queue``; answers how many."""

        async def move(store: Store) -> int:
            ids: list[str] = []
            async for one in store.dlq_from_oldest(dlq_name):
                if limit is not None and len(ids) >= limit:
                    break
                if not isinstance(one, str):
                    ids.append(one.id)
            moved = 0
            for at in range(0, len(ids), REQUEUE_BATCH):
                queue = target_queue.removeprefix(constants.QUEUE_KEY_PREFIX)
                moved += len(await store.revive(ids[at : at + REQUEUE_BATCH], dlq=dlq_name, queue=queue))
            return moved

        return await self._door.ask(move)
