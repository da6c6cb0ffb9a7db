"""From the first API's settings and handlers to those of an rrqd worker."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from rrqd.classic.registry import JobRegistry
from rrqd.config.pool_table import PoolSettings
from rrqd.config.settings import Settings
from rrqd.exc import ConfigError
from rrqd.handlers import LoadedHandlers
from rrqd.model.job import short_queue_name
from rrqd.registry import NO_POLICY, Registered, Registry, is_async_callable
from rrqd.runner import ExecutionRequest

if TYPE_CHECKING:
    from rrqd.classic.client import RRQClient
    from rrqd.classic.cron import CronJob
    from rrqd.classic.settings import RRQSettings

MOST_CONCURRENT = 1000
_PLAIN = (str, int, float, bool, type(None))

#: Who makes the client that handlers find in ``ctx["rrq_client"]``.
ClientMaker = Callable[[], "RRQClient"]


class Adapted(Registry):
    """A ``JobRegistry`` as a worker sees it. It looks when asked, so handlers may be registered at any time."""

    def __init__(self, jobs: JobRegistry, settings: RRQSettings, client: ClientMaker) -> None:
        super().__init__()
        self._jobs = jobs
        self._settings = settings
        self._client = client

    def get(self, name: str) -> Registered | None:
        handler = self._jobs.get_handler(name)
        if handler is None:
            return None
        is_async = is_async_callable(handler)
        call = self._awaited(handler) if is_async else self._called(handler)
        return Registered(name, call, is_async, NO_POLICY)

    def get_registered_functions(self) -> list[str]:
        return self._jobs.get_registered_functions()

    def __iter__(self) -> Iterator[Registered]:
        return iter(entry for name in self.get_registered_functions() if (entry := self.get(name)) is not None)

    def __len__(self) -> int:
        return len(self.get_registered_functions())

    def __contains__(self, name: object) -> bool:
        return name in self.get_registered_functions()

    def _awaited(self, handler: Callable[..., Awaitable[Any]]) -> Callable[[ExecutionRequest], Awaitable[Any]]:
        async def call(request: ExecutionRequest) -> Any:
            return as_json(await handler(self._context(request), *request.args, **request.params))

        return call

    def _called(self, handler: Callable[..., Any]) -> Callable[[ExecutionRequest], Any]:
        def call(request: ExecutionRequest) -> Any:
            value = handler(self._context(request), *request.args, **request.params)
            return _later(value) if inspect.isawaitable(value) else as_json(value)

        return call

    def _context(self, request: ExecutionRequest) -> dict[str, Any]:
        context = request.context
        return {
            "job_id": request.job_id,
            "job_try": context.attempt,
            "enqueue_time": context.enqueue_time,
            "settings": self._settings,
            "worker_id": context.worker_id,
            "queue_name": context.queue_name,
            "rrq_client": self._client(),
        }


async def _later(value: Awaitable[Any]) -> Any:
    return as_json(await value)


def as_json(value: Any) -> Any:
    """A result as the first API stores it: what JSON has no word for becomes its text."""
    return value if isinstance(value, _PLAIN) else json.loads(json.dumps(value, default=str))


def handlers_of(
    settings: RRQSettings, jobs: JobRegistry | None = None, client: ClientMaker | None = None
) -> LoadedHandlers:
    """Registry and hooks for a worker. Raises ConfigError when there is no registry."""
    jobs = jobs or settings.job_registry
    if jobs is None:
        raise ConfigError("RRQSettings: job_registry is not set, so there are no handlers to run")
    return LoadedHandlers(
        Adapted(jobs, settings, client or _client_maker(settings)), settings.on_startup, _careful(settings.on_shutdown)
    )


def _client_maker(settings: RRQSettings) -> ClientMaker:
    """One client a process, made when the first handler runs: workers are forked from what has imported this."""
    made: list[RRQClient] = []

    def client() -> RRQClient:
        from rrqd.classic.client import RRQClient

        if not made:
            made.append(RRQClient(settings))
        return made[0]

    return client


def _careful(hook: Callable[[], Any] | None) -> Callable[[], Awaitable[None]] | None:
    """An error in ``on_shutdown`` is logged; it does not spoil the end of a worker whose jobs are done."""
    if hook is None:
        return None

    async def call() -> None:
        try:
            answer = hook()
            if inspect.isawaitable(answer):
                await answer
        except Exception as fault:
            structlog.get_logger().exception("on_shutdown.failed", error=str(fault))

    return call


def settings_of(settings: RRQSettings) -> Settings:
    """The daemon's settings for what the first API's say."""
    return Settings.model_validate(tables_of(settings))


def tables_of(settings: RRQSettings) -> dict[str, dict[str, Any]]:
    """The same as the tables of a file. A timeout is final, as it was there."""
    rrq = {
        "redis_dsn": settings.redis_dsn,
        "default_queue_name": settings.default_queue_name,
        "default_dlq_name": settings.default_dlq_name,
        "default_max_retries": max(0, settings.default_max_retries),
        "default_job_timeout_seconds": settings.default_job_timeout_seconds,
        "default_result_ttl_seconds": max(0, settings.default_result_ttl_seconds),
        "default_unique_job_lock_ttl_seconds": settings.default_unique_job_lock_ttl_seconds,
        "worker_health_check_interval_seconds": max(0.1, float(settings.worker_health_check_interval_seconds)),
        "base_retry_delay_seconds": min(settings.base_retry_delay_seconds, settings.max_retry_delay_seconds),
        "max_retry_delay_seconds": settings.max_retry_delay_seconds,
        "cron_jobs": [_cron_entry(job) for job in settings.cron_jobs],
    }
    rrqd = {
        "stop_timeout_seconds": settings.worker_shutdown_grace_period_seconds,
        "on_timeout": "bury",
        "max_job_timeout_seconds": float(max(31_536_000, settings.default_job_timeout_seconds)),
    }
    return {"rrq": rrq, "rrqd": rrqd}


def _cron_entry(job: CronJob) -> dict[str, Any]:
    entry = {"function_name": job.function_name, "schedule": job.schedule, "params": job.kwargs, "args": job.args}
    return {**entry, "unique": job.unique, **({"queue_name": job.queue_name} if job.queue_name else {})}


def pool_of(settings: RRQSettings, queues: Sequence[str] | None = None) -> PoolSettings:
    """The pool that one classic worker is. ``queues``: earlier ones always come first."""
    names = list(queues) if queues else [settings.default_queue_name]
    return PoolSettings(
        handlers="rrqd.classic:registry",
        queues=list(dict.fromkeys(short_queue_name(name) for name in names)),
        concurrency=min(settings.worker_concurrency, MOST_CONCURRENT),
        queue_order="strict",
        sandbox=False,
    )
