"""Rates: no more starts than allowed, whoever asks; a job that is too early has its own time and is in nobody's way."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from rrqd.model.job import Rate
from rrqd.model.lifecycle import End
from rrqd.store import Store
from rrqd.store.why import why
from tests.support.moves import Hand, hand, job, known, raw
from tests.support.wait import until_async

SLOW = Rate(name="api", limit=1, per_seconds=3600)


@pytest.fixture
async def worker(store: Store) -> Hand:
    return await hand(store)


def ids(jobs: list[Any]) -> list[str]:
    return [one.id for one in jobs]


async def slots(store: Store, names: str) -> list[float]:
    """Due times of jobs that wait for their rate, in hours from the first."""
    due = [float((await known(store, name)).fields["rrqd_due"]) for name in names]
    return [round((one - due[0]) / 3_600_000, 3) for one in due]


async def test_one_starts_and_each_other_gets_a_time_of_its_own_in_order(store: Store, worker: Hand) -> None:
    await store.enqueue_many([job(name, rate=SLOW) for name in "abcd"])
    assert ids(await worker.take()) == ["a"]
    assert await worker.take() == []
    assert await slots(store, "bcd") == [0, 1, 2]
    await store.enqueue_many([job("e", rate=SLOW), job("free")])
    assert ids(await worker.take()) == ["free"]
    assert await slots(store, "bcde") == [0, 1, 2, 3]


async def test_a_burst_starts_at_once(store: Store, worker: Hand) -> None:
    burst = Rate(name="api", limit=1, per_seconds=3600, burst=3)
    await store.enqueue_many([job(name, rate=burst) for name in "abcde"])
    assert ids(await worker.take()) == ["a", "b", "c"]
    assert await slots(store, "de") == [0, 1]


async def test_names_do_not_know_each_other_and_queues_do_not_matter(store: Store) -> None:
    worker = await hand(store, queues=["default", "mail"])
    await store.enqueue_many(
        [job("a", rate=SLOW), job("b", rate=SLOW, queue="mail"), job("c", rate=Rate(name="x", limit=1))]
    )
    assert sorted(ids(await worker.take())) in (["a", "c"], ["b", "c"])


async def test_retries_count(store: Store, worker: Hand) -> None:
    await store.enqueue_many([job("a", rate=SLOW)])
    (a,) = await worker.take()
    await worker.settle(a, End.RETRY, delay_ms=0)
    assert await worker.take() == []
    assert (await known(store, "a")).status == "RETRYING"


async def test_its_time_comes_and_it_starts(store: Store, worker: Hand) -> None:
    fast = Rate(name="api", limit=20, per_seconds=1)
    await store.enqueue_many([job(name, rate=fast) for name in "abcdef"])
    taken: list[Any] = []

    async def all_have_started() -> bool:
        taken.extend(await worker.take())
        return len(taken) == 6

    await until_async(all_have_started, 10, "all to start")
    assert ids(taken) == list("abcdef")
    gaps = [after.claimed_ms - before.claimed_ms for before, after in itertools.pairwise(taken)]
    assert min(gaps) >= 48


async def test_after_workers_were_away_the_rate_still_holds(store: Store, worker: Hand) -> None:
    await store.enqueue_many([job(name, rate=SLOW) for name in "abcd"])
    (a,) = await worker.take()
    for name in "bcd":  # as if hours had passed
        (due,) = await raw(store, "HMGET", f"rrq:job:{name}", "rrqd_due")
        await raw(store, "ZADD", "rrqd:work:later:default", float(due) - 4 * 3_600_000, name)
    await raw(store, "HSET", "rrqd:rate:api", "tat", 1, "slot", 1)
    await worker.settle(a)
    assert ids(await worker.take()) == ["b"]
    assert await worker.take() == []
    assert await slots(store, "cd") == [0, 1]


async def test_what_the_rate_stops_takes_no_place_under_a_throttle(store: Store, worker: Hand) -> None:
    await store.set_throttle("t", 1)
    await store.enqueue_many(
        [job("first", rate=SLOW), job("a", rate=SLOW, throttles=("t",)), job("b", throttles=("t",))]
    )
    assert ids(await worker.take()) == ["first", "b"]


async def test_it_is_told_why_it_waits_and_kept_from_real_workers(store: Store, worker: Hand) -> None:
    await store.enqueue_many([job("a", rate=SLOW), job("b", rate=SLOW)])
    await worker.take()
    told = await why(store, "b")
    assert told is not None
    assert [one.code for one in told.reasons][:2] == ["not-due", "rate"]
    assert await raw(store, "EXISTS", "rrq:queue:default") == 0
    assert (await known(store, "b")).rate == "one each 3600 s as api"
    assert await raw(store, "PTTL", "rrqd:rate:api") > 3_600_000


async def test_a_lost_reply_counts_one_start(store: Store, worker: Hand) -> None:
    await store.enqueue_many([job("a", rate=SLOW), job("b", rate=SLOW)])
    first, again = await worker.claim(), await worker.claim(again=True)
    assert ids(first.jobs) == ids(again.jobs) == ["a"]
    assert await store.cancel("b") == "cancelled"


async def test_a_job_whose_priority_is_taken_away_still_gets_its_turn(store: Store, worker: Hand) -> None:
    fast = Rate(name="api", limit=20, per_seconds=1)
    await store.enqueue_many([job("a", rate=fast, priority=3), job("b", rate=fast, priority=3)])
    assert ids(await worker.take()) == ["a"]
    await store.prioritise("b", None)
    await raw(store, "HDEL", "rrq:job:b", "rrqd_priority")
    taken: list[Any] = []

    async def it_has_started() -> bool:
        taken.extend(await worker.take())
        return ids(taken) == ["b"]

    await until_async(it_has_started, 10, "b to start")
