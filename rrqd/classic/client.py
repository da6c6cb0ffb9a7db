"""``RRQClient``: enqueue jobs, with the options of RRQ's first API."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
from pydantic_core import to_jsonable_python

from rrqd import clock
from rrqd.classic.job import Job, JobStatus
from rrqd.classic.settings import RRQSettings
from rrqd.classic.store import JobStore
from rrqd.exc import JobExists
from rrqd.model.job import DLQ_PREFIX, QUEUE_PREFIX, NewJob, short_dlq_name
from rrqd.model.request import Defaults, new_job


class RRQClient:
    """Enqueues jobs. It may be made before any event loop runs, and used from several."""

    def __init__(self, settings: RRQSettings, job_store: JobStore | None = None) -> None:
        self.settings = settings
        self.job_store = job_store or JobStore(settings)
        self._owns_store = job_store is None

    async def close(self) -> None:
        """Close the connection, unless the store was given: then it is its owner's."""
        if self._owns_store:
            await self.job_store.aclose()

    async def enqueue(
        self,
        function_name: str,
        *args: Any,
        _queue_name: str | None = None,
        _job_id: str | None = None,
        _unique_key: str | None = None,
        _max_retries: int | None = None,
        _job_timeout_seconds: int | None = None,
        _defer_until: datetime | None = None,
        _defer_by: timedelta | None = None,
        _result_ttl_seconds: int | None = None,
        **kwargs: Any,
    ) -> Job | None:
        """Write a job down; all other arguments are the handler's.

        ``None`` when an unfinished job has this ``_unique_key``. ``_defer_until`` wins over ``_defer_by``. With the
        ``_job_id`` of a job that has ended the id begins anew; of one that waits, the answer is that job. Raises
        JobExists when that job runs just now, InvalidRequest for what can never be right, EnqueueFailed.
        """
        settings = self.settings
        wanted = {
            "params": _plain(kwargs),
            "args": _plain(args),
            "queue_name": _queue_name or settings.default_queue_name,
            "job_id": _job_id,
            "max_retries": settings.default_max_retries if _max_retries is None else _max_retries,
            "job_timeout_seconds": (
                settings.default_job_timeout_seconds if _job_timeout_seconds is None else _job_timeout_seconds
            ),
            "result_ttl_seconds": (
                settings.default_result_ttl_seconds if _result_ttl_seconds is None else _result_ttl_seconds
            ),
        }
        if _unique_key is not None:
            ttl = settings.default_unique_job_lock_ttl_seconds
            wanted |= {"unique_key": _unique_key, "unique_until": "finished", "unique_ttl_seconds": ttl}
        if _defer_until is not None:
            wanted["defer_until"] = _defer_until
        elif _defer_by is not None:
            wanted["defer_by_seconds"] = max(0.0, _defer_by.total_seconds())
        return await self._write(new_job(function_name, wanted, Defaults()), wanted, _unique_key)

    async def _write(self, plain: NewJob, wanted: dict[str, Any], unique: str | None) -> Job | None:
        dlq = DLQ_PREFIX + short_dlq_name(self.settings.default_dlq_name)
        notes = {"dlq_name": dlq, **({"job_unique_key": unique} if unique is not None else {})}
        asked = msgspec.structs.replace(plain, args=plain.args or b"[]", notes=notes, again=True)
        try:
            report = await self.job_store.write(asked)
        except JobExists:
            there = await self.job_store.get_job_definition(asked.id)
            if there is None or there.status not in (JobStatus.PENDING, JobStatus.RETRYING):
                raise
            return there
        if not report.created:
            return None
        due = clock.from_ms(asked.due_ms if asked.due_ms is not None else clock.wall_ms() + asked.delay_ms)
        return Job(
            id=asked.id, function_name=asked.function, job_args=wanted["args"],
            job_kwargs=wanted["params"], max_retries=asked.max_retries or 0, job_timeout_seconds=asked.timeout_seconds,
            result_ttl_seconds=asked.result_ttl_seconds, job_unique_key=unique,
            next_scheduled_run_time=due, queue_name=QUEUE_PREFIX + asked.queue, dlq_name=dlq,
        )  # fmt: skip


def _plain(value: Any) -> Any:
    """Arguments as JSON has them: dates and ids as text, models as objects. Raises ValueError for what has no form."""
    return to_jsonable_python(list(value) if isinstance(value, tuple) else value)
