"""Asking: enqueue jobs, look them up, wait for them, cancel them.

``RRQClient`` has the names, arguments and answers of ``rrq.client.RRQClient``, and more. One client serves any number
of tasks of an event loop; calls made in the same loop turn travel together. ``SyncRRQClient`` is its twin for code
without an event loop, and may be used from many threads.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any, Self, TypeVar

import msgspec

from rrqd.exc import EnqueueFailed, InvalidRequest, StoreError, StoreUnavailable
from rrqd.job import JobResult, JobStatus
from rrqd.model.job import Job, NewJob
from rrqd.model.request import Defaults, new_job
from rrqd.store import Cancelled, Store, StorePolicy, policy_of
from rrqd.store.connection import Endpoint

T = TypeVar("T")
Options = Mapping[str, Any]

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
        self._store: Store | None = None
        self._home: tuple[int, asyncio.AbstractEventLoop] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Drop the connection. The client may be used again: it connects anew."""
        if self._store is not None and self._home is not None and self._home[1] is asyncio.get_running_loop():
            await self._store.close()
        self._store = None

    async def enqueue(self, function_name: str, options: Options | None = None) -> str:
        """Write one job down and answer its id.

        ``options``: ``params``, ``queue_name``, ``job_id``, ``unique_key``, ``unique_ttl_seconds``, ``max_retries``
        (attempts in all), ``job_timeout_seconds``, ``result_ttl_seconds``, ``trace_context``, ``defer_by_seconds``,
        ``defer_until``, ``enqueue_time``; ours: ``on_timeout``, ``retry_delay_seconds``, ``max_retry_delay_seconds``.

        With a ``unique_key`` that is held, the answer is the id of the job that holds it. Raises InvalidRequest,
        JobExists (the ``job_id`` is another job's) or EnqueueFailed.
        """
        return (await self._write([new_job(function_name, options, self._defaults)]))[0]

    async def enqueue_many(self, jobs: Iterable[tuple[str, Options | None]]) -> list[str]:
        """Write many jobs down, (function name, options) each; they keep their order in a queue.

        All are checked before the first is written. Answers their ids, in the order given.
        """
        wanted = [new_job(name, options, self._defaults) for name, options in jobs]
        return await self._write(wanted) if wanted else []

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
        store = self._here()
        try:
            return _result(await store.wait(job_id, timeout_seconds, must_exist=False))
        except StoreError as fault:
            raise EnqueueFailed(str(fault)) from fault

    async def cancel(self, job_id: str) -> Cancelled:
        """Cancel a job: ``cancelled`` (it will never start), ``asked`` (it runs; its worker was told), ``too-late``
        (it had ended, or a foreign worker runs it), ``unknown``."""
        return await self._ask(lambda store: store.cancel(job_id))

    def _here(self) -> Store:
        """The store of this process and loop. A forked child, or a second ``asyncio.run``, gets its own."""
        home = (os.getpid(), asyncio.get_running_loop())
        if self._store is None or self._home != home:
            self._store = Store(Endpoint.parse(self._dsn), self._policy, client_name=f"rrqd:client:{home[0]}")
            self._home = home
        return self._store

    async def _write(self, jobs: Sequence[NewJob]) -> list[str]:
        """Enqueue, asking again while nothing answers: the ids are fixed, so nothing can be written twice."""
        repeated = False

        async def once(store: Store) -> list[str]:
            nonlocal repeated
            again, repeated = repeated, True
            return [answer.job_id for answer in await store.enqueue_many(jobs, repeated=again)]

        return await self._ask(once)

    async def _ask(self, call: Callable[[Store], Awaitable[T]]) -> T:
        """Ask until there is an answer; give up after ``timeout_seconds``, and not before."""
        store = self._here()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_seconds
        pause, why = 0.05, "no answer from the server"
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    return await call(store)
            except (StoreUnavailable, TimeoutError) as fault:
                why = str(fault) or why
                left = deadline - loop.time()
                if left <= 0:
                    raise EnqueueFailed(f"gave up after {self._timeout_seconds:g} s: {why}") from fault
                if self._store is not store:
                    raise EnqueueFailed("the client was closed before the answer came") from fault
            except StoreError as fault:
                raise EnqueueFailed(str(fault)) from fault
            await asyncio.sleep(min(left, pause * random.uniform(0.5, 1.5)))
            pause = min(pause * 2, 1.0)


class SyncRRQClient:
    """``RRQClient`` for plain code: the same calls, each waiting for its answer. Safe for many threads.

    A thin bridge: one event loop in one background thread does the work. A forked child gets its own.
    """

    def __init__(self, **options: Any) -> None:
        self._client = RRQClient(**options)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._home = os.getpid()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        with self._lock:
            if self._loop is None or self._home != os.getpid():
                self._loop, self._home = asyncio.new_event_loop(), os.getpid()
                threading.Thread(target=_serve, args=[self._loop], name="rrqd-client", daemon=True).start()
            answer = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return answer.result()
        except CancelledError:
            raise EnqueueFailed("the client was closed before the answer came") from None
        finally:
            answer.cancel()  # whoever was interrupted while waiting wants no answer any more

    def close(self) -> None:
        """End the connection and the thread; calls under way in other threads fail. A later call starts them again."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None and self._home == os.getpid():
            asyncio.run_coroutine_threadsafe(self._end(), loop).result(5)
            loop.call_soon_threadsafe(loop.stop)

    async def _end(self) -> None:
        await self._client.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=1)

    def enqueue(self, function_name: str, options: Options | None = None) -> str:
        """See :meth:`RRQClient.enqueue`."""
        return self._run(self._client.enqueue(function_name, options))

    def enqueue_many(self, jobs: Iterable[tuple[str, Options | None]]) -> list[str]:
        """See :meth:`RRQClient.enqueue_many`."""
        return self._run(self._client.enqueue_many(jobs))

    def enqueue_with_unique_key(self, function_name: str, unique_key: str, options: Options | None = None) -> str:
        """See :meth:`RRQClient.enqueue_with_unique_key`."""
        return self._run(self._client.enqueue_with_unique_key(function_name, unique_key, options))

    def enqueue_deferred(self, function_name: str, options: Options) -> str:
        """See :meth:`RRQClient.enqueue_deferred`."""
        return self._run(self._client.enqueue_deferred(function_name, options))

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


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


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
    settings = loaded.settings
    rrq = settings.rrq
    defaults = Defaults(
        queue=rrq.default_queue_name,
        unique_ttl_seconds=rrq.default_unique_job_lock_ttl_seconds,
        max_params_bytes=settings.rrqd.max_params_bytes,
        correlation=dict(rrq.correlation_mappings),
    )
    return client_dsn(loaded), defaults, policy_of(settings)
