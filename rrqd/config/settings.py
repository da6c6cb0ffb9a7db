"""Every key of `[rrqd]` and `[rrqd.pools.*]`, and `Settings`, which holds them beside RRQ's own table.

Values are checked in two steps. A key alone: type and range, on the field. Keys together: `contradictions`,
a pure function from settings to sentences, each with the key it is about. Both end in one `ConfigError` when
the loader reads a file, and in pydantic's `ValidationError` (a ValueError) when a program builds settings.

`Settings.to_json` and `from_json` carry settings to the daemon's other processes without loss.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, model_validator

from rrqd.config import runner_pools
from rrqd.config.fields import (
    Address,
    FilePath,
    HttpAddress,
    Namespace,
    PoolName,
    Table,
)
from rrqd.config.pool_table import OnTimeout, PoolSettings
from rrqd.config.rrq_table import LONGEST_SECONDS, RRQSettings
from rrqd.config.shapes import DaemonShape
from rrqd.config.web_table import WebSettings
from rrqd.exc import InvalidRequest
from rrqd.model.queue_patterns import may_serve
from rrqd.model.request import Defaults, new_job
from rrqd.model.timetable import names_of, options_of


class DaemonSettings(DaemonShape, Table):
    """The `[rrqd]` table."""

    state_dir: FilePath | None = Field(
        default=None,
        description="Sandboxes, embedded data, the lock and the control socket. "
        "Left out: the platform's place for state.",
    )
    http: HttpAddress = Field(
        default="127.0.0.1:9464", description='Address of metrics, health, API and dashboard; "off" for none.'
    )
    embedded: Literal["auto", "always", "never"] = Field(
        default="auto", description="Start a Valkey of our own. auto: only when no redis_dsn is set anywhere."
    )
    embedded_address: Address = Field(
        default="127.0.0.1:6379", description="Where the embedded server listens; RRQ's clients look there by default."
    )
    embedded_binary: str | None = Field(
        default=None, min_length=1, description="The valkey-server or redis-server to start. Left out: the bundled one."
    )
    namespace: Namespace = Field(
        default="", description="Put before every key, to share one server. Real RRQ clients see the empty one only."
    )
    enqueue_replicas: int = Field(
        default=0,
        ge=0,
        le=100,
        description="Replicas that must have a job before an enqueue counts as done; 0: the server alone.",
    )
    lease_seconds: float = Field(
        default=15.0,
        gt=0,
        le=3600,
        description="How long a machine keeps its jobs without a sign of life, in seconds; then others run them.",
    )
    stop_timeout_seconds: float = Field(
        default=25.0, ge=0, le=LONGEST_SECONDS, description="Time running jobs get when the daemon stops, in seconds."
    )
    quit_drains: bool = Field(
        default=False, description="The signal QUIT stops as TERM does, in place of killing the workers at once."
    )
    timeout_grace_seconds: float = Field(
        default=5.0,
        gt=0,
        le=3600,
        description="How long a job past its timeout may take to let go before its worker is killed, in seconds.",
    )
    hang_timeout_seconds: float = Field(
        default=30.0,
        gt=0,
        le=86_400,
        description="The same for a worker whose loop stands still with no job to blame, in seconds.",
    )
    boot_timeout_seconds: float = Field(
        default=60.0, gt=0, le=86_400, description="Longest start of a process, imports included, in seconds."
    )
    memory_guard_share: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="Share of the control group's memory limit (a container's, a unit's) at which the largest worker "
        "is replaced, before the kernel kills everybody; 1: not before it is too late.",
    )
    on_timeout: OnTimeout = Field(
        default="retry", description="What follows when a job runs into its timeout: another run, or the DLQ."
    )
    retry_jitter: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Share by which retry delays are spread, 0 to 1, so that failures don't return as one.",
    )
    max_stalls: int = Field(
        default=3, ge=1, le=1000, description="Workers a job may take down with it before it is buried as poison."
    )
    max_result_bytes: int = Field(default=1_048_576, ge=1, description="Largest result of a job, in bytes of JSON.")
    max_params_bytes: int = Field(default=1_048_576, ge=1, description="Largest parameters of a job, in bytes of JSON.")
    max_error_bytes: int = Field(
        default=16_384, ge=256, description="How much of an error's message and traceback is kept, in bytes."
    )
    max_job_timeout_seconds: float = Field(
        default=31_536_000.0,
        gt=0,
        le=LONGEST_SECONDS,
        description="The longest timeout any job may ask for, in seconds.",
    )
    dlq_retention_seconds: float = Field(
        default=604_800.0,
        ge=0,
        le=LONGEST_SECONDS,
        description="How long buried jobs are kept, in seconds; 0 keeps them for ever.",
    )
    cancelled_retention_seconds: float = Field(
        default=86_400.0,
        ge=0,
        le=LONGEST_SECONDS,
        description="How long the record of a cancelled job is kept, in seconds.",
    )
    figures_retention_seconds: float = Field(
        default=2_592_000.0,
        ge=86_400,
        le=LONGEST_SECONDS,
        description="How long a queue's figures of a day are kept, in seconds.",
    )
    idle_poll_seconds: float = Field(
        default=5.0,
        gt=0,
        le=3600,
        description="How often an idle worker looks at its queues though nothing woke it, in seconds; a safety net.",
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="Form of the log on stderr. auto: console on a terminal, JSON lines elsewhere."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least important lines to log. Environment: RRQ_LOG_LEVEL."
    )
    web: WebSettings = Field(default_factory=WebSettings, description="Dashboard and JSON API: [rrqd.web].")
    pools: dict[PoolName, PoolSettings] = Field(
        default_factory=dict, description="Worker pools by name: [rrqd.pools.<name>]."
    )


class Problem(NamedTuple):
    """One thing wrong: the path of the key it is about, and a sentence."""

    path: tuple[str | int, ...]
    message: str


class Contradictions(ValueError):
    """Keys that are fine alone and impossible together."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(f"{'.'.join(map(str, one.path))}: {one.message}" for one in problems))
        self.problems = problems


class Settings(Table):
    """Everything the file and the environment decide."""

    rrq: RRQSettings = Field(default_factory=RRQSettings, description="RRQ's own table.")
    rrqd: DaemonSettings = Field(default_factory=DaemonSettings, description="The daemon's table.")

    @model_validator(mode="after")
    def _hold_together(self) -> Settings:
        problems = list(contradictions(self))
        if problems:
            raise Contradictions(problems)
        crons = self.rrq.cron_jobs
        names = names_of([(cron.name, cron.function_name) for cron in crons])
        crons[:] = [cron.model_copy(update={"name": name}) for cron, name in zip(crons, names, strict=True)]
        pools = dict(self.rrqd.pools)
        for name, pool in {**pools, **runner_pools.implied(self.rrq, pools)}.items():
            self.rrqd.pools[name] = pool.model_copy(update=self._what_a_pool_leaves_open(pools, pool))
        for name, queues in runner_pools.answering(self.rrq, self.rrqd.pools).items():
            self.rrqd.pools[name] = self.rrqd.pools[name].model_copy(update={"queues": queues})
        return self

    def _what_a_pool_leaves_open(self, pools: dict[str, PoolSettings], pool: PoolSettings) -> dict[str, Any]:
        """Values of keys whose default depends on other keys."""
        if pool.runner is not None:
            return runner_pools.filled(self.rrq, pools, pool)
        given = pool.model_fields_set
        filled: dict[str, Any] = {}
        if "queues" not in given:
            filled["queues"] = [self.rrq.default_queue_name]
        if pool.isolation == "process":
            filled["concurrency"] = 1
        return filled

    def to_json(self) -> str:
        """One JSON object with every key, defaults included."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str | bytes) -> Settings:
        """The settings that `to_json` wrote. Raises pydantic's ValidationError on anything else."""
        return cls.model_validate_json(text)


def contradictions(settings: Settings) -> Iterator[Problem]:
    """What can't be true at the same time, in the order of the file's tables."""
    rrq, rrqd = settings.rrq, settings.rrqd
    cap = rrqd.max_job_timeout_seconds
    if rrq.default_job_timeout_seconds > cap:
        yield Problem(
            ("rrq", "default_job_timeout_seconds"), f"is above rrqd.max_job_timeout_seconds, which is {_plain(cap)}"
        )
    if rrq.base_retry_delay_seconds > rrq.max_retry_delay_seconds:
        yield Problem(
            ("rrq", "base_retry_delay_seconds"),
            f"is above max_retry_delay_seconds, which is {_plain(rrq.max_retry_delay_seconds)}",
        )
    for where, message in runner_pools.problems(rrq, rrqd.pools):
        yield Problem(where, message)
    yield from _in_cron(rrq, rrqd)
    if rrqd.web.proxy_header is not None and not rrqd.web.proxies:
        yield Problem(("rrqd", "web", "proxy_header"), "needs proxies: the addresses from which it is believed")
    for name, pool in rrqd.pools.items():
        path = ("rrqd", "pools", name)
        if pool.timeout_seconds is not None and pool.timeout_seconds > cap:
            yield Problem((*path, "timeout_seconds"), f"is above rrqd.max_job_timeout_seconds, which is {_plain(cap)}")
        if pool.min_processes is not None and pool.max_processes is None:
            yield Problem((*path, "min_processes"), "needs max_processes; for a pool of fixed size set processes")
        if pool.max_processes is not None and (pool.min_processes or 1) > pool.max_processes:
            yield Problem((*path, "min_processes"), f"is above max_processes, which is {pool.max_processes}")
        soft, hard = pool.max_memory_bytes, pool.kill_memory_bytes
        if soft is not None and hard is not None and soft >= hard:
            yield Problem((*path, "max_memory_bytes"), f"must be below kill_memory_bytes, which is {hard}")
        doubled = sorted({queue for queue in pool.queues if pool.queues.count(queue) > 1})
        if doubled:
            yield Problem((*path, "queues"), f"names {', '.join(doubled)} more than once")
        for queue in pool.queue_weights:
            if not may_serve(pool.queues, queue):
                yield Problem((*path, "queue_weights", queue), "is none of the pool's queues")
        if pool.queue_weights and pool.queue_order == "strict":
            yield Problem((*path, "queue_weights"), 'has no meaning with queue_order = "strict"')
        if pool.isolation == "process" and "concurrency" in pool.model_fields_set and pool.concurrency > 1:
            yield Problem(
                (*path, "concurrency"), 'must be 1 or left out with isolation = "process"; raise processes instead'
            )


def _in_cron(rrq: RRQSettings, rrqd: DaemonSettings) -> Iterator[Problem]:
    names: set[str] = set()
    defaults = Defaults(max_params_bytes=rrqd.max_params_bytes)
    for number, cron in enumerate(rrq.cron_jobs):
        path = ("rrq", "cron_jobs", number)
        if cron.name is not None and cron.name in names:
            yield Problem((*path, "name"), f'is the name of an entry above; names must differ; got "{cron.name}"')
        names.add(cron.name or "")
        try:
            new_job(cron.function_name, options_of(cron), defaults)
        except InvalidRequest as why:
            key, _, said = str(why).partition(" ")
            yield Problem((*path, key), said)


def _plain(number: float) -> str:
    """3600.0 as a person writes it: 3600."""
    return str(int(number)) if number.is_integer() else str(number)


def resolve_state_dir(settings: Settings, environ: Mapping[str, str] = os.environ) -> Path:
    """The folder for state: the one set, else systemd's, else the platform's. Absolute; not created here."""
    if settings.rrqd.state_dir is not None:
        return settings.rrqd.state_dir.expanduser().absolute()
    granted = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if granted:
        return Path(granted)
    if os.geteuid() == 0:
        return Path("/var/lib/rrqd")
    home = environ.get("XDG_STATE_HOME", "")
    return (Path(home) if home.startswith("/") else Path.home() / ".local" / "state") / "rrqd"
