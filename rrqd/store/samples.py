"""Made-up jobs, written as they are said to be. Only for `rrqd debug`: no move makes them, so nothing checks them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rrqd.job import JobStatus
from rrqd.model.job import short_queue_name
from rrqd.store.base import Base

#: Nobody wants made-up jobs longer than that.
KEEP_SECONDS = 86_400


class Samples(Base):
    """Test data."""

    async def plant(self, rows: Sequence[Mapping[str, str]]) -> None:
        """Write hashes in one round trip, each with its place: waiting ones in their queue, due now, failed ones in
        the DLQ. Ended ones expire after a day."""
        link = await self.link()
        seconds, _ = await link.call("TIME")
        calls = []
        queues: set[str] = set()
        for row in rows:
            job_id, status = row["id"], row["status"]
            calls.append(link.call("HSET", self.keys.job(job_id), *(word for pair in row.items() for word in pair)))
            if status in (JobStatus.PENDING, JobStatus.RETRYING):
                queue = short_queue_name(row["queue_name"])
                queues.add(queue)
                calls.append(link.call("ZADD", self.keys.queue(queue), int(seconds) * 1000, job_id))
            else:
                calls.append(link.call("EXPIRE", self.keys.job(job_id), KEEP_SECONDS))
            if status == JobStatus.FAILED:
                calls.append(link.call("LPUSH", self.keys.dlq(self.policy.default_dlq), job_id))
        if queues:
            calls.append(link.call("SADD", self.keys.queues, *queues))
        for call in calls:
            await call
