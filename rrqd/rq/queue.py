"""``Queue``: where calls of functions are put.

Rule 1: an enqueue is one request to the server, whatever its options.
Rule 2: nothing here deletes a job unless its name says so: ``empty()`` asks, ``clear()`` and ``delete()`` remove.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from rrqd.rq.connection import Connection, connect
from rrqd.rq.exceptions import NoSuchJobError
from rrqd.rq.job import DEFAULT_RESULT_TTL_SECONDS, DEFAULT_TIMEOUT_SECONDS, Job
from rrqd.rq.record import serializer_of
from rrqd.rq.values import LONGEST_SECONDS, Count, Dependency, Repeat, Retry, Truth, seconds_of

if TYPE_CHECKING:
    from rrqd.rq.registry import (
        CanceledJobRegistry,
        DeferredJobRegistry,
        FailedJobRegistry,
        FinishedJobRegistry,
        ScheduledJobRegistry,
        StartedJobRegistry,
    )

#: The keywords of an enqueue that belong to the job; all others to the function.
JOB_OPTIONS = (
    "job_id", "description", "timeout", "job_timeout", "result_ttl", "failure_ttl", "ttl", "depends_on", "meta",
    "at_front", "retry", "repeat", "on_success", "on_failure", "on_stopped",
)  # fmt: skip


#: RQ's options for which there is nothing here, and what there is instead.
ABSENT = {
    "pipeline": "enqueue_many writes many jobs in one request",
    "rate_limit": "a daemon's throttles do that (docs/throttles.md)",
    "webhooks": "on_success and on_failure can call one",
}


class Prepared(NamedTuple):
    """A call with its options, for ``enqueue_many``."""

    job: Job
    options: dict[str, Any]


class Queue:
    """A queue by name. Without ``connection`` it lies in ``RRQ_REDIS_DSN`` or in the embedded server (``memory``: a
    throw-away one of this process and its children). ``is_async=False``: functions are run at once, here."""

    def __init__(
        self,
        name: str = "default",
        connection: Any = None,
        is_async: bool = True,
        default_timeout: Any = None,
        *,
        serializer: Any = None,
        memory: bool = False,
    ) -> None:
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"a queue's name must be text, not {name!r}")
        self.name = name
        self.is_async = is_async
        self.default_timeout = seconds_of(default_timeout, "default_timeout") or DEFAULT_TIMEOUT_SECONDS
        self.serializer = serializer_of(serializer)
        self._wanted = connection
        self._memory = memory
        self._connection: Connection | None = None

    @property
    def connection(self) -> Connection:
        """Where it lies; found out when first needed."""
        if self._connection is None:
            self._connection = connect(self._wanted, memory=self._memory)
        return self._connection

    def __repr__(self) -> str:
        return f"Queue({self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Queue) and (other.name, other.connection) == (self.name, self.connection)

    def __hash__(self) -> int:
        return hash(self.name)

    def __len__(self) -> int:
        return int(self.count)

    def __bool__(self) -> bool:
        return True  # an empty queue is a queue

    # Putting jobs in.

    def enqueue(self, f: Any, *args: Any, **kwargs: Any) -> Job:
        """Have ``f(*args, **kwargs)`` run by a worker. Keywords of ``JOB_OPTIONS`` are the job's, not the function's;
        with ``args=`` or ``kwargs=`` the function's are given as such. Raises ValueError, CodecError, JobExists."""
        return self._put(self._prepare(f, args, kwargs), {})

    def enqueue_call(
        self, func: Any, args: Iterable[Any] = (), kwargs: dict[str, Any] | None = None, **options: Any
    ) -> Job:
        """The same with the function's arguments apart. ``options``: ``JOB_OPTIONS``; TypeError for others."""
        for name in options:
            if name not in JOB_OPTIONS:
                raise TypeError(f"enqueue_call has no option {name!r}; there are {', '.join(JOB_OPTIONS)}")
        return self._put(self._make(func, tuple(args), dict(kwargs or {}), options), {})

    def enqueue_at(self, when: datetime, f: Any, *args: Any, **kwargs: Any) -> Job:
        """Not before ``when``; a naive datetime is this machine's local time."""
        if not isinstance(when, datetime):
            raise ValueError(f"enqueue_at takes a datetime first, not {when!r}")
        return self._put(self._prepare(f, args, kwargs), {"defer_until": when.astimezone()})

    def enqueue_in(self, delay: timedelta, f: Any, *args: Any, **kwargs: Any) -> Job:
        """Not before ``delay`` has passed; a negative one is over already."""
        if not isinstance(delay, timedelta | int | float):
            raise ValueError(f"enqueue_in takes a timedelta first, not {delay!r}")
        seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
        return self._put(self._prepare(f, args, kwargs), {"defer_by_seconds": max(0, seconds)})

    def enqueue_job(self, job: Job, at_front: bool = False) -> Job:
        """Store a Job that was made by hand."""
        return self._put(Prepared(job, {"at_front": at_front}), {})

    @classmethod
    def prepare_data(
        cls, func: Any, args: Iterable[Any] = (), kwargs: dict[str, Any] | None = None, **options: Any
    ) -> tuple[Any, tuple[Any, ...], dict[str, Any], dict[str, Any]]:
        """One call for :meth:`enqueue_many`."""
        return func, tuple(args), dict(kwargs or {}), options

    def enqueue_many(self, job_datas: Iterable[Any], pipeline: Any = None) -> list[Job]:
        """Many calls (``Queue.prepare_data``) in one request; they keep their order."""
        del pipeline
        prepared = [self._make(func, args, kwargs, options) for func, args, kwargs, options in job_datas]
        if not self.is_async:
            return [self._run_here(one.job) for one in prepared]
        wishes = [(one.job.function, self._options(one, {})) for one in prepared]
        self.connection.enqueue(wishes)
        return [one.job for one in prepared]

    def _prepare(self, f: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Prepared:
        options = {name: kwargs.pop(name) for name in JOB_OPTIONS if name in kwargs}
        kwargs.pop("unique", None)  # an id that is taken is refused anyway
        for name, instead in ABSENT.items():
            if kwargs.pop(name, None) is not None:
                raise ValueError(f"an enqueue has no {name} here; {instead}")
        if "args" in kwargs or "kwargs" in kwargs:
            if args:
                raise ValueError("the function's arguments are given twice: by position, and as args= or kwargs=")
            args, kwargs = tuple(kwargs.pop("args", None) or ()), dict(kwargs.pop("kwargs", None) or {})
        return self._make(f, args, kwargs, options)

    def _make(self, f: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any]) -> Prepared:
        options = dict(options)
        timeout = options.pop("job_timeout", None)
        timeout = options.pop("timeout", None) if timeout is None else timeout
        more = {name: options.pop(name, None) for name in ("at_front", "retry", "repeat", "depends_on")}
        f = getattr(f, "__wrapped__", f) if hasattr(f, "delay") else f
        job = Job(
            f, args, kwargs, timeout=self.default_timeout if timeout is None else timeout, origin=self.name,
            connection=self._connection or self._wanted, serializer=self.serializer, **options,
        )  # fmt: skip
        return Prepared(job, more)

    def _put(self, prepared: Prepared, when: dict[str, Any]) -> Job:
        job = prepared.job
        job.lies_in(self.connection)
        job.origin = self.name
        if not self.is_async:
            return self._run_here(job)
        self.connection.enqueue([(job.function, self._options(prepared, when))])
        return job

    def _options(self, prepared: Prepared, when: dict[str, Any]) -> dict[str, Any]:
        """A job's wishes in the client's words."""
        job, more = prepared
        job.lies_in(self.connection)
        retry, repeat = more.get("retry"), more.get("repeat")
        timeout = LONGEST_SECONDS if job.timeout == -1 else job.timeout or self.default_timeout
        options: dict[str, Any] = {
            "params": job.params(), "queue_name": self.name, "job_id": job.id, "job_timeout_seconds": timeout,
            "max_retries": 1, "result_ttl_seconds": _ttl(job.result_ttl), **when,
        }  # fmt: skip
        if job.failure_ttl is not None:
            options["failure_ttl_seconds"] = _ttl(job.failure_ttl)
        if more.get("depends_on"):
            options.update(_dependencies(more["depends_on"]))
        if retry is not None:
            retry = retry if isinstance(retry, Retry) else Retry(retry)
            options["max_retries"] = retry.max + 1
            # for attempts that end without an exception of their own: a timeout, a killed worker
            options["retry_delay_seconds"] = retry.intervals[0]
            options["max_retry_delay_seconds"] = max(retry.intervals)
            options["params"].setdefault("rq", {})["retry"] = retry.intervals
        if repeat is not None:
            if not isinstance(repeat, Repeat):
                raise ValueError(f"repeat must be a Repeat, not {repeat!r}")
            options["params"].setdefault("rq", {})["repeat"] = [repeat.times, repeat.intervals]
        if more.get("at_front"):
            front_ms = self.connection.ask(lambda store: store.front_ms(self.name))
            options["defer_until"] = datetime.fromtimestamp(front_ms / 1000).astimezone()
        return options

    def _run_here(self, job: Job) -> Job:
        from rrqd.rq.local import run_here

        return run_here(job)

    # Looking at it.

    @property
    def count(self) -> Count:
        """How many jobs wait and could start now."""
        return Count(self.connection.ask(lambda store: store.queue_depths([self.name]))[0].due)

    def is_empty(self) -> bool:
        """Whether no job waits here that could start now."""
        return self.count == 0

    def empty(self) -> Truth:
        """The same question. (RQ's ``empty()`` deletes all jobs; here that is ``clear()``.)"""
        return Truth(self.is_empty())

    def get_job_ids(self, offset: int = 0, length: int = -1) -> list[str]:
        """Ids of the jobs that wait and could start now, in their order."""
        ids = self.connection.ask(lambda store: store.waiting_ids(self.name, due=True))
        return ids[offset : None if length < 0 else offset + length]

    def get_jobs(self, offset: int = 0, length: int = -1) -> list[Job]:
        """The jobs that wait and could start now, in their order."""
        found = Job.fetch_many(self.get_job_ids(offset, length), self.connection)
        return [job for job in found if job is not None]

    def get_job_position(self, job_or_id: Job | str) -> int | None:
        """How many jobs come before it; None when it does not wait here."""
        job_id = job_or_id.id if isinstance(job_or_id, Job) else job_or_id
        ids = self.get_job_ids()
        return ids.index(job_id) if job_id in ids else None

    @property
    def job_ids(self) -> list[str]:
        return self.get_job_ids()

    @property
    def jobs(self) -> list[Job]:
        return self.get_jobs()

    def fetch_job(self, job_id: str) -> Job | None:
        """A job of this queue, wherever it is by now; None if there is none."""
        try:
            job = Job.fetch(job_id, self.connection)
        except NoSuchJobError:
            return None
        return job if job.origin == self.name else None

    # Its jobs by what has become of them, as RQ's properties.

    @property
    def started_job_registry(self) -> StartedJobRegistry:
        from rrqd.rq.registry import StartedJobRegistry

        return StartedJobRegistry(queue=self)

    @property
    def finished_job_registry(self) -> FinishedJobRegistry:
        from rrqd.rq.registry import FinishedJobRegistry

        return FinishedJobRegistry(queue=self)

    @property
    def failed_job_registry(self) -> FailedJobRegistry:
        from rrqd.rq.registry import FailedJobRegistry

        return FailedJobRegistry(queue=self)

    @property
    def scheduled_job_registry(self) -> ScheduledJobRegistry:
        from rrqd.rq.registry import ScheduledJobRegistry

        return ScheduledJobRegistry(queue=self)

    @property
    def deferred_job_registry(self) -> DeferredJobRegistry:
        from rrqd.rq.registry import DeferredJobRegistry

        return DeferredJobRegistry(queue=self)

    @property
    def canceled_job_registry(self) -> CanceledJobRegistry:
        from rrqd.rq.registry import CanceledJobRegistry

        return CanceledJobRegistry(queue=self)

    @classmethod
    def all(cls, connection: Any = None) -> list[Queue]:
        """All queues ever seen."""
        place = connect(connection)
        return [cls(name, place) for name in place.ask(lambda store: store.queues())]

    # Taking jobs out.

    def remove(self, job_or_id: Job | str) -> None:
        """Cancel a job that waits here."""
        job_id = job_or_id.id if isinstance(job_or_id, Job) else job_or_id
        self.connection.client.cancel(job_id)

    def clear(self) -> int:
        """Remove all jobs that wait here, those for later, too; answers how many. What runs goes on."""
        depth = self.connection.ask(lambda store: store.queue_depths([self.name]))[0]
        ids = self.connection.ask(lambda store: store.queue_page(self.name, 0, depth.waiting))
        return len(self.connection.ask(lambda store: store.purge(ids)).removed)

    def delete(self, delete_jobs: bool = True) -> None:
        """Remove the jobs that wait here. (A queue is no more than its jobs.)"""
        if delete_jobs:
            self.clear()


def _dependencies(wanted: Any) -> dict[str, Any]:
    """RQ's ``depends_on`` (a job, an id, a Dependency, or a list of them) in the client's words. As in RQ, a job whose
    dependency has failed stays where it is, until that is queued again and finishes, unless failures are allowed."""
    listed = list(wanted) if isinstance(wanted, list | tuple) else [wanted]
    jobs = [job for one in listed for job in (one.dependencies if isinstance(one, Dependency) else [one])]
    may_fail = any(one.allow_failure for one in listed if isinstance(one, Dependency))
    ids = [one.id if isinstance(one, Job) else one for one in jobs]
    return {"depends_on": ids, "on_parent": "run"} if may_fail else {"depends_on": ids}


def _ttl(wished: int | None) -> int:
    """RQ's time to live in RRQ's words: RQ keeps for ever with -1 and not at all with 0; RRQ keeps for ever with 0."""
    if wished is None:
        return DEFAULT_RESULT_TTL_SECONDS
    return 0 if wished < 0 else max(1, wished)
