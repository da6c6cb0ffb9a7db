"""What should be: pools, molds and limits, made from the settings.

Pure: settings in, plan out. A plan is never changed; a reload or a change of size makes another.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rrqd.config.pool_table import PoolSettings
    from rrqd.config.settings import Settings


@dataclass(frozen=True, slots=True)
class MoldSpec:
    """What makes molds alike: pools with the same six share one. `name` is the first such pool's."""

    name: str
    handlers: str
    preload: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    cwd: str | None = None
    warmup: tuple[str, ...] = ()
    middleware: tuple[str, ...] = ()

    def fields(self, config_folder: Path) -> dict[str, Any]:
        """Its part of the boot record."""
        return {
            "name": self.name,
            "handlers": self.handlers,
            "preload": list(self.preload),
            "warmup": list(self.warmup),
            "middleware": list(self.middleware),
            "environment": dict(self.environment),
            "cwd": str(config_folder / self.cwd) if self.cwd else None,
            "config_folder": str(config_folder),
        }


@dataclass(frozen=True, slots=True)
class Wear:
    """How long a worker of a pool serves; None: for ever."""

    max_jobs: int | None = None
    max_age_seconds: float | None = None
    max_memory_bytes: int | None = None
    kill_memory_bytes: int | None = None
    jitter: float = 0.0
    with_runner: bool = False
    """Its memory is that of the worker and of the runner below it."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """Between what sizes a pool may scale itself, and when it grows."""

    least: int
    most: int
    latency_seconds: float


@dataclass(frozen=True, slots=True)
class PoolPlan:
    name: str
    processes: int
    mold: str
    queues: tuple[str, ...] = ()
    generation: int = 1
    """Of code and settings: older than the plan's own when a reload left this pool as it was."""
    wear: Wear = Wear()
    scaling: Scaling | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds of patience, from the settings."""

    boot_seconds: float = 60.0
    stop_seconds: float = 25.0
    grace_seconds: float = 5.0
    hang_seconds: float = 30.0
    longest_job_seconds: float = 31_536_000.0

    @property
    def hand_back_seconds(self) -> float:
        """At a stop: for a worker to hand back what it still holds, before it is killed."""
        return min(2.0, self.stop_seconds * 0.15)

    @property
    def drain_seconds(self) -> float:
        """At a stop: for jobs to finish. The rest of the time is for handing back, and for all others to leave."""
        return max(0.0, self.stop_seconds - self.hand_back_seconds - min(1.0, self.stop_seconds * 0.05))


MoldKey = tuple[str, int]
"""Name and generation: after a reload that left some pools alone, molds of two generations are wanted."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What should be: the pools, the molds they are forked from, and everybody's limits."""

    generation: int
    pools: Mapping[str, PoolPlan]
    molds: Mapping[MoldKey, MoldSpec]
    limits: Limits = field(default_factory=Limits)

    @property
    def workers(self) -> int:
        """How many workers the whole node should have."""
        return sum(pool.processes for pool in self.pools.values())


def plan_of(settings: Settings, generation: int) -> Plan:
    """The plan that these settings ask for."""
    molds: dict[MoldSpec, MoldSpec] = {}
    pools: dict[str, PoolPlan] = {}
    for name, pool in settings.rrqd.pools.items():
        environment = tuple(sorted(pool.environment.items()))
        spec = MoldSpec(
            name, pool.handlers, tuple(pool.preload), environment, pool.cwd, tuple(pool.warmup), tuple(pool.middleware)
        )
        spec = molds.setdefault(replace(spec, name=""), spec)
        pools[name] = PoolPlan(
            name,
            pool.process_count,
            spec.name,
            tuple(pool.queues),
            generation,
            _wear(pool),
            _scaling(pool),
        )
    daemon = settings.rrqd
    limits = Limits(
        boot_seconds=daemon.boot_timeout_seconds,
        stop_seconds=daemon.stop_timeout_seconds,
        grace_seconds=daemon.timeout_grace_seconds,
        hang_seconds=daemon.hang_timeout_seconds,
        longest_job_seconds=daemon.max_job_timeout_seconds,
    )
    return Plan(generation, pools, {(spec.name, generation): spec for spec in molds.values()}, limits)


def _wear(pool: PoolSettings) -> Wear:
    return Wear(
        pool.max_jobs,
        pool.max_age_seconds,
        pool.max_memory_bytes,
        pool.kill_memory_bytes,
        pool.recycle_jitter,
        pool.runner is not None,
    )


def _scaling(pool: PoolSettings) -> Scaling | None:
    if pool.max_processes is None:
        return None
    return Scaling(pool.min_processes or 1, pool.max_processes, pool.scale_latency_seconds)


def keeping(plan: Plan, before: Plan, unchanged: Collection[str]) -> Plan:
    """The same plan, but the pools named stay with the code and the molds that they have."""
    pools = {name: before.pools[name] if name in unchanged else pool for name, pool in plan.pools.items()}
    wanted = {(pool.mold, pool.generation) for pool in pools.values()}
    molds = {key: spec for key, spec in {**before.molds, **plan.molds}.items() if key in wanted}
    return replace(plan, pools=pools, molds=molds)
