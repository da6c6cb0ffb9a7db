"""When a worker has served long enough: by jobs, by age, by memory of its own, and when all together have too much.

Writes its findings into the rows; `keeping` replaces who is worn, `decisions` kills who bursts.
"""

from __future__ import annotations

import random

from rrqd.logs import Logger
from rrqd.supervisor.acts import Crew
from rrqd.supervisor.children import Child, Phase, State
from rrqd.supervisor.memory import GroupMemory, private_bytes
from rrqd.supervisor.plans import Wear

MEMORY_SECONDS = 15.0
"""How often a worker's memory is read for the record, and …"""
LIMITED_MEMORY_SECONDS = 2.0
"""… where its pool has a limit."""
GUARD_SECONDS = 1.0
GUARD_PAUSE_SECONDS = 10.0
"""After one was sacrificed for all: memory comes back when it is gone, not before."""
GUARD_KILL_SHARE = 0.97
"""Above this there is no time for a drain."""
TRAIL = 40


def draw(child: Child, wear: Wear, chance: float) -> None:
    """A worker's own limits, up to the pool's jitter below the pool's: those born together don't go together."""
    share = 1.0 - wear.jitter * chance
    if wear.max_jobs is not None:
        child.jobs_limit = max(1.0, wear.max_jobs * share)
    if wear.max_age_seconds is not None:
        child.age_limit = wear.max_age_seconds * share


def worn_by(child: Child, wear: Wear, jobs: int, now: float) -> str:
    """Why this worker should be replaced; empty when it need not be."""
    if jobs >= child.jobs_limit:
        return f"{jobs} jobs"
    if now - child.started_at >= child.age_limit:
        return f"{now - child.started_at:.0f} s old"
    if wear.max_memory_bytes is not None and child.private_bytes >= wear.max_memory_bytes:
        return f"{child.private_bytes >> 20} MiB of its own"
    return ""


class WearWatch:
    """Looks at jobs, ages and memory. `turn` is called with every turn of the loop; it looks when it is time."""

    def __init__(self, state: State, crew: Crew, log: Logger, group: GroupMemory | None, guard_share: float) -> None:
        self.state = state
        self.crew = crew
        self.log = log
        self.group = group
        self.guard_share = guard_share
        self._look_at: dict[int, float] = {}
        self._guard_at = 0.0

    def turn(self, now: float) -> None:
        ready = [one for one in self.state.workers() if one.phase in (Phase.READY, Phase.LEAVING) and one.pid]
        for child in ready:
            pool = self.state.plan.pools.get(child.name)
            wear = pool.wear if pool is not None else Wear()
            if child.key not in self._look_at:
                draw(child, wear, random.random())
            self._measure(child, wear, now)
            jobs = self.crew.jobs_done(child)
            self.state.worked(child, jobs, now)
            if child.phase is Phase.READY and not child.worn:
                why = worn_by(child, wear, jobs, now)
                if why:
                    self._wear(child, why)
        self._look_at = {one.key: self._look_at[one.key] for one in ready if one.key in self._look_at}
        if self.group is not None and now >= self._guard_at:
            self._guard_at = now + GUARD_SECONDS
            self._guard(self.group, ready, now)

    def _measure(self, child: Child, wear: Wear, now: float) -> None:
        limited = wear.max_memory_bytes is not None or wear.kill_memory_bytes is not None
        every = LIMITED_MEMORY_SECONDS if limited else MEMORY_SECONDS
        # The first look comes at a moment of chance, so that workers born together are not read together.
        due = self._look_at.setdefault(child.key, now + every * random.random())
        if now < due:
            return
        self._look_at[child.key] = now + every
        self.measure(child, now)
        if wear.kill_memory_bytes is not None and child.private_bytes >= wear.kill_memory_bytes:
            child.bursting = True

    def measure(self, child: Child, now: float) -> None:
        """Read a worker's memory now."""
        pool = self.state.plan.pools.get(child.name)
        with_runner = pool is not None and pool.wear.with_runner
        child.private_bytes = private_bytes(child.pid or 0, with_runner) or child.private_bytes
        child.memory_trail.append((round(now - child.started_at, 1), child.private_bytes))
        del child.memory_trail[:-TRAIL]

    def _wear(self, child: Child, why: str) -> None:
        child.worn = why
        self.log.info("worker.worn", **self.crew.who(child), why=why)

    def _guard(self, group: GroupMemory, workers: list[Child], now: float) -> None:
        """In a container the kernel's answer to too much memory may be the end of everybody, the master too. Before
        that the largest worker goes."""
        share = group.used_share()
        if share < self.guard_share or not workers:
            return
        for child in workers:
            self.measure(child, now)
        largest = max(workers, key=lambda one: one.private_bytes)
        self._guard_at = now + GUARD_PAUSE_SECONDS
        facts = {"used_share": round(share, 3), "private_bytes": largest.private_bytes}
        self.log.warning("memory.short", **self.crew.who(largest), **facts)
        if share >= GUARD_KILL_SHARE:
            largest.bursting = True
        elif not largest.worn:
            self._wear(largest, "memory is short")
