"""Throttles: how many jobs that name one may run at a time, over all queues and machines. ``queue:<name>`` is the
limit of a queue itself.

A limit is what it is at the moment of a claim: raised, lowered or lifted, it counts for the next one. Jobs that it
stops wait in ``rrqd:parked:<throttle>``, in the order they had, and the end of a run under it moves the first one back
to its queue. What no end tells of (a limit that was changed or has expired, a holder whose record is gone) ``tend``
finds, which a steward calls once a second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from rrqd.store.base import Base
from rrqd.store.scripts import run

#: Jobs that one call moves back to their queues: a millisecond of the server's time.
WAKE_MOST = 60
#: Throttles that one call looks at.
TEND_MOST = 30


class ThrottleRow(msgspec.Struct, frozen=True, kw_only=True):
    """``limit``: ``None`` when none is set (any more), though jobs may still hold it or wait. ``seconds_left``: until
    the limit is lifted by itself; ``None``: it stays."""

    name: str
    limit: int | None
    running: int
    waiting: int
    seconds_left: float | None


class Throttles(Base):
    """All may be repeated."""

    async def set_throttle(self, name: str, limit: int, *, expires_seconds: float | None = None) -> bool:
        """Let at most ``limit`` jobs run under a throttle (0: none), for ever or for so long; those that wait and fit
        now are let go. Answers whether it is new."""
        lasts = "" if expires_seconds is None else f"{expires_seconds:.3f}"
        fresh = await run(await self.link(), "throttle", self.keys.token, "set", name, limit, lasts)
        await self._let_go(name, limit)
        return bool(fresh)

    async def delete_throttle(self, name: str) -> bool:
        """Lift a limit: all that wait for it are let go. False when there was none."""
        was = await run(await self.link(), "throttle", self.keys.token, "delete", name)
        await self._let_go(name, math.inf)
        return bool(was)

    async def free_throttle(self, name: str, job_ids: Sequence[str]) -> int:
        """These jobs, though they may run on, count no more; answers how many did."""
        return int(await run(await self.link(), "throttle", self.keys.token, "free", name, *job_ids))

    async def tend_throttles(self) -> int:
        """Let go of what may run of all that waits; answers how many jobs went back to their queues."""
        names = [name.decode() for name in await (await self.link()).call("SMEMBERS", self.keys.throttled)]
        total = 0
        for start in range(0, len(names), TEND_MOST):
            again = True
            while again:
                moved, again = await self._tend(names[start : start + TEND_MOST])
                total += moved
        return total

    async def has_upkeep(self) -> bool:
        """Whether somebody waits for a parent or at a throttle, or anything recurs."""
        keys = self.keys
        there = await (await self.link()).call(
            "EXISTS", f"{keys.namespace}rrqd:kin", f"{keys.namespace}rrqd:endings", keys.throttled, keys.recurring
        )
        return bool(there)

    async def _let_go(self, name: str, most: float) -> None:
        """What may run now that a limit has changed, up to ``most`` jobs."""
        moved, total = WAKE_MOST, 0
        while moved == WAKE_MOST and total < most:
            moved, _ = await self._tend([name])
            total += moved

    async def _tend(self, names: Sequence[str]) -> tuple[int, bool]:
        moved, again = await run(await self.link(), "throttle", self.keys.token, "tend", WAKE_MOST, *names)
        return int(moved), bool(again)

    async def throttle_names(self) -> list[str]:
        """Throttles that were set, and those at which something waits."""
        link = await self.link()
        found = await link.call("SUNION", self.keys.throttles, self.keys.throttled)
        return sorted(name.decode(errors="replace") for name in found)

    async def throttle_rows(self, names: Sequence[str]) -> list[ThrottleRow]:
        """How they stand, in one round trip."""
        link = await self.link()
        clock = link.call("TIME")
        calls = [
            (
                link.call("HMGET", self.keys.throttle(name), "limit", "until"),
                link.call("HLEN", self.keys.holders(name)),
                link.call("ZCARD", self.keys.parked(name)),
            )
            for name in names
        ]
        seconds, micros = await clock
        now_ms = int(seconds) * 1000 + int(micros) / 1000
        rows = []
        for name, (facts, holders, parked) in zip(names, calls, strict=True):
            limit, until = await facts
            left = None if until is None else (float(until) - now_ms) / 1000
            if left is not None and left <= 0:
                limit = left = None
            rows.append(
                ThrottleRow(
                    name=name,
                    limit=None if limit is None else int(limit),
                    running=int(await holders),
                    waiting=int(await parked),
                    seconds_left=left,
                )
            )
        return rows

    async def throttle_holders(self, name: str) -> list[str]:
        """Ids of the jobs that run under it."""
        return sorted(job_id.decode() for job_id in await (await self.link()).call("HKEYS", self.keys.holders(name)))

    async def throttle_waiting(self, name: str, *, offset: int = 0, limit: int = 25) -> list[str]:
        """Ids of jobs that wait for it, in the order in which they will run. (Of a queue's own none do: they wait in
        their queue.)"""
        link = await self.link()
        found = await link.call("ZRANGE", self.keys.parked(name), offset, offset + limit - 1)
        return [member.partition(b" ")[2].decode(errors="replace") for member in found]
