"""RRQ's own `[rrq]` table: every key that RRQ 0.11 reads, under its name and with its default.

Real RRQ clients read the same file, so nothing here may be renamed or mean something else. Queue and DLQ
names are held in their short form. What RRQ accepts and does not use is accepted here as well.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from rrqd.config.fields import (
    CronName,
    DlqName,
    Dsn,
    Glob,
    QueueName,
    Schedule,
    Table,
    TimeZone,
    VariableName,
    VariableValue,
)

# The longest span RRQ's own arithmetic (64-bit milliseconds) and ours (float seconds) both hold without loss.
LONGEST_SECONDS = 10 * 365 * 86_400
DEFAULT_CONNECT_TIMEOUT_MS = 15_000


def _positive_or_default(value: int) -> int:
    return value if value > 0 else DEFAULT_CONNECT_TIMEOUT_MS


class RunnerSettings(Table):
    """`[rrq.runners.<name>]`: a program in any language that runs jobs over RRQ's socket protocol."""

    type: Literal["socket"] = Field(
        default="socket",
        description="How the runner is spoken to; RRQ knows only sockets.",
    )
    cmd: list[str] | None = Field(
        default=None,
        min_length=1,
        description="Program and arguments; needed unless runner_management_mode is external.",
    )
    pool_size: int | None = Field(
        default=None, ge=1, le=1024, description="Runner processes. Left out: one for each processor."
    )
    max_in_flight: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Jobs that one runner process holds at the same time.",
    )
    env: dict[VariableName, VariableValue] | None = Field(
        default=None, description="Environment variables added to those the daemon has."
    )
    cwd: str | None = Field(default=None, min_length=1, description="Working directory of the runner processes.")
    tcp_host: str | None = Field(
        default=None, min_length=1, description="Host of an external runner; managed runners are always on 127.0.0.1."
    )
    tcp_port: int = Field(ge=1, le=65535, description="Port of the first runner process; the others count up.")
    allowed_hosts: list[str] | None = Field(
        default=None, description="Hosts beyond loopback that an external runner may be on."
    )
    response_timeout_seconds: float | None = Field(
        default=None,
        gt=0,
        le=LONGEST_SECONDS,
        description="Longest wait for one answer, in seconds. Left out: the job's own.",
    )


class CronJobSettings(Table):
    """`[[rrq.cron_jobs]]`: a job that is enqueued by the clock. RRQ knows the first five keys."""

    function_name: str = Field(min_length=1, description="Name of the handler to run.")
    schedule: Schedule = Field(
        description="6 or 7 fields, seconds first: second minute hour day month weekday [year]; or 5, without seconds; "
        "or a word like @hourly."
    )
    params: dict[str, Any] = Field(default_factory=dict, description="Parameters of the job.")
    args: list[Any] | None = Field(
        default=None, description="Positional arguments, which handlers of RRQ's first API take."
    )
    queue_name: QueueName | None = Field(default=None, description="Queue of the job. Left out: default_queue_name.")
    unique: bool = Field(
        default=False,
        description="Leave a tick out while the job of an earlier one has not finished.",
    )
    name: CronName | None = Field(
        default=None, description="What the entry is called in commands and metrics. Left out: like its function."
    )
    timezone: TimeZone = Field(
        default="UTC", description='Whose clocks the schedule means: a name like "Europe/Paris".'
    )
    missed: Literal["skip", "one", "all"] = Field(
        default="one",
        description="What becomes of ticks while no daemon was up: nothing, one job for all, or one for each.",
    )
    missed_most: int = Field(default=100, ge=1, le=1000, description='Most jobs that "all" enqueues; the latest.')
    missed_within_seconds: float = Field(
        default=3600.0, ge=0, le=LONGEST_SECONDS, description="Missed ticks older than this are left out, in seconds."
    )
    job_timeout_seconds: int | None = Field(
        default=None, gt=0, le=31_536_000, description="Longest run of the job, in seconds. Left out: as for any job."
    )
    max_retries: int | None = Field(
        default=None, ge=0, le=1_000_000, description="Runs the job gets before it is buried. Left out: as for any job."
    )
    result_ttl_seconds: int | None = Field(
        default=None, ge=0, le=LONGEST_SECONDS, description="How long its result is kept. Left out: as for any job."
    )
    priority: int | None = Field(default=None, description="Priority of the job (docs/priorities.md).")
    tags: list[str] = Field(default_factory=list, description="Tags of the job (docs/tags.md).")
    throttles: list[str] = Field(default_factory=list, description="Throttles of the job (docs/throttles.md).")
    tenant: str | None = Field(default=None, description="Whose job it is (docs/tenants.md).")
    rate: str | None = Field(default=None, description='Its rate limit, as in "api:100/m" (docs/throttles.md).')


class WatchSettings(Table):
    """`[rrq.watch]`: which files make a development worker start again."""

    path: str = Field(default=".", min_length=1, description="Folder to watch.")
    include_patterns: list[Glob] = Field(
        default_factory=lambda: ["*.py", "*.toml"], description="Files that count, as glob patterns."
    )
    ignore_patterns: list[Glob] = Field(
       default_factory=lambda: [
            ".git", ".venv", "venv", "target", "dist", "build",
            "__pycache__", "*.pyc", ".mypy_cache", ".pytest_cache", ".ruff_cache",
        ],
        description="Files and folders that never count, as glob patterns.",
    )  # fmt: skip
    no_gitignore: bool = Field(default=False, description="Also look at files that .gitignore leaves out.")
    pre_restart_cmds: list[Annotated[list[str], Field(min_length=1)]] = Field(
        default_factory=list, description="Programs (each a list of arguments) to run before a restart."
    )
    pre_restart_cwd: str | None = Field(
        default=None, min_length=1, description="Working directory of these programs. Left out: path."
    )
    pre_restart_timeout_seconds: float | None = Field(
        default=None, gt=0, description="Longest time for each of these programs, in seconds. Left out: no limit."
    )


class RRQSettings(Table):
    """The `[rrq]` table."""

    redis_dsn: Dsn = Field(
        default="redis://localhost:6379/0",
        description="The Redis or Valkey server all parts share. Environment: RRQ_REDIS_DSN.",
    )
    default_queue_name: QueueName = Field(default="default", description="Queue of jobs that name none.")
    default_dlq_name: DlqName = Field(
        default="default",
        description="Dead-letter queue: where jobs go that failed for good.",
    )
    default_max_retries: int = Field(
        default=5, ge=0, le=1_000_000, description="Runs a job gets before it is buried, unless it says otherwise."
    )
    default_job_timeout_seconds: int = Field(
        default=300, gt=0, le=LONGEST_SECONDS, description="Longest run of a job in seconds, unless it says otherwise."
    )
    default_lock_timeout_extension_seconds: int = Field(
        default=60,
        ge=0,
        le=LONGEST_SECONDS,
        description="How long RRQ's own workers lock a job past its timeout, in seconds.",
    )
    default_result_ttl_seconds: int = Field(
        default=86_400,
        ge=0,
        le=LONGEST_SECONDS,
        description="How long a finished job and its result are kept, in seconds.",
    )
    default_poll_delay_seconds: float = Field(
        default=0.1,
        gt=0,
        le=3600,
        description="Pause of RRQ's own workers between two looks at empty queues, in seconds.",
    )
    runner_connect_timeout_ms: Annotated[int, AfterValidator(_positive_or_default)] = Field(
        default=DEFAULT_CONNECT_TIMEOUT_MS,
        le=LONGEST_SECONDS,
        description="Longest wait for a runner's socket, in milliseconds; 0 or less means the default.",
    )
    runner_shutdown_term_grace_seconds: float = Field(
        default=5.0, ge=0, le=LONGEST_SECONDS, description="Time between SIGTERM and SIGKILL for a runner, in seconds."
    )
    runner_enable_inflight_cancel_hints: bool = Field(
        default=False, description="Tell runners at once when a job they hold is cancelled."
    )
    capture_runner_output: bool = Field(
        default=False,
        description="Put what runners print into the daemon's log. Environment: RRQ_CAPTURE_RUNNER_OUTPUT.",
    )
    default_unique_job_lock_ttl_seconds: int = Field(
        default=21_600, gt=0, le=LONGEST_SECONDS, description="How long a job's unique key is held at most, in seconds."
    )
    default_runner_name: str = Field(
        default="python", min_length=1, description="Runner of jobs whose queue runner_routes does not name."
    )
    runner_management_mode: Literal["managed", "external"] = Field(
        default="managed", description="Whether the daemon starts the runners or somebody else does."
    )
    runners: dict[str, RunnerSettings] = Field(
        default_factory=dict, description="Socket runners by name: [rrq.runners.<name>]."
    )
    runner_routes: dict[QueueName, str] = Field(
        default_factory=dict, description="Which runner serves which queue. RRQ's older name: routing."
    )
    worker_health_check_interval_seconds: float = Field(
        default=60.0,
        gt=0,
        le=LONGEST_SECONDS,
        description="Time between two writes of a worker's health record, in seconds.",
    )
    worker_health_check_ttl_buffer_seconds: float = Field(
        default=10.0,
        ge=0,
        le=LONGEST_SECONDS,
        description="How much longer that record lives than the interval, in seconds.",
    )
    base_retry_delay_seconds: float = Field(
        default=5.0,
        ge=0,
        le=LONGEST_SECONDS,
        description="Wait before the second run of a failed job, in seconds; it doubles.",
    )
    max_retry_delay_seconds: float = Field(
        default=3600.0, ge=0, le=LONGEST_SECONDS, description="The longest such wait, in seconds."
    )
    worker_shutdown_grace_period_seconds: float = Field(
        default=10.0,
        ge=0,
        le=LONGEST_SECONDS,
        description="Time RRQ's own workers give running jobs when they stop, in seconds.",
    )
    cron_jobs: list[CronJobSettings] = Field(
        default_factory=list, description="Jobs enqueued by the clock: [[rrq.cron_jobs]]. Older name: cron."
    )
    expected_job_ttl: int = Field(default=30, description="Accepted because RRQ accepts it; read by nobody.")
    watch: WatchSettings = Field(
        default_factory=WatchSettings,
        description="Restart on changes of files, for development: [rrq.watch].",
    )
    correlation_mappings: dict[str, str] = Field(
        default_factory=dict, description="Span and log fields taken from job parameters: field name = dotted path."
    )
