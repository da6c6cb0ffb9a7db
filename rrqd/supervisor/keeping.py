"""Keeping the pools: each slot has a worker of the right generation, fresh enough, quiet or not as wished.

Pure, as `decisions`. One rule serves a reload, a restart by hand and recycling alike: a worker that should not stay is
*old*; its replacement is started beside it, a few at a time, and it drains when the new one is ready. Jobs take long,
and so no roll costs capacity or kills a job.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from rrqd.supervisor.actions import Action, Drain, Quiet, Start
from rrqd.supervisor.children import Child, Kind, Phase, State
from rrqd.supervisor.plans import PoolPlan

DRAINING_GENERATIONS = 2
"""So many older generations of a pool drain at a time; who is older hands back what it still runs."""
SURGE_SHARE = 4
"""One in so many of a pool's workers is replaced at a time, at least one."""


def workers(state: State, now: float) -> Iterator[Action]:
    """Start, drain, quieten: what all pools need now."""
    plan = state.plan
    for pool in plan.pools.values():
        yield from _pool(state, pool, now)
    draining = _draining(state)
    for worker in state.workers():
        if worker.serving and worker.name not in plan.pools:
            yield Drain(worker, plan.limits.longest_job_seconds)
        elif (
            worker in draining.get(worker.name, ())
            and worker.generation not in _newest(draining[worker.name])
            and worker.leave_by > now
        ):
            yield Drain(worker, 0.0)
        elif worker.phase is Phase.READY and worker.quiet != state.is_paused(worker.name):
            yield Quiet(worker, not worker.quiet)


def _draining(state: State) -> dict[str, list[Child]]:
    """Pool -> those who drain because there is newer code."""
    found: dict[str, list[Child]] = {}
    for worker in state.workers():
        pool = state.plan.pools.get(worker.name)
        older = pool is None or worker.generation < pool.generation
        if worker.phase is Phase.LEAVING and older and not worker.worn:
            found.setdefault(worker.name, []).append(worker)
    return found


def _newest(draining: list[Child]) -> list[int]:
    """The generations among them that may go on. Numbers alone prove nothing: a reload that failed, or left the pool
    alone, has one, too."""
    return sorted({one.generation for one in draining})[-DRAINING_GENERATIONS:]


def stays(worker: Child, pool: PoolPlan) -> bool:
    """A worker that need not be replaced."""
    return worker.serving and worker.generation == pool.generation and not worker.worn


def _pool(state: State, pool: PoolPlan, now: float) -> Iterator[Action]:
    longest = state.plan.limits.longest_job_seconds
    mine = [one for one in state.workers() if one.name == pool.name and not one.lost(now)]
    starting = sum(one.phase is Phase.STARTING for one in mine)
    can_start = _can_start(state, pool, now)
    surge = max(1, pool.processes // SURGE_SHARE)
    probing = state.probing(f"{Kind.WORKER}:{pool.name}")
    for slot in range(pool.processes):
        here = [one for one in mine if one.slot == slot]
        new = next((one for one in here if stays(one, pool)), None)
        old = [one for one in here if one.serving and one is not new]
        if new is None:
            room = starting < (surge if old else 1 if probing else math.inf)
            dying = any(one.phase is Phase.KILLING for one in here)
            if can_start and room and not dying:
                starting += 1
                yield Start(Kind.WORKER, pool.name, slot, pool.generation)
        if new is None or new.phase is not Phase.READY:
            # One goes on working until then. Who reloads or restarts again during a roll makes no heap of them.
            old = [one for one in old if one.phase is Phase.READY][:-1]
        for one in old:
            yield Drain(one, longest)
    for one in mine:
        if one.slot >= pool.processes and one.serving:
            yield Drain(one, longest)


def _can_start(state: State, pool: PoolPlan, now: float) -> bool:
    mold = state.mold(pool.mold, pool.generation)
    return (
        mold is not None
        and mold.phase is Phase.READY
        and Kind.STEWARD in state.ever_ready
        and state.open_again(f"{Kind.WORKER}:{pool.name}", now)
    )
