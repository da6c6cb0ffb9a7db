"""Asking: enqueue jobs, look them up, wait for them, cancel them.

``RRQClient`` has the names, arguments and answers of ``rrq.client.RRQClient``, and more. One client serves any number
of tasks; calls made in the same loop turn travel together. ``SyncRRQClient`` is its twin for code without an event
loop, and may be used from many threads.

Rule 1: a connection belongs to one event loop of one process, and does not outlive that loop.
Rule 2: no call outlives its client: ``close`` ends those under way with EnqueueFailed.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from operator import itemgetter
from typing import Any, Self, TypeVar

from rrqd import tracing
from rrqd.asking.desks import Desks, SyncDesks
from rrqd.asking.life import CLOSED, LoopStore, LoopThread
from rrqd.asking.sources import endpoint_of, from_file, from_mapping
from rrqd.exc import EnqueueFailed, JobExists, RateLimited, StoreError, StoreUnavailable, UnknownParent
from rrqd.job import EnqueueReport, JobResult, JobStatus
from rrqd.model import checks, once
from rrqd.model.family import parents_first
from rrqd.model.job import Job, NewJob
from rrqd.model.request import new_job
from rrqd.store import Cancelled, Prioritised, Store
from rrqd.store.finding import Finder
from rrqd.store.following import Follower
from rrqd.store.jobs import BATCH_BYTES, ENQUEUE_BATCH
from rrqd.store.keys import Keys
from rrqd.store.why import Why, why

T = TypeVar("T")
Options = Mapping[str, Any]
#: A job as it is asked for: function name and options.
Wish = tuple[str, Options | None]

#: What an enqueue has under way at once; more jobs or bytes wait for the answers of those before them.
MOST_JOBS = 20 * ENQUEUE_BATCH
MOST_BYTES = 20 * BATCH_BYTES


class RRQClient(Desks):
    """Enqueues and follows jobs.

    Where the server is: ``config`` (a mapping; ``redis_dsn`` is required in it), or ``config_path`` (an rrq.toml), or
    neither: ``RRQ_CONFIG``, then ``rrq.toml`` in the working directory. Raises ValueError (ConfigError) for a bad one.
    Nothing is connected before the first call. Every failure of a call is a ClientError, which is a ValueError.
    It may be used from several event loops, each of which gets a connection that is dropped when it ends.

    ``dsn`` replaces the server of either. ``timeout_seconds``: how long a call goes on trying while the server gives
    no answer.
    """

    def __init__(
        self,
        *,
        config: Mapping[str, Any] | None = None,
        config_path: str | None = None,
        dsn: str | None = None,
        timeout_seconds: float = 10.0,
    ) -> None:
        if config is not None and config_path is not None:
            raise ValueError("Provide either config or config_path, not both.")
        configured, self._defaults, self._policy = (
            from_mapping(config) if config is not None else from_file(config_path)
        )
        self._endpoint = endpoint_of(dsn or configured)
        self._timeout_seconds = timeout_seconds
        self._stores: dict[tuple[int, asyncio.AbstractEventLoop], LoopStore] = {}
        super().__init__(self._ask, self._follow, self._defaults)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Drop this loop's connection; its calls under way fail. The client may be used again: it connects anew."""
        store = self._stores.pop((os.getpid(), asyncio.get_running_loop()), None)
        if store is not None:
            await store.close()

    async def enqueue(self, function_name: str, options: Options | None = None) -> str:
        """Write one job down and answer its id.

        ``options``: ``params``, ``queue_name``, ``job_id``, ``unique_key``, ``unique_ttl_seconds``, ``max_retries``
        (attempts in all), ``job_timeout_seconds``, ``result_ttl_seconds``, ``trace_context``, ``defer_by_seconds``,
        ``defer_until``, ``enqueue_time``, ``rate_limit_key`` and ``rate_limit_seconds``, ``debounce_key`` and
        ``debounce_seconds``; ours: ``priority`` (higher first), ``depends_on`` (ids of jobs to wait for) and
        ``on_parent``, ``unique_until``, ``on_timeout``, ``retry_delay_seconds``, ``max_retry_delay_seconds``,
        ``throttles`` and ``tags`` (lists), ``rate`` (``api:100/m``), ``track`` (tell of every move, see ``tracking``).

        With a ``unique_key`` that is held, or a debounced job that waits, the answer is that job's id;
        ``enqueue_report`` tells which it was. Raises InvalidRequest, JobExists (the ``job_id`` is another job's),
        RateLimited, UnknownParent (``depends_on`` names a job that is not there) or EnqueueFailed.
        """
        return (await self.enqueue_many([(function_name, options)]))[0]

    async def enqueue_report(self, function_name: str, options: Options | None = None) -> EnqueueReport:
        """Like ``enqueue``, and tells what happened: created, duplicate, replaced or limited (an answer here)."""
        return (await self.enqueue_reports([(function_name, options)]))[0]

    async def enqueue_reports(self, jobs: Iterable[Wish]) -> list[EnqueueReport]:
        """Like ``enqueue_many``, and tells what happened to each, in the order given."""
        with tracing.asking(jobs, self._defaults.queue) as asking:
            reports = await self._write(self._read(asking.jobs))
            asking.answered(reports)
        return reports

    async def enqueue_many(self, jobs: Iterable[Wish]) -> list[str]:
        """Write many jobs down, (function name, options) each; they keep their order in a queue.

        All are checked before the first is written. Answers their ids, in the order given. Raises JobExists when an id
        is another job's, RateLimited when one was let through by no rate limit, UnknownParent; all others are written
        then. A job may wait for another of the list, wherever that stands.
        """
        return _ids(await self.enqueue_reports(jobs))

    async def enqueue_with_unique_key(self, function_name: str, unique_key: str, options: Options | None = None) -> str:
        """Enqueue unless a job with this key is there; answers that job's id then."""
        return await self.enqueue(function_name, {**(options or {}), "unique_key": unique_key})

    async def enqueue_with_rate_limit(self, function_name: str, options: Options) -> str | None:
        """Enqueue the first of a window of ``rate_limit_seconds`` for a ``rate_limit_key``; ``None`` for the others."""
        once.require("rate_limit", options)
        return (await self.enqueue_report(function_name, options)).job_id

    async def enqueue_with_debounce(self, function_name: str, options: Options) -> str:
        """Enqueue for ``debounce_seconds`` from now; until then each request with its ``debounce_key`` replaces the
        last one's function and parameters and moves it on. Answers the id of the one job."""
        once.require("debounce", options)
        return await self.enqueue(function_name, options)

    async def enqueue_deferred(self, function_name: str, options: Options) -> str:
        """Enqueue for later: ``defer_by_seconds`` or ``defer_until`` stand in ``options``."""
        return await self.enqueue(function_name, options)

    async def get_job(self, job_id: str) -> Job | None:
        """Everything that is stored of a job; ``None`` when there is none."""
        return await self._ask(lambda store: store.get(job_id))

    async def get_job_status(self, job_id: str) -> JobResult | None:
        """Status, result and last error; ``None`` when there is no such job."""
        return _result(await self.get_job(job_id))

    async def wait_for_completion(
        self, job_id: str, *, timeout_seconds: float = 30.0, block_interval_seconds: float = 0.25
    ) -> JobResult | None:
        """The job's end (completed, failed or cancelled); ``None`` if it has not come within ``timeout_seconds``.

        Any number of waits may be under way. ``block_interval_seconds`` is accepted for RRQ's sake; the server says
        when a job ends, so nothing is polled. An id that is not there yet is waited for.
        """
        del block_interval_seconds
        store = await self._here()
        try:
            return _result(await store.wait(job_id, timeout_seconds, must_exist=False))
        except StoreError as fault:
            raise EnqueueFailed(str(fault)) from fault

    async def cancel(self, job_id: str) -> Cancelled:
        """Cancel a job: ``cancelled`` (it will never start), ``asked`` (it runs; its worker was told), ``too-late``
        (it had ended, or a foreign worker runs it), ``unknown``."""
        return await self._ask(lambda store: store.cancel(job_id))

    async def why(self, job_id: str) -> Why | None:
        """Why the job has not run yet: its place in line, and each thing that holds it up; ``None`` for no such job."""
        return await self._ask(lambda store: why(store, job_id))

    async def set_priority(self, job_id: str, priority: int | float) -> Prioritised:
        """Change a job's priority: higher first, 0 is what a job has that was given none.

        A waiting job keeps its age among its new equals; for one that runs or is buried it counts from its next wait
        on (``noted``)."""
        wanted = checks.priority(priority)
        return await self._ask(lambda store: store.prioritise(job_id, wanted))

    async def _here(self) -> LoopStore:
        """The store of this process and loop: a forked child, another thread, a second ``asyncio.run`` has its own."""
        home = os.getpid(), asyncio.get_running_loop()
        store = self._stores.get(home)
        if store is None or store.closed:
            for pid, loop in list(self._stores):
                if pid != home[0] or loop.is_closed():
                    self._stores.pop((pid, loop), None)
            store = LoopStore(self._endpoint, self._policy, client_name=f"rrqd:client:{home[0]}")
            self._stores[home] = store
            await store.begin()
        return store

    def _follow(self, last: int) -> Follower:
        return Follower(
            Finder(self._endpoint, self._policy.namespace), Keys(self._policy.namespace), "rrqd:events", last=last
        )

    def _read(self, jobs: Iterable[Wish]) -> list[NewJob]:
        return [new_job(name, options, self._defaults) for name, options in jobs]

    async def _write(self, jobs: Sequence[NewJob]) -> list[EnqueueReport]:
        """Enqueue part by part; for each there is ``timeout_seconds``."""
        order = parents_first(jobs)
        asked, answered = [job.id for job in jobs], list[EnqueueReport]()
        taken: JobExists | UnknownParent | None = None
        for part in _parts([jobs[at] for at in order]):
            try:
                answered += await self._write_part(part, asked)
            except (JobExists, UnknownParent) as fault:
                taken = taken or fault
        if taken is not None:
            raise taken
        return [report for _, report in sorted(zip(order, answered, strict=True), key=itemgetter(0))]

    async def _write_part(self, jobs: Sequence[NewJob], asked: Sequence[str]) -> list[EnqueueReport]:
        """Enqueue, asking again while nothing answers: the ids are fixed, so nothing can be written twice."""
        repeated = False

        async def ask(store: Store) -> list[EnqueueReport]:
            nonlocal repeated
            again, repeated = repeated, True
            return await store.enqueue_many(jobs, repeated=again)

        return await self._ask(ask, asked)

    async def _ask(self, call: Callable[[Store], Awaitable[T]], job_ids: Sequence[str] = ()) -> T:
        """Ask until there is an answer; give up after ``timeout_seconds``, and not before."""
        store = await self._here()
        pause, why = 0.05, "no answer from the server"
        try:
            async with asyncio.timeout(self._timeout_seconds):
                while not store.closed:
                    try:
                        return await call(store)
                    except StoreUnavailable as fault:
                        why = str(fault)
                    await asyncio.sleep(pause * random.uniform(0.5, 1.5))
                    pause = min(pause * 2, 1.0)
        except TimeoutError as fault:
            raise EnqueueFailed(f"gave up after {self._timeout_seconds:g} s: {why}", job_ids) from fault
        except StoreError as fault:
            raise EnqueueFailed(str(fault), job_ids) from fault
        raise EnqueueFailed(CLOSED, job_ids)


class SyncRRQClient(SyncDesks):
    """``RRQClient`` for plain code: the same calls, each waiting for its answer. Safe for many threads.

    A thin bridge: one event loop in one background thread does the work. A forked child gets its own.
    """

    def __init__(self, **options: Any) -> None:
        self._client = RRQClient(**options)
        self._threads: dict[int, LoopThread] = {}
        super().__init__(self._run, self._client)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End connection and thread; calls under way in other threads fail. A later call starts both again."""
        self._thread().stop()

    @property
    def for_loops(self) -> RRQClient:
        """The client underneath, for code with an event loop."""
        return self._client

    def _thread(self) -> LoopThread:
        return self._threads.get(os.getpid()) or self._threads.setdefault(os.getpid(), LoopThread())

    def _run(self, work: Coroutine[Any, Any, T], job_ids: Iterable[str] = ()) -> T:
        try:
            return self._thread().run(work)
        except CancelledError:
            raise EnqueueFailed(CLOSED, job_ids) from None

    def enqueue(self, function_name: str, options: Options | None = None) -> str:
        """See :meth:`RRQClient.enqueue`."""
        return self.enqueue_many([(function_name, options)])[0]

    def enqueue_many(self, jobs: Iterable[Wish]) -> list[str]:
        """See :meth:`RRQClient.enqueue_many`."""
        return _ids(self.enqueue_reports(jobs))

    def enqueue_report(self, function_name: str, options: Options | None = None) -> EnqueueReport:
        """See :meth:`RRQClient.enqueue_report`."""
        return self.enqueue_reports([(function_name, options)])[0]

    def enqueue_reports(self, jobs: Iterable[Wish]) -> list[EnqueueReport]:
        """See :meth:`RRQClient.enqueue_reports`."""
        with tracing.asking(jobs, self._client._defaults.queue) as asking:
            wanted = self._client._read(asking.jobs)  # in this thread: what yields them may itself use the client
            reports = self._run(self._client._write(wanted), (job.id for job in wanted))
            asking.answered(reports)
        return reports

    def enqueue_with_unique_key(self, function_name: str, unique_key: str, options: Options | None = None) -> str:
        """See :meth:`RRQClient.enqueue_with_unique_key`."""
        return self.enqueue(function_name, {**(options or {}), "unique_key": unique_key})

    def enqueue_with_rate_limit(self, function_name: str, options: Options) -> str | None:
        """See :meth:`RRQClient.enqueue_with_rate_limit`."""
        once.require("rate_limit", options)
        return self.enqueue_report(function_name, options).job_id

    def enqueue_with_debounce(self, function_name: str, options: Options) -> str:
        """See :meth:`RRQClient.enqueue_with_debounce`."""
        once.require("debounce", options)
        return self.enqueue(function_name, options)

    def enqueue_deferred(self, function_name: str, options: Options) -> str:
        """See :meth:`RRQClient.enqueue_deferred`."""
        return self.enqueue(function_name, options)

    def get_job(self, job_id: str) -> Job | None:
        """See :meth:`RRQClient.get_job`."""
        return self._run(self._client.get_job(job_id))

    def get_job_status(self, job_id: str) -> JobResult | None:
        """See :meth:`RRQClient.get_job_status`."""
        return self._run(self._client.get_job_status(job_id))

    def wait_for_completion(
        self, job_id: str, *, timeout_seconds: float = 30.0, block_interval_seconds: float = 0.25
    ) -> JobResult | None:
        """See :meth:`RRQClient.wait_for_completion`."""
        return self._run(self._client.wait_for_completion(job_id, timeout_seconds=timeout_seconds))

    def cancel(self, job_id: str) -> Cancelled:
        """See :meth:`RRQClient.cancel`."""
        return self._run(self._client.cancel(job_id))

    def why(self, job_id: str) -> Why | None:
        """See :meth:`RRQClient.why`."""
        return self._run(self._client.why(job_id))

    def set_priority(self, job_id: str, priority: int | float) -> Prioritised:
        """See :meth:`RRQClient.set_priority`."""
        return self._run(self._client.set_priority(job_id, priority))


def _parts(jobs: Sequence[NewJob]) -> Iterator[Sequence[NewJob]]:
    """In order, what may be under way together."""
    start = size = 0
    for at, job in enumerate(jobs):
        if at > start and (at - start == MOST_JOBS or size + len(job.params) > MOST_BYTES):
            yield jobs[start:at]
            start, size = at, 0
        size += len(job.params)
    if jobs:
        yield jobs[start:]


def _ids(reports: Sequence[EnqueueReport]) -> list[str]:
    """The ids alone, as RRQ's client answers them. Raises RateLimited when one has none."""
    ids = [report.job_id for report in reports if report.job_id is not None]
    if len(ids) < len(reports):
        raise RateLimited(f"rate limited: {len(reports) - len(ids)} of {len(reports)} not enqueued")
    return ids


def _result(job: Job | None) -> JobResult | None:
    if job is None:
        return None
    done = job.status is JobStatus.COMPLETED
    return JobResult(status=job.status, result=job.result if done else None, last_error=job.last_error)
