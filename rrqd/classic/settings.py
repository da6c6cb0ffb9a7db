"""``RRQSettings``: what a program decides, from its arguments, then from the environment (``RRQ_REDIS_DSN`` …)."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rrqd.classic import constants
from rrqd.classic.cron import CronJob
from rrqd.classic.registry import JobRegistry

if TYPE_CHECKING:
    from rrqd.handlers import LoadedHandlers

ENVIRONMENT_PREFIX = "RRQ_"
Hook = Callable[[], Awaitable[None] | None]


class RRQSettings(BaseModel):
    """Settings of producers and workers. Unknown names are passed over; sub-classes may add their own."""

    model_config = ConfigDict(extra="ignore", arbitrary_types_allowed=True)

    on_startup: Hook | None = None
    on_shutdown: Hook | None = None
    redis_dsn: str = "redis://localhost:6379/0"
    default_queue_name: str = constants.DEFAULT_QUEUE_NAME
    default_dlq_name: str = constants.DEFAULT_DLQ_NAME
    default_max_retries: int = constants.DEFAULT_MAX_RETRIES
    default_job_timeout_seconds: int = constants.DEFAULT_JOB_TIMEOUT_SECONDS
    default_lock_timeout_extension_seconds: int = constants.DEFAULT_LOCK_TIMEOUT_EXTENSION_SECONDS
    default_result_ttl_seconds: int = constants.DEFAULT_RESULT_TTL_SECONDS
    default_poll_delay_seconds: float = constants.DEFAULT_POLL_DELAY_SECONDS
    default_unique_job_lock_ttl_seconds: int = constants.DEFAULT_UNIQUE_JOB_LOCK_TTL_SECONDS
    worker_concurrency: int = Field(default=10, ge=1)
    worker_health_check_interval_seconds: int = 60
    base_retry_delay_seconds: float = 5.0
    max_retry_delay_seconds: float = 3600.0
    worker_shutdown_grace_period_seconds: float = 10.0
    job_registry: JobRegistry | None = None
    cron_jobs: list[CronJob] = Field(default_factory=list)
    event_handlers: list[str] = Field(default_factory=list)
    expected_job_ttl: int = 30
    metrics_exporter: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _look_around(cls, given: Any) -> Any:
        """What the program leaves open the environment may say; names of variables count in any case."""
        if not isinstance(given, dict):
            return given
        around = {name.upper(): value for name, value in os.environ.items()}
        said = {name: around.get(f"{ENVIRONMENT_PREFIX}{name}".upper()) for name in cls.model_fields}
        return {**{name: text for name, text in said.items() if text is not None}, **given}

    def as_handlers(self) -> LoadedHandlers:
        """The registry and hooks, as a pool of the daemon takes them: ``handlers = "app.settings:settings"``."""
        from rrqd.classic.running import handlers_of

        return handlers_of(self)
