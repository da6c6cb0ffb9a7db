"""No call does much, whatever lies there: the commands of the dearest call of each script, at size."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rrqd.model.job import Rate
from rrqd.model.lifecycle import End
from rrqd.model.verdict import Verdict
from rrqd.runtime.order import QUEUES_MOST
from rrqd.store import Charge, Settlement, Store
from rrqd.store.scripts import digests, script
from tests.support.moves import Hand, hand, job, known, raw

SIZE = 5_000
#: About 20,000 instructions each: 25 million, which take less than 10 ms on a slow machine, too.
MOST = 1_250
DONE = Verdict(end=End.COMPLETE, result=b"1", ttl_seconds=60)
AGAIN = Verdict(end=End.RETRY, error="it went wrong " * 30, delay_ms=0)


class Counted:
    """Counts what each script's dearest call makes. While it does, a store's calls are made one by one."""

    def __init__(self, store: Store, patch: pytest.MonkeyPatch) -> None:
        self.store = store
        self.patch = patch
        self.worst: dict[str, int] = defaultdict(int)
        self.alone = asyncio.Lock()

    async def begin(self) -> Hand:
        names, link = digests(), await self.store.link()
        for name in names.values():
            await link.call("SCRIPT", "LOAD", script(name).text)
        told = link.call

        async def call(*words: Any) -> Any:
            async with self.alone:
                before = await self._made(told)
                answer = await told(*words)
                made = await self._made(told) - before
            self.worst[names[words[1]]] = max(self.worst[names[words[1]]], made)
            return answer

        self.patch.setattr(link, "call", lambda *words: call(*words) if words[0] == "EVALSHA" else told(*words))
        return await hand(self.store)

    async def _made(self, told: Callable[..., Awaitable[Any]]) -> int:
        """By the server's own count, in all."""
        lines = (await told("INFO", "commandstats")).decode().splitlines()
        return sum(int(one.split("calls=")[1].split(",")[0]) for one in lines if one.startswith("cmdstat_"))

    def judge(self) -> None:
        assert {name: made for name, made in self.worst.items() if made > MOST} == {}


@pytest.fixture
def counted(store: Store, monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(store, monkeypatch)


async def work(worker: Hand, times: int, verdict: Verdict = DONE) -> None:
    for _ in range(times):
        jobs = await worker.take(100)
        await worker.store.settle(worker.worker_id, [Settlement(one.id, one.token, verdict) for one in jobs])


async def test_plain_jobs(counted: Counted, store: Store) -> None:
    worker = await counted.begin()
    await store.enqueue_many([job(f"j{n}") for n in range(SIZE)])
    await work(worker, 2)
    await work(worker, 2, AGAIN)
    await worker.claim(1000)
    await store.close_worker(worker.worker_id, reason="told to", charge=Charge.DEATH)
    await store.cancel_many([f"j{n}" for n in range(SIZE - 300, SIZE)])
    counted.judge()


async def test_jobs_with_every_option(counted: Counted, store: Store) -> None:
    worker = await counted.begin()
    for n in range(8):
        await store.set_throttle(f"t{n}", 1000)
    throttles, tags = tuple(f"t{n}" for n in range(8)), tuple(f"tag-{n}" for n in range(32))
    await store.enqueue_many(
        [
            job(
                f"j{n}", throttles=throttles, tags=tags, track=True, priority=n % 3, tenant=f"x{n}",
                rate=Rate(name=f"r{n}", limit=9, per_seconds=1),
            )
            for n in range(600)
        ]
    )  # fmt: skip
    await work(worker, 3)
    await work(worker, 3, AGAIN)
    await worker.claim(100)
    await store.close_worker(worker.worker_id, reason="told to", charge=Charge.DEATH)
    ids = [f"j{n}" for n in range(400, 600)]
    await store.move(ids, queue="elsewhere")
    await store.cancel_many(ids)
    await store.purge(ids)
    counted.judge()


async def test_jobs_that_many_throttles_stop(counted: Counted, store: Store) -> None:
    worker = await counted.begin()
    for n in range(200):
        await store.set_throttle(f"t{n}", 1)
    await store.enqueue_many(
        [job(f"j{n}", throttles=tuple(f"t{(n * 8 + k * (1 + n % 7)) % 200}" for k in range(8))) for n in range(400)]
    )
    left = 400
    for _ in range(400):
        jobs = (await worker.claim(100)).jobs
        await store.settle(worker.worker_id, [Settlement(one.id, one.token, DONE) for one in jobs])
        left -= len(jobs)
        if not jobs:
            await store.tend_throttles()
        if left == 0:
            break
    assert left == 0
    counted.judge()


async def test_many_queues_with_jobs_in_every_place(counted: Counted, store: Store) -> None:
    worker = await counted.begin()
    worker.queues = [f"q{n}" for n in range(QUEUES_MOST)]
    kinds: list[dict[str, Any]] = [
        {}, {"priority": 3}, {"priority": -3}, {"priority": 1, "delay_ms": 10**8}, {"tenant": "x"},
        {"throttles": ("t",)},
    ]  # fmt: skip
    await store.enqueue_many([job(queue=queue, **kind) for kind in kinds for queue in worker.queues])
    for _ in range(2):
        while jobs := await worker.take(100):
            await store.settle(worker.worker_id, [Settlement(one.id, one.token, DONE) for one in jobs])
    counted.judge()


async def test_families(counted: Counted, store: Store) -> None:
    worker = await counted.begin()
    await store.enqueue_many([job("parent"), *(job(f"p{n}", queue="p") for n in range(100))])
    parents = tuple(f"p{n}" for n in range(100))
    await store.enqueue_many([job(f"c{n}", parents=parents) for n in range(100)])
    await store.enqueue_many([job(f"d{n}", parents=("parent", "p0"), on_parent="cancel") for n in range(SIZE)])
    await work(worker, 1, Verdict(end=End.BURY, error="told to", ttl_seconds=60))
    more, at = await store.inform(0)
    while more:
        more, at = await store.inform(at)
    assert (await known(store, f"d{SIZE - 1}")).status == "CANCELLED"
    assert await store.cancel_many([f"c{n}" for n in range(100)]) == ["cancelled"] * 100
    counted.judge()


async def test_long_pasts_are_written_in_several_calls(store: Store) -> None:
    """Fifty entries a job that are read and written again: a call of a hundred such jobs would take tens of ms."""
    await store.enqueue_many([job(f"j{n}") for n in range(100)])
    entry = {"what": "retrying", "at": "2026-01-01T00:00:00+00:00", "worker": "w", "why": "it went wrong " * 20}
    past = json.dumps([entry] * 50)
    for n in range(100):
        await raw(store, "HSET", store.keys.job(f"j{n}"), "rrqd_history", past)
    worker = await hand(store)
    jobs = (await worker.claim(100)).jobs
    while len(jobs) < 100:
        jobs += (await worker.claim(100)).jobs
    ends = [Settlement(one.id, one.token, AGAIN) for one in jobs]

    answers, _ = await store.turn(worker.worker_id, ends, None)
    assert 0 < len(answers) < 50
    assert await store.settle(worker.worker_id, ends) == ["ok"] * 100


async def test_large_jobs_come_a_few_at_a_time(store: Store) -> None:
    large = b'{"x":"%s"}' % (b"y" * 300_000)
    await store.enqueue_many([job(f"j{n}", params=large) for n in range(10)])
    worker, calls, taken = await hand(store), 0, list[str]()
    while len(taken) < 10:
        claim = await worker.claim(100)
        taken += [one.id for one in claim.jobs]
        calls += 1
        assert len(claim.jobs) <= 4
    assert calls == 3
