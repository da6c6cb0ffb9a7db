"""RQ's registries: the jobs of a queue by what has become of them.

What waits or runs is found by its place, so jobs of other APIs are among it. What has ended is found by the list of its
queue, which a job enters at its end: those that were enqueued here.
"""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rrqd.job import JobStatus as CoreStatus
from rrqd.rq.connection import connect
from rrqd.rq.exceptions import NoSuchJobError
from rrqd.rq.job import Job
from rrqd.rq.queue import Queue

if TYPE_CHECKING:
    from rrqd.store import Store

_PAGE = 500


class Registry:
    """What all of them have. ``Registry(queue=queue)``, or ``Registry("default", connection)``."""

    def __init__(self, name: str = "default", connection: Any = None, *, queue: Queue | None = None) -> None:
        self.name = queue.name if queue is not None else name
        self.connection = queue.connection if queue is not None else connect(connection)

    def __len__(self) -> int:
        return len(self.get_job_ids())

    def __contains__(self, item: object) -> bool:
        return (item.id if isinstance(item, Job) else item) in self.get_job_ids()

    @property
    def count(self) -> int:
        return len(self)

    def get_job_count(self, cleanup: bool = True) -> int:
        """The same. ``cleanup`` is taken for RQ's sake: what has expired is not counted."""
        del cleanup
        return len(self)

    def get_queue(self) -> Queue:
        """The queue whose jobs these are."""
        return Queue(self.name, self.connection)

    def get_job_ids(self, start: int = 0, end: int = -1) -> list[str]:
        """Their ids; ``start`` and ``end`` (which is included) count from 0, as in RQ."""
        ids = self.connection.ask(self._ids)
        return ids[start:] if end == -1 else ids[start : end + 1]

    def requeue(self, job_or_id: Job | str) -> Job:
        """Bring a failed job back. Raises InvalidJobOperation for any other."""
        return self._job(job_or_id).requeue()

    def remove(self, job_or_id: Job | str, delete_job: bool = False) -> None:
        """Take a job away. There is no place in between: it is deleted, whatever ``delete_job`` says."""
        del delete_job
        self._job(job_or_id).delete()

    def _job(self, job_or_id: Job | str) -> Job:
        return job_or_id if isinstance(job_or_id, Job) else Job.fetch(job_or_id, self.connection)

    async def _ids(self, store: Store) -> list[str]:
        raise NotImplementedError


class _EndedJobRegistry(Registry):
    """Jobs that have ended in one way."""

    status = CoreStatus.UNKNOWN

    def __contains__(self, item: object) -> bool:
        job_id = item.id if isinstance(item, Job) else str(item)
        job = self.connection.ask(lambda store: store.get(job_id))
        return job is not None and (job.status, job.fields.get("rrqd_listed")) == (self.status, self.name)

    def get_job_ids(self, start: int = 0, end: int = -1) -> list[str]:
        """Their ids; of a page no more than that page is looked up."""
        if start < 0 or end < -1:
            return super().get_job_ids(start, end)
        limit = sys.maxsize if end == -1 else max(0, end + 1 - start)
        return self.connection.ask(lambda store: self._page(store, start, limit))

    async def _ids(self, store: Store) -> list[str]:
        return await self._page(store, 0, sys.maxsize)

    async def _page(self, store: Store, offset: int, limit: int) -> list[str]:
        return (await store.ended(self.name, self.status, offset=offset, limit=limit, order="oldest")).ids


class FinishedJobRegistry(_EndedJobRegistry):
    """Jobs whose function has returned, until their ``result_ttl`` is over; the oldest first."""

    status = CoreStatus.COMPLETED


class CanceledJobRegistry(_EndedJobRegistry):
    """Jobs that were canceled, for a day."""

    status = CoreStatus.CANCELLED


class FailedJobRegistry(_EndedJobRegistry):
    """Jobs that failed for good, until their ``failure_ttl`` is over; the oldest first."""

    status = CoreStatus.FAILED


class StartedJobRegistry(Registry):
    """Jobs that run now."""

    async def _ids(self, store: Store) -> list[str]:
        held: list[str] = []
        for worker in await store.workers():
            held += await store.held_by(worker.worker_id)
        found = [job for job in await store.jobs(held) if job is not None and job.queue == self.name]
        return [job.id for job in found if job.status is CoreStatus.ACTIVE]


class ScheduledJobRegistry(Registry):
    """Jobs that are to start later; the soonest first."""

    async def _ids(self, store: Store) -> list[str]:
        return await store.waiting_ids(self.name, due=False)

    def get_scheduled_time(self, job_or_id: Job | str) -> datetime:
        """When it is to start. Raises NoSuchJobError for one that is not scheduled."""
        job = self._job(job_or_id)
        job.refresh()
        due = job.stored.moment("next_scheduled_run_time")
        if due is None:
            raise NoSuchJobError(f"job {job.id} is {job.get_status(refresh=False)}, not scheduled")
        return due


class DeferredJobRegistry(Registry):
    """Jobs that wait for others; the oldest first."""

    async def _ids(self, store: Store) -> list[str]:
        found: list[str] = []
        while page := await store.waiting_for_others(self.name, len(found), _PAGE):
            found += page
        return found
