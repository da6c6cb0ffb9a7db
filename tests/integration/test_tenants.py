"""Tenants of one queue take turns, by weight: whoever has a million jobs starves nobody who has three."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rrqd import RRQClient
from rrqd.exc import InvalidRequest
from rrqd.model.job import NewJob
from rrqd.model.lifecycle import End
from rrqd.store import Charge, Store
from rrqd.store.why import why
from tests.integration.test_throttles import commands
from tests.support.line import Line
from tests.support.moves import Hand, hand, job, known, place_of, raw


def jobs_of(tenant: str, count: int, **fields: object) -> list[NewJob]:
    return [job(f"{tenant}-{n}", tenant=tenant, **fields) for n in range(count)]


async def order(worker: Hand, step: int = 7) -> list[str]:
    """All that can be claimed, in order; each job is completed, so that nothing is left."""
    taken: list[str] = []
    while found := await worker.take(step):
        for one in found:
            await worker.settle(one)
        taken += [one.id for one in found]
    return taken


async def test_three_jobs_do_not_wait_for_a_thousand(store: Store) -> None:
    await store.enqueue_many(jobs_of("whale", 1000))
    worker = await hand(store)
    assert [one.id for one in await worker.take(3)] == ["whale-0", "whale-1", "whale-2"]
    await store.enqueue_many(jobs_of("minnow", 3))

    taken = [one.id for one in await worker.take(8)]
    assert [one for one in taken if one.startswith("minnow")] == ["minnow-0", "minnow-1", "minnow-2"]
    assert [one for one in taken if one.startswith("whale")] == [f"whale-{n}" for n in range(3, 8)]


async def test_nobody_loses_for_what_was_idle_capacity_nor_gains_by_coming_late(store: Store) -> None:
    await store.enqueue_many(jobs_of("early", 200))
    worker = await hand(store)
    await worker.take(100)
    await store.enqueue_many(jobs_of("late", 200))

    taken = Counter(one.id.partition("-")[0] for one in await worker.take(100))
    assert abs(taken["early"] - taken["late"]) <= 1


async def test_turns_go_by_weight(store: Store) -> None:
    await store.set_weight("gold", 3)
    await store.enqueue_many([*jobs_of("plain", 100), *jobs_of("gold", 100)])

    taken = Counter(one.id.partition("-")[0] for one in await (await hand(store)).take(80))
    assert (taken["gold"], taken["plain"]) == (pytest.approx(60, abs=2), pytest.approx(20, abs=2))


async def test_any_mixture_comes_in_the_order_of_a_plain_reckoning(store: Store) -> None:
    dice = random.Random(11)
    weights = {"a": 1.0, "b": 2.0, "c": 0.5, "d": 1.0}
    for tenant, weight in weights.items():
        await store.set_weight(tenant, weight)
    worker, clock, turns = await hand(store), 0.0, dict[str, float]()
    waiting: list[tuple[float, int, str]] = []
    for number in range(400):
        if dice.random() < 0.6:
            tenant = dice.choice("aaaaabcd")
            start = max(clock, turns.get(tenant, 0.0))
            turns[tenant] = start + 1 / weights[tenant]
            waiting.append((start, number, f"{tenant}-{number}"))
            await store.enqueue_many([job(f"{tenant}-{number}", tenant=tenant)])
        elif waiting:
            waiting.sort()
            count = dice.randint(1, 4)
            found = await worker.take(count)
            assert [one.id for one in found] == [name for _, _, name in waiting[:count]]
            clock, waiting = waiting[len(found) - 1][0], waiting[count:]
            if not waiting:
                clock, turns = 0.0, {}
                await worker.take(1)  # the queue is seen to be empty, and begins anew


async def test_it_goes_through_all_places_and_leaves_nothing_behind(store: Store) -> None:
    await store.set_throttle("api", 1)
    await store.enqueue_many([
        *jobs_of("now", 2), *jobs_of("later", 2, delay_ms=60_000), *jobs_of("limited", 2, throttles=("api",)),
        job("parent"), job("child", parents=("parent",), tenant="kin"), job("first", tenant="now", priority=9),
    ])  # fmt: skip
    assert await place_of(store, "now-0") == ["fair:default"]
    assert await place_of(store, "later-0") == ["later:default"]
    assert await place_of(store, "first") == ["prio:default"]
    assert (await known(store, "first")).tenant == "now"
    assert (await store.queue_page("default", 0, 10))[0] == "first"
    (depth,) = await store.queue_depths(["default"])
    assert (depth.waiting, depth.due, depth.dependent) == (8, 6, 1)
    told = await why(store, "now-1")
    assert told is not None
    assert told.place == "fair"

    worker = await hand(store)
    await store.move(["later-0", "later-1"], delay_ms=0)
    assert sorted(await order(worker)) == [
        "child", "first", "later-0", "later-1", "limited-0", "limited-1", "now-0", "now-1", "parent",
    ]  # fmt: skip
    assert await worker.take() == []
    left = {key.decode() for key in await raw(store, "KEYS", "rrqd:*")}
    assert not {key for key in left if "fair" in key or "turns" in key or "prio" in key}


async def test_a_priority_goes_before_turns_and_can_be_given_and_taken(store: Store) -> None:
    await store.enqueue_many([*jobs_of("a", 3), *jobs_of("b", 1)])

    assert await store.prioritise("a-2", 5) == "moved"
    assert await place_of(store, "a-2") == ["prio:default"]
    assert await store.prioritise("a-2", None) == "moved"
    assert await place_of(store, "a-2") == ["fair:default"]
    assert await store.move(["b-0"], queue="other") == ["moved"]
    assert await place_of(store, "b-0") == ["fair:other"]
    assert await order(await hand(store)) == ["a-0", "a-1", "a-2"]


async def test_a_job_that_comes_back_undone_has_its_turn_at_once(store: Store) -> None:
    await store.enqueue_many([*jobs_of("a", 50), *jobs_of("b", 50)])
    worker = await hand(store)
    taken = [one.id for one in await worker.take(4)]
    await store.close_worker("worker-1", reason="drain", charge=Charge.NOBODY)

    worker = await hand(store, "worker-2")
    assert sorted(one.id for one in await worker.take(4)) == sorted(taken)
    claimed = (await worker.take(1))[0]
    await store.move([claimed.id], states=["running"])
    assert [one.id for one in await worker.take(1)] == [claimed.id]


async def test_a_tenant_whose_jobs_are_cancelled_has_its_turns_again(store: Store) -> None:
    await store.enqueue_many([*jobs_of("a", 100), *jobs_of("b", 10)])
    await store.cancel_many([f"a-{n}" for n in range(100)])
    await store.enqueue_many([job("a-new", tenant="a")])

    assert "a-new" in [one.id for one in await (await hand(store)).take(2)]


async def test_those_without_a_tenant_share_the_queue_with_the_tenants(store: Store) -> None:
    await store.enqueue_many([*jobs_of("a", 50), *[job(f"plain-{n}") for n in range(50)]])
    worker = await hand(store)
    taken = Counter([one.id.partition("-")[0] for _ in range(10) for one in await worker.take(4)])
    assert taken == {"a": 20, "plain": 20}


async def test_a_retry_takes_another_turn(store: Store) -> None:
    await store.enqueue_many([*jobs_of("a", 2), *jobs_of("b", 2)])
    worker = await hand(store)
    a = (await worker.take(1))[0]
    await worker.settle(a, End.RETRY)
    assert await place_of(store, "a-0") == ["fair:default"]
    assert await order(worker, 1) == ["b-0", "a-1", "b-1", "a-0"]


async def test_a_job_without_a_tenant_costs_nothing_more(store: Store) -> None:
    """Also not in a queue of which another has thousands of jobs of tenants."""
    worker = await hand(store, queues=["other"])
    await store.enqueue_many([*jobs_of("a", 300), *jobs_of("b", 3)])

    async def cost(**fields: Any) -> int:
        await commands(store, worker, queue="other", **fields)
        return await commands(store, worker, queue="other", **fields)

    plain = await cost()
    assert plain <= 30
    assert await cost(tenant="a") - plain <= 9
    await worker.take()  # sees that no tenant's job is left
    assert await cost() == plain


async def test_weights_and_backlogs_are_told(store: Store, dsn: str, tmp_path: Path) -> None:
    line = Line(tmp_path, dsn)
    async with RRQClient(config={"redis_dsn": dsn}) as client:
        await client.tenants.set_weight("gold", 2.5)
        assert await client.tenants.weights() == {"gold": 2.5}
        await client.enqueue_many([("x", {"tenant": "gold"})] * 5 + [("x", {"tenant": "tin"})])
        assert await client.tenants.waiting("default") == {"gold": 5, "tin": 1}
        with pytest.raises(InvalidRequest, match=r"weight must be a number from 0.001 to 1000"):
            await client.tenants.set_weight("gold", 0)
        with pytest.raises(InvalidRequest, match="tenant cannot be blank"):
            await client.enqueue("x", {"tenant": " "})

        said = await asyncio.to_thread(line, "tenant", "list", "--queue", "default", "--json")
        assert {"tenant": "gold", "weight": 2.5, "waiting": 5} in said.data
        assert (await asyncio.to_thread(line, "tenant", "weight", "gold", "1")).out == "gold has weight 1\n"
        assert (await asyncio.to_thread(line, "tenant", "weight", "gold", "0")).code == 2
        assert (await asyncio.to_thread(line, "tenant", "list")).err == "all tenants have weight 1\n"
        made = await asyncio.to_thread(line, "enqueue", "noop", "--tenant", "acme")
        assert (await known(store, made.out.strip())).tenant == "acme"
