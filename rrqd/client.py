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
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any, Self, TypeVar

import msgspec

from rrqd.exc import EnqueueFailed, InvalidRequest, JobExists, StoreError, StoreUnavailable
from rrqd.job import JobResult, JobStatus
from rrqd.model.job import Job, NewJob
from rrqd.model.request import Defaults, new_job
from rrqd.store import Cancelled, Store, StorePolicy, policy_of
from rrqd.store.connection import Endpoint, Link
from rrqd.store.jobs import BATCH_BYTES, ENQUEUE_BATCH

T = TypeVar("T")
Options = Mapping[str, Any]
#: A job as it is asked for: function name and options.
Wish = tuple[str, Options | None]

#: What an enqueue has under way at once; more jobs or bytes wait for the answers of those before them.
MOST_JOBS = 20 * ENQUEUE_BATCH
MOST_BYTES = 20 * BATCH_BYTES

CLOSED = "the client was closed before the answer came"

#: The keys of ``RRQClient(config={...})``: RRQ's, and our namespace.
CONFIG_KEYS = (
    "redis_dsn", "queue_name", "max_retries", "job_timeout_seconds", "result_ttl_seconds",
    "idempotency_ttl_seconds", "correlation_mappings", "namespace",
)  # fmt: skip


class RRQClient:
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
        self._dsn, self._defaults, self._policy = (
            _from_mapping(config) if config is not None else _from_file(config_path)
        )
        self._dsn = dsn or self._dsn
        Endpoint.parse(self._dsn)
        self._timeout_seconds = timeout_seconds
        self._stores: dict[tuple[int, asyncio.AbstractEventLoop], LoopStore] = {}

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
        ``defer_until``, ``enqueue_time``; ours: ``on_timeout``, ``retry_delay_seconds``, ``max_retry_delay_seconds``.

        With a ``unique_key`` that is held, the answer is the id of the job that holds it. Raises InvalidRequest,
        JobExists (the ``job_id`` is another job's) or EnqueueFailed.
        """
        return (await self.enqueue_many([(function_name, options)]))[0]

    async def enqueue_many(self, jobs: Iterable[Wish]) -> list[str]:
        """Write many jobs down, (function name, options) each; they keep their order in a queue.

        All are checked before the first is written. Answers their ids, in the order given. Raises JobExists when an id
        is another job's; all others are written then.
        """
        return await self._write(self._read(jobs))

    async def enqueue_with_unique_key(self, function_name: str, unique_key: str, options: Options | None = None) -> str:
        """Enqueue unless a job with this key is there; answers that job's id then."""
        return await self.enqueue(function_name, {**(options or {}), "unique_key": unique_key})

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

    async def _here(self) -> LoopStore:
        """The store of this process and loop: a forked child, another thread, a second ``asyncio.run`` has its own."""
        home = os.getpid(), asyncio.get_running_loop()
        store = self._stores.get(home)
        if store is None or store.closed:
            for pid, loop in list(self._stores):
                if pid != home[0] or loop.is_closed():
                    self._stores.pop((pid, loop), None)
            store = LoopStore(Endpoint.parse(self._dsn), self._policy, client_name=f"rrqd:client:{home[0]}")
            self._stores[home] = store
            await store.begin()
        return store

    def _read(self, jobs: Iterable[Wish]) -> list[NewJob]:
        return [new_job(name, options, self._defaults) for name, options in jobs]

    async def _write(self, jobs: Sequence[NewJob]) -> list[str]:
        """Enqueue part by part; for each there is ``timeout_seconds``."""
        asked, answered = [job.id for job in jobs], list[str]()
        taken: JobExists | None = None
        for part in _parts(jobs):
            try:
                answered += await self._write_part(part, asked)
            except JobExists as fault:
                taken = taken or fault
        if taken is not None:
            raise taken
        return answered

    async def _write_part(self, jobs: Sequence[NewJob], asked: Sequence[str]) -> list[str]:
        """Enqueue, asking again while nothing answers: the ids are fixed, so nothing can be written twice."""
        repeated = False

        async def once(store: Store) -> list[str]:
            nonlocal repeated
            again, repeated = repeated, True
            return [answer.job_id for answer in await store.enqueue_many(jobs, repeated=again)]

        return await self._ask(once, asked)

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


class LoopStore(Store):
    """The store of one event loop. It ends when it is closed, or else with its loop, and does not begin again."""

    closed = False

    async def begin(self) -> None:
        """Tie it to the running loop: ``asyncio.run`` and its like end suspended generators before they close it."""
        self._life = self._live()
        await anext(self._life)

    async def _live(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self.closed = True
            await super().close()

    async def link(self) -> Link:
        if self.closed:
            raise StoreUnavailable(CLOSED)
        return await super().link()

    async def close(self) -> None:
        await self._life.aclose()


class SyncRRQClient:
    """``RRQClient`` for plain code: the same calls, each waiting for its answer. Safe for many threads.

    A thin bridge: one event loop in one background thread does the work. A forked child gets its own.
    """

    def __init__(self, **options: Any) -> None:
        self._client = RRQClient(**options)
        self._threads: dict[int, LoopThread] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End connection and thread; calls under way in other threads fail. A later call starts both again."""
        self._thread().stop()

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
        wanted = self._client._read(jobs)  # in this thread: what yields the jobs may itself use the client
        return self._run(self._client._write(wanted), (job.id for job in wanted))

    def enqueue_with_unique_key(self, function_name: str, unique_key: str, options: Options | None = None) -> str:
        """See :meth:`RRQClient.enqueue_with_unique_key`."""
        return self.enqueue(function_name, {**(options or {}), "unique_key": unique_key})

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


class LoopThread:
    """An event loop in a thread, for code that has none. It begins with a ``run``, and anew after a ``stop``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: tuple[asyncio.AbstractEventLoop, threading.Thread] | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Its result. Raises CancelledError when the thread is stopped first."""
        with self._lock:
            if self._live is None:
                loop = asyncio.new_event_loop()
                thread = threading.Thread(target=_serve, args=[loop], name="rrqd-client", daemon=True)
                thread.start()
                self._live = loop, thread
            result = asyncio.run_coroutine_threadsafe(work, self._live[0])
        try:
            return result.result()
        finally:
            result.cancel()  # whoever was interrupted while waiting wants it no more

    def stop(self) -> None:
        """Cancel what is under way and end the thread."""
        with self._lock:
            live, self._live = self._live, None
        if live is not None:
            live[0].call_soon_threadsafe(live[0].stop)
            live[1].join()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.run_until_complete(_end())
    loop.close()


async def _end() -> None:
    """Leave nothing behind: no call that waits, no connection."""
    calls = asyncio.all_tasks() - {asyncio.current_task()}
    for call in calls:
        call.cancel()
    if calls:
        await asyncio.wait(calls)
    await asyncio.get_running_loop().shutdown_asyncgens()


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


def _result(job: Job | None) -> JobResult | None:
    if job is None:
        return None
    done = job.status is JobStatus.COMPLETED
    return JobResult(status=job.status, result=job.result if done else None, last_error=job.last_error)


def _from_mapping(config: Mapping[str, Any]) -> tuple[str, Defaults, StorePolicy]:
    for key in config:
        if key not in CONFIG_KEYS:
            raise InvalidRequest(f"unknown config key {key!r}; known are {', '.join(CONFIG_KEYS)}")
    dsn = config.get("redis_dsn")
    if not isinstance(dsn, str) or not dsn:
        raise InvalidRequest("config needs a redis_dsn")
    queue = config.get("queue_name", "default")
    if not isinstance(queue, str) or not queue.strip():
        raise InvalidRequest("queue_name cannot be blank")
    options = {
        "queue": queue,
        "max_retries": config.get("max_retries"),
        "timeout_seconds": config.get("job_timeout_seconds"),
        "result_ttl_seconds": config.get("result_ttl_seconds"),
        "unique_ttl_seconds": config.get("idempotency_ttl_seconds", 21_600),
        "correlation": config.get("correlation_mappings") or {},
    }
    try:
        defaults = msgspec.convert(options, Defaults)
        policy = msgspec.convert({"namespace": config.get("namespace", "")}, StorePolicy)
    except msgspec.ValidationError as fault:
        raise InvalidRequest(f"config: {fault}") from None
    return dsn, defaults, policy


def _from_file(path: str | None) -> tuple[str, Defaults, StorePolicy]:
    from rrqd.config.loader import client_dsn, load  # the file's checker is only needed by those who use a file

    loaded = load(path)
    settings, rrq = loaded.settings, loaded.settings.rrq
    defaults = Defaults(
        queue=rrq.default_queue_name,
        unique_ttl_seconds=rrq.default_unique_job_lock_ttl_seconds,
        max_params_bytes=settings.rrqd.max_params_bytes,
        correlation=dict(rrq.correlation_mappings),
    )
    return client_dsn(loaded), defaults, policy_of(settings)
