"""A job in RQ's words: a function call, where it is, and what came of it.

Rule 1: what is shown is what the store says; a Job remembers the last look only. Status, result and error are looked
        up whenever they are asked for, until the job has ended.
Rule 2: what a Job was made of (function, arguments, wishes) never changes; ``meta`` does, with ``save_meta``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Self

import msgspec

from rrqd import clock
from rrqd.job import JobStatus as CoreStatus
from rrqd.model import job as core
from rrqd.rq import record
from rrqd.rq.codec import CodecError, decode, encode
from rrqd.rq.connection import Connection, connect
from rrqd.rq.current import get_current_job
from rrqd.rq.exceptions import InvalidJobOperation, NoSuchJobError
from rrqd.rq.made import CALLBACKS, CallbackWish, Made
from rrqd.rq.reference import PREFIX, allow_all
from rrqd.rq.values import Callback, Dependency, JobStatus, Repeat, Retry, Truth

#: Where a job lies (``rrqd_place``) that waits for others.
WAITS_FOR_OTHERS = "depends"
META_FIELD = "rrqd_meta"
#: RQ's usual time limit and time to live of a result, in seconds.
DEFAULT_TIMEOUT_SECONDS = 180
DEFAULT_RESULT_TTL_SECONDS = 500
FOR_EVER_SECONDS = 10_000_000.0

_STATUS = {
    CoreStatus.ACTIVE: JobStatus.STARTED,
    CoreStatus.COMPLETED: JobStatus.FINISHED,
    CoreStatus.FAILED: JobStatus.FAILED,
    CoreStatus.CANCELLED: JobStatus.CANCELED,
}


class Result:
    """What an end of a job left: ``type`` is ``Result.Type.SUCCESSFUL`` or ``FAILED``."""

    class Type:
        SUCCESSFUL = 1
        FAILED = 2

    def __init__(self, job: Job) -> None:
        self.job_id = job.id
        self.type = self.Type.SUCCESSFUL if job.get_status(refresh=False) == JobStatus.FINISHED else self.Type.FAILED
        self.return_value = job.return_value()
        self.exc_string = job.exc_info
        self.created_at = job.ended_at


class Job(Made):
    """``Job(func, args, kwargs, …)`` makes one that is not stored yet; ``queue.enqueue_job(job)`` stores it.

    ``timeout``, ``result_ttl``, ``failure_ttl`` and ``ttl`` are seconds or text like ``"3m"``; -1 is "for ever".
    Raises ValueError (NameUnknown) for a function that could not be found again by its name.
    """

    def __init__(self, func: Any = None, args: Iterable[Any] = (), *more: Any, **options: Any) -> None:
        super().__init__(func, args, *more, **options)
        self._stored: core.Job | None = None
        self._seen_ms = 0.0

    @classmethod
    def fetch(cls, id: str, connection: Any = None, serializer: Any = None) -> Self:
        """The stored job. Raises NoSuchJobError."""
        place = connect(connection)
        stored, now_ms = place.ask(lambda store: store.look(id))
        if stored is None:
            raise NoSuchJobError(f"there is no job {id}; finished ones go after their result_ttl")
        return cls._of(stored, now_ms, place)

    @classmethod
    def fetch_many(cls, job_ids: Iterable[str], connection: Any = None) -> list[Self | None]:
        """Many at once; None for those that are not there."""
        place, ids = connect(connection), list(job_ids)
        return [
            None if one is None else cls._of(one, float(clock.wall_ms()), place)
            for one in place.ask(lambda store: store.jobs(ids))
        ]

    @classmethod
    def exists(cls, job_id: str, connection: Any = None) -> bool:
        """Whether there is such a job."""
        return connect(connection).ask(lambda store: store.get(job_id)) is not None

    @classmethod
    def _of(cls, stored: core.Job, now_ms: float, connection: Connection) -> Self:
        job = cls.__new__(cls)
        job.id = stored.id
        job._connection = connection
        job.take(stored, now_ms)
        params = stored.params if isinstance(stored.params, dict) else {}
        wishes = params.get("rq", {}) if stored.function.startswith(PREFIX) else {}
        job.func_name = stored.function.removeprefix(PREFIX).replace(":", ".")
        job.function = stored.function
        job.serializer = record.PICKLE if "pickle" in params else record.JSON
        job.timeout = stored.number("job_timeout_seconds")
        job.result_ttl = wishes.get("result_ttl", stored.number("result_ttl_seconds"))
        job.failure_ttl, job.ttl = wishes.get("failure_ttl"), wishes.get("ttl")
        job.origin = stored.queue
        read = {name: CallbackWish.read(wishes.get(name)) for name in CALLBACKS}
        job.callbacks = {name: wish for name, wish in read.items() if wish is not None}
        job._description = wishes.get("description")
        job.made_at = stored.moment("enqueue_time") or clock.wall()
        try:
            if stored.function.startswith(PREFIX):
                call = record.read_call(params, job.subject, allow_all, lambda: connection.signing_key)
            else:
                call = record.Call((), params)  # another face's job: its parameters have names
        except CodecError:
            call = record.Call((), {})  # its classes are not to be had here; the rest can be shown
        job.args, job.kwargs = call.args, call.kwargs
        job.meta = job._read_meta(stored, wishes)
        return job

    @property
    def enqueued_at(self) -> datetime | None:
        return self._stored.moment("enqueue_time") if self._stored is not None else None

    @property
    def started_at(self) -> datetime | None:
        return self._looked().moment("start_time") if self._stored is not None else None

    @property
    def ended_at(self) -> datetime | None:
        return self._looked().moment("completion_time") if self._stored is not None else None

    @property
    def worker_name(self) -> str | None:
        return (self._looked().fields.get("worker_id") or None) if self._stored is not None else None

    @property
    def dependency_ids(self) -> list[str]:
        """The jobs it was made to wait for."""
        return list(self.stored.parents)

    @property
    def dependent_ids(self) -> list[str]:
        """The jobs that wait for it now."""
        stored = self._looked()
        return self.connection.ask(lambda store: store.kinship(stored, most=sys.maxsize)).some_children

    @property
    def retries_made(self) -> int:
        """Failed attempts so far."""
        return (self._looked().number("current_retries") or 0) if self._stored is not None else 0

    @property
    def retries_left(self) -> int | None:
        """Failures that it may still have without failing for good; None for one that was given no Retry."""
        attempts = self._looked().number("max_retries") or 1
        return max(0, attempts - 1 - self.retries_made) if attempts > 1 else None

    def fetch_dependencies(self) -> list[Job]:
        """The jobs it was made to wait for, those that are still there."""
        return [job for job in type(self).fetch_many(self.dependency_ids, self.connection) if job is not None]

    @property
    def dependency(self) -> Job | None:
        """The first of them."""
        return next(iter(self.fetch_dependencies()), None)

    # Where it is.

    def refresh(self) -> None:
        """Look again. Raises NoSuchJobError when it has gone."""
        stored, now_ms = self.connection.ask(lambda store: store.look(self.id))
        if stored is None:
            raise NoSuchJobError(f"there is no job {self.id}; finished ones go after their result_ttl")
        self.take(stored, now_ms)
        params = stored.params if isinstance(stored.params, dict) else {}
        self.meta = self._read_meta(stored, params.get("rq", {}))

    def get_status(self, refresh: bool = True) -> JobStatus:
        """Where it is now; with ``refresh=False``, where it was at the last look."""
        if refresh:
            stored = self._looked()
        elif self._stored is None:
            return JobStatus.QUEUED
        else:
            stored = self._stored
        ended = _STATUS.get(stored.status)
        if ended is not None:
            return ended
        if stored.fields.get("rrqd_place") == WAITS_FOR_OTHERS:
            return JobStatus.DEFERRED
        due = stored.moment("next_scheduled_run_time")
        later = due is not None and due.timestamp() * 1000 > self._seen_ms
        return JobStatus.SCHEDULED if later else JobStatus.QUEUED

    @property
    def status(self) -> JobStatus:
        return self.get_status()

    def _is(self, status: JobStatus) -> Truth:
        return Truth(self.get_status() == status)

    @property
    def is_queued(self) -> Truth:
        return self._is(JobStatus.QUEUED)

    @property
    def is_started(self) -> Truth:
        return self._is(JobStatus.STARTED)

    @property
    def is_finished(self) -> Truth:
        return self._is(JobStatus.FINISHED)

    @property
    def is_failed(self) -> Truth:
        return self._is(JobStatus.FAILED)

    @property
    def is_deferred(self) -> Truth:
        return self._is(JobStatus.DEFERRED)

    @property
    def is_scheduled(self) -> Truth:
        return self._is(JobStatus.SCHEDULED)

    @property
    def is_canceled(self) -> Truth:
        return self._is(JobStatus.CANCELED)

    @property
    def is_stopped(self) -> Truth:
        """Never: a stopped job is canceled."""
        return self._is(JobStatus.STOPPED)

    def get_position(self) -> int | None:
        """How many jobs come before it in its queue; None when it does not wait there."""
        from rrqd.rq.queue import Queue

        return Queue(self.origin, self.connection).get_job_position(self)

    # What came of it.

    @property
    def result(self) -> Any:
        """What the function returned; None until then, and when it failed."""
        return self.return_value()

    def return_value(self, refresh: bool = False) -> Any:
        """What the function returned; None until then. Raises CodecError when it can't be read in this process."""
        stored = self._looked() if refresh or self._stored is None or not self._stored.status.is_final else self._stored
        if stored.status is not CoreStatus.COMPLETED:
            return None
        return record.read_result(stored.result, self.subject, allow_all, lambda: self.connection.signing_key)

    def get_result(self, timeout: float | None = None) -> Any:
        """Wait for the end, at most ``timeout`` seconds (None: as long as it takes); the result, or None when it
        failed or the time is over."""
        if self._stored is None or not self._stored.status.is_final:
            seconds = FOR_EVER_SECONDS if timeout is None else max(0.0, timeout)
            if self.connection.client.wait_for_completion(self.id, timeout_seconds=seconds) is None:
                return None
        return self.return_value()

    @property
    def exc_info(self) -> str | None:
        """The traceback of the last failure, as text; None when it has not failed."""
        if self._stored is None:
            return None
        stored = self._looked()
        if stored.status not in (CoreStatus.FAILED, CoreStatus.RETRYING):
            return None
        return (stored.error or {}).get("traceback") or stored.last_error

    def latest_result(self, timeout: float = 0) -> Result | None:
        """The last end of the job, waiting for one at most ``timeout`` seconds; None before there is one."""
        if timeout:
            self.get_result(timeout)
        stored = self._looked()
        return Result(self) if stored.status in (CoreStatus.COMPLETED, CoreStatus.FAILED) else None

    def results(self) -> list[Result]:
        """The one result that is kept, or nothing."""
        latest = self.latest_result()
        return [latest] if latest is not None else []

    # What can be done with it.

    def cancel(self, *, enqueue_dependents: bool = False) -> None:
        """It does not start any more; if it runs, its function is stopped. Jobs that wait for it go on waiting, or with
        ``enqueue_dependents`` for the others only. Raises InvalidJobOperation when it is over."""
        waiting = self.dependent_ids if enqueue_dependents else []
        said = self.connection.client.cancel(self.id)
        if said in ("too-late", "unknown"):
            raise InvalidJobOperation(f"job {self.id} can't be canceled: {said}")
        for child in waiting:
            self.connection.client.dependencies.drop(child, self.id)

    def requeue(self, at_front: bool = False) -> Self:
        """Bring a failed job back, as if new. Raises InvalidJobOperation for any other."""
        del at_front  # it keeps its own place: the end
        stored = self._looked()
        dlq = stored.fields.get("dlq_name")
        moved = self.connection.ask(lambda store: store.revive([self.id], dlq=dlq, queue=stored.queue))
        if not moved:
            raise InvalidJobOperation(f"job {self.id} is {self.get_status()}; only failed ones can be queued again")
        self.refresh()
        return self

    def delete(self, *, remove_from_queue: bool = True, delete_dependents: bool = False) -> None:
        """Remove it with all that is stored of it, from its queue as well. A running one is asked to stop, and stays,
        canceled. ``delete_dependents``: and those that wait for it, and for them."""
        del remove_from_queue
        if delete_dependents:
            for child in type(self).fetch_many(self.dependent_ids, self.connection):
                if child is not None:
                    child.delete(delete_dependents=True)
        if self.connection.ask(lambda store: store.purge([self.id])).running:
            self.connection.client.cancel(self.id)

    def save_meta(self) -> None:
        """Store ``meta`` as it is now. Raises CodecError, and NoSuchJobError when the job has gone."""
        text = msgspec.json.encode(encode(self.meta, "meta")).decode()
        if not self.connection.ask(lambda store: store.annotate(self.id, META_FIELD, text)):
            raise NoSuchJobError(f"there is no job {self.id} whose meta could be saved")

    def get_meta(self, refresh: bool = True) -> dict[str, Any]:
        """``meta``, looked up anew."""
        if refresh:
            self.refresh()
        return self.meta

    def to_dict(self) -> dict[str, Any]:
        """All that is known, as JSON has it, for storing and logging."""
        status = self.get_status() if self._stored is not None else None
        return {
            "id": self.id,
            "func_name": self.func_name,
            "args": [encode(value, "an argument") for value in self.args],
            "kwargs": {name: encode(value, "an argument") for name, value in self.kwargs.items()},
            "description": self.description,
            "origin": self.origin,
            "status": str(status) if status is not None else None,
            "created_at": _iso(self.created_at),
            "enqueued_at": _iso(self.enqueued_at),
            "started_at": _iso(self.started_at),
            "ended_at": _iso(self.ended_at),
            "timeout": self.timeout,
            "result_ttl": self.result_ttl,
            "meta": encode(self.meta, "meta"),
            "result": encode(self.return_value(), "the result") if status is not None else None,
            "exc_info": self.exc_info,
        }

    @property
    def stored(self) -> core.Job:
        """All stored fields, as of the last look."""
        return self._stored if self._stored is not None else self._looked()

    def take(self, stored: core.Job, now_ms: float) -> None:
        self._stored, self._seen_ms = stored, now_ms

    def _looked(self) -> core.Job:
        """What the store says now; what it said last, when the job has ended (or has gone since)."""
        if self._stored is not None and self._stored.status.is_final:
            return self._stored
        stored, now_ms = self.connection.ask(lambda store: store.look(self.id))
        if stored is not None:
            self.take(stored, now_ms)
        if self._stored is None:
            raise NoSuchJobError(f"there is no job {self.id}: it was never enqueued, or it has expired")
        return self._stored

    def _read_meta(self, stored: core.Job, wishes: Any) -> dict[str, Any]:
        text = stored.fields.get(META_FIELD)
        data = msgspec.json.decode(text) if text else wishes.get("meta", {})
        try:
            meta = decode(data, allow_all)
        except CodecError:
            meta = data
        return meta if isinstance(meta, dict) else {}


def _iso(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat() if moment is not None else None


__all__ = [
    "Callback", "Dependency", "InvalidJobOperation", "Job", "JobStatus", "NoSuchJobError", "Repeat", "Result", "Retry",
    "get_current_job",
]  # fmt: skip
