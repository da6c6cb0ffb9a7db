"""Every key of `[rrqd.pools.*]`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from rrqd.config.fields import (
    Cpus,
    HandlerSpec,
    ModuleName,
    Processes,
    QueueName,
    ResourceLimit,
    Table,
    Umask,
    VariableName,
    VariableValue,
    Weight,
)
from rrqd.config.rrq_table import LONGEST_SECONDS
from rrqd.config.shapes import MOST_THREADS, PoolShape

MOST_PROCESSES = 1024
MOST_IN_FLIGHT = 64
"""Of one runner: the protocol's own limit."""
BRIDGE = "rrqd.bridge.pool:handlers"
"""What stands for handlers where a runner does."""
OnTimeout = Literal["retry", "bury"]
LimitName = Literal["nofile", "core", "data", "fsize", "nproc", "cpu", "stack", "memlock"]


class PoolSettings(PoolShape, Table):
    """`[rrqd.pools.<name>]`: worker processes that share queues, handlers and limits."""

    queues: list[QueueName] = Field(
        default_factory=lambda: ["default"],
        min_length=1,
        description="Queues the pool takes jobs from, each in its turn; also patterns (docs/stored-config.md). "
        "Left out: rrq.default_queue_name.",
    )
    queue_order: Literal["turns", "strict", "buckets"] = Field(
        default="turns",
        description="turns: each queue gets its share. strict: jobs of an earlier queue always come first. "
        "buckets: as the store says (docs/stored-config.md); while it says nothing, turns.",
    )
    queue_weights: dict[QueueName, Weight] = Field(
        default_factory=dict,
        description="How often a queue is served, against the others; those not named have 1. Left out: all alike.",
    )
    processes: Processes = Field(
        default=1,
        description="Worker processes; auto: one for each processor that rrqd may use.",
    )
    min_processes: int | None = Field(
        default=None,
        ge=1,
        le=MOST_PROCESSES,
        description="With max_processes: the pool grows while due jobs wait longer than scale_latency_seconds, and "
        "shrinks to this when idle. Left out: the pool keeps its size.",
    )
    max_processes: int | None = Field(
        default=None, ge=1, le=MOST_PROCESSES, description="The most that scaling by itself may reach."
    )
    scale_latency_seconds: float = Field(
        default=5.0,
        gt=0,
        le=86_400,
        description="How long the oldest due job may wait before a pool with max_processes grows, in seconds.",
    )
    concurrency: int = Field(
        default=10, ge=1, le=1000, description='Jobs one process runs at the same time; isolation = "process" runs one.'
    )
    handlers: HandlerSpec = Field(
        description="Where the handlers are: module:object, a Registry or PythonRunnerSettings. "
        "The configuration file's folder is importable. Needed unless the pool has a runner.",
    )
    runner: str | None = Field(
        default=None,
        min_length=1,
        description="In place of handlers: a runner, [rrq.runners.<name>], of which each worker has one process.",
    )
    runner_socket: Literal["auto", "tcp", "inherited"] = Field(
        default="auto",
        description="How the runner is reached: tcp, as in RRQ; inherited: a socket that nobody else can connect to. "
        "auto: inherited for rrqd's own runner.",
    )
    preload: list[ModuleName] = Field(
        default_factory=list,
        description="Further modules imported once, before the workers are forked, whose memory they then share.",
    )
    warmup: list[HandlerSpec] = Field(
        default_factory=list,
        description="Functions (module:function, no arguments) called once after the imports, before the fork.",
    )
    middleware: list[HandlerSpec] = Field(
        default_factory=list,
        description="Context managers around each run (module:object, called with the request), the outermost first.",
    )
    isolation: Literal["async", "process"] = Field(
        default="async",
        description="async: many jobs in one event loop. process: one job at a time, alone in its process; what it has "
        "started ends with it.",
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=MOST_THREADS,
        description=f"Threads for handlers that are not async. Left out: as concurrency, at most {MOST_THREADS}.",
    )
    environment: dict[VariableName, VariableValue] = Field(
        default_factory=dict, description="Environment variables set before the pool's modules are imported."
    )
    cwd: str | None = Field(
        default=None,
        min_length=1,
        description="Working directory of the pool; relative to the configuration file. Left out: the daemon's.",
    )
    max_jobs: int | None = Field(
        default=None, ge=1, description="Jobs after which a worker is replaced by a fresh one. Left out: never."
    )
    max_age_seconds: float | None = Field(
        default=None,
        gt=0,
        le=LONGEST_SECONDS,
        description="Age at which a worker is replaced by a fresh one, in seconds. Left out: never.",
    )
    max_memory_bytes: int | None = Field(
        default=None,
        ge=1_048_576,
        description="Private memory at which a worker drains and is replaced, in bytes. Left out: never.",
    )
    kill_memory_bytes: int | None = Field(
        default=None,
        ge=1_048_576,
        description="Private memory at which a worker is killed at once, in bytes. Left out: never.",
    )
    recycle_jitter: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Share by which max_jobs and max_age_seconds are shortened for each worker, drawn at its birth.",
    )
    nice: int = Field(default=0, ge=-20, le=19, description="Niceness added to the daemon's; lower needs privileges.")
    umask: Umask | None = Field(
        default=None, description="Permissions that new files don't get, octal: \"027\". Left out: the daemon's."
    )
    oom_score_adj: int = Field(
        default=300,
        ge=0,
        le=1000,
        description="How much rather the kernel kills a worker than another process when memory is out.",
    )
    cpus: Cpus = Field(
        default="all", description="Processors: all, spread (each worker one, in turn), or numbers as in 0-3,5."
    )
    limits: dict[LimitName, ResourceLimit] = Field(
        default_factory=dict,
        description="Limits of each process as setrlimit knows them: nofile, core, data, fsize, nproc, cpu, stack, "
        "memlock; in their own units.",
    )
    no_new_privs: bool = Field(
        default=False, description="Workers and their programs can never gain privileges (sudo, setuid)."
    )
    landlock: bool = Field(
        default=False,
        description="Workers may write only below their sandbox, their TMPDIR and the paths in writable "
        "(Linux 5.13 or newer).",
    )
    writable: list[str] = Field(
        default_factory=list, description="Further paths where landlock lets workers write; relative to the file."
    )
    sandbox: bool = Field(default=True, description="Offer each job a folder of its own, removed when the job is over.")
    timeout_seconds: float | None = Field(
        default=None,
        gt=0,
        le=LONGEST_SECONDS,
        description="Replaces rrq.default_job_timeout_seconds in this pool, in seconds.",
    )
    max_retries: int | None = Field(
        default=None, ge=0, le=1_000_000, description="Replaces rrq.default_max_retries in this pool."
    )
    on_timeout: OnTimeout | None = Field(default=None, description="Replaces rrqd.on_timeout in this pool.")

    @model_validator(mode="before")
    @classmethod
    def _runner_for_handlers(cls, table: Any) -> Any:
        return {"handlers": BRIDGE, **table} if isinstance(table, dict) and "runner" in table else table
