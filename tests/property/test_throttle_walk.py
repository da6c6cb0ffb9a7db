"""Throttles and rates under moves in any order: never more than the limit start, what is held is what runs, each job is
in one place, and in the end nobody is left waiting and no key is left over.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from rrqd.model.job import ClaimedJob, Rate
from rrqd.model.lifecycle import End
from rrqd.store import Charge, Store
from tests.support.moves import Hand, hand, job, raw

NAMES = ("one", "two", "three")
QUEUES = ("a", "b")
STEPS = 200
ENDS = [End.COMPLETE, End.COMPLETE, End.COMPLETE, End.RETRY, End.SNOOZE, End.BURY, End.CANCEL]
FAST = Rate(name="fast", limit=1000, per_seconds=1)


class Walk:
    """A store, what runs in it as far as its workers know, and the limits that were set."""

    def __init__(self, store: Store, dice: random.Random) -> None:
        self.store = store
        self.dice = dice
        self.limits: dict[str, int] = {}
        self.hands: list[Hand] = []
        self.running: dict[str, tuple[Hand, ClaimedJob]] = {}
        self.throttles: dict[str, tuple[str, ...]] = {}
        self.workers = 0

    async def begin(self) -> None:
        for name in (*NAMES, "queue:b"):
            await self.set_limit(name, self.dice.randint(1, 3))
        for _ in range(3):
            await self.hire()

    async def hire(self) -> None:
        self.workers += 1
        self.hands.append(await hand(self.store, f"w{self.workers}", queues=list(QUEUES)))

    async def set_limit(self, name: str, limit: int) -> None:
        self.limits[name] = limit
        await self.store.set_throttle(name, limit)

    # -- the moves -----------------------------------------------------------------------------------------

    async def enqueue(self) -> None:
        batch = []
        for _ in range(self.dice.randint(1, 4)):
            job_id, queue = f"j{len(self.throttles)}", self.dice.choice(QUEUES)
            names = tuple(self.dice.sample(NAMES, self.dice.randint(0, 2)))
            self.throttles[job_id] = (*names, "queue:b") if queue == "b" else names
            batch.append(
                job(
                    job_id, queue=queue, throttles=names, priority=self.dice.choice([None, None, 3, -1]),
                    rate=self.dice.choice([None, FAST]),
                )
            )  # fmt: skip
        await self.store.enqueue_many(batch)

    async def claim(self) -> None:
        one = self.dice.choice(self.hands)
        jobs = (await one.claim(self.dice.randint(1, 4))).jobs
        for claimed in jobs:
            assert claimed.id not in self.running
            self.running[claimed.id] = one, claimed
        started = {name for claimed in jobs for name in self.throttles[claimed.id]}
        for name in started:
            assert len(self.holders(name)) <= self.limits[name], name

    async def settle(self) -> None:
        if self.running:
            job_id = self.dice.choice(sorted(self.running))
            one, claimed = self.running.pop(job_id)
            assert await one.settle(claimed, self.dice.choice(ENDS), delay_ms=0) == "ok"

    async def release(self) -> None:
        if self.running:
            one, claimed = self.running.pop(self.dice.choice(sorted(self.running)))
            await self.store.release(one.worker_id, [(claimed.id, claimed.token)], "drain")

    async def die(self) -> None:
        one = self.hands.pop(self.dice.randrange(len(self.hands)))
        self.running = {job_id: held for job_id, held in self.running.items() if held[0] is not one}
        await self.store.close_worker(one.worker_id, reason="died", charge=Charge.NOBODY)
        await self.hire()

    async def cancel(self) -> None:
        if self.throttles:
            await self.store.cancel(self.dice.choice(list(self.throttles)))

    async def revive(self) -> None:
        await self.store.revive(await self.store.dlq_list(limit=2))

    async def change(self) -> None:
        """A limit goes up or down; those who run, run on."""
        await self.set_limit(self.dice.choice(list(self.limits)), self.dice.randint(1, 4))

    async def prioritise(self) -> None:
        if self.throttles:
            await self.store.prioritise(self.dice.choice(list(self.throttles)), self.dice.choice([None, 5]))

    async def tend(self) -> None:
        await self.store.tend_throttles()

    # -- what holds ----------------------------------------------------------------------------------------

    def holders(self, name: str) -> set[str]:
        return {job_id for job_id in self.running if name in self.throttles[job_id]}

    async def check(self) -> None:
        for name in self.limits:
            assert set(await self.store.throttle_holders(name)) == self.holders(name), name
        places = [job_id async for job_id in self.places()]
        assert sorted(places) == sorted(set(places))
        for job_id, found in zip(self.throttles, await self.store.jobs(list(self.throttles)), strict=True):
            assert found is not None
            assert found.status.is_final == (job_id not in places), (job_id, found.fields)

    async def places(self) -> Any:
        for name in QUEUES:
            for key in (self.store.keys.queue(name), self.store.keys.later(name)):
                for member in await raw(self.store, "ZRANGE", key, 0, -1):
                    yield member.decode()
            for member in await raw(self.store, "ZRANGE", self.store.keys.prio(name), 0, -1):
                yield member.decode().partition(" ")[2]
        for name in NAMES:
            for member in await raw(self.store, "ZRANGE", self.store.keys.parked(name), 0, -1):
                yield member.decode().partition(" ")[2]
        for job_id in self.running:
            yield job_id

    async def finish(self) -> None:
        """Everybody's turn comes under the limits as they are; then nothing is left."""
        for _ in range(500):
            await self.store.tend_throttles()
            for one in self.hands:
                for claimed in await one.take():
                    self.running[claimed.id] = one, claimed
            for one, claimed in self.running.values():
                await one.settle(claimed)
            self.running.clear()
            if not [job_id async for job_id in self.places()]:
                break
        await self.check()
        left = [key.decode() for kind in ("holders", "parked", "prio", "later") for key in
                await raw(self.store, "KEYS", f"rrqd:{kind}:*")]  # fmt: skip
        assert left == []


MOVES = (
    [Walk.enqueue] * 6 + [Walk.claim] * 8 + [Walk.settle] * 6
    + [Walk.release, Walk.die, Walk.cancel, Walk.revive, Walk.change, Walk.prioritise, Walk.tend]
)  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
async def test_a_walk(store: Store, seed: int) -> None:
    walk = Walk(store, random.Random(seed))
    await walk.begin()
    for _ in range(STEPS):
        await walk.dice.choice(MOVES)(walk)
        await walk.check()
    await walk.finish()
