"""prioritise: higher first, equals in order, at any value; whoever has no priority costs no command of its own."""

from __future__ import annotations

import random

import pytest

from rrqd.exc import StoreRefused
from rrqd.model.job import Once
from rrqd.model.lifecycle import End
from rrqd.store import Charge, Store
from tests.support.moves import hand, job, place_of, raw
from tests.support.wait import until_async


async def test_higher_first_and_those_without_stand_at_zero(store: Store) -> None:
    await store.enqueue_many(
        [job("low", priority=-1), job("plain"), job("high", priority=9), job("mid", priority=0.5), job("plain2")]
    )

    assert await store.queue_page("default", 0, 10) == ["high", "mid", "plain", "plain2", "low"]
    assert [one.id for one in await (await hand(store)).take()] == ["high", "mid", "plain", "plain2", "low"]


@pytest.mark.parametrize("priority", [1, 10_000, 2**53, -(2**53), 1e-9, 123_456.789])
async def test_equals_keep_their_order_whatever_the_value(store: Store, priority: float) -> None:
    ids = [f"{n:03}" for n in range(300)]
    random.Random(1).shuffle(ids)
    await store.enqueue_many([job(job_id, priority=priority) for job_id in ids])

    worker = await hand(store)
    assert [one.id for _ in range(3) for one in await worker.take(100)] == ids


async def test_the_order_of_any_mixture_is_that_of_a_sorted_list(store: Store) -> None:
    dice = random.Random(7)
    wanted = [(f"job-{n}", dice.choice([None, 5, 5, -3, 1e6, 0.25])) for n in range(200)]
    for job_id, priority in wanted:
        await store.enqueue_many([job(job_id, priority=priority)])

    worker = await hand(store)
    got = [one.id for _ in range(15) for one in await worker.take(14)]
    assert got == [job_id for job_id, _ in sorted(wanted, key=lambda one: -(one[1] or 0))]


async def test_a_waiting_job_moves_and_keeps_its_age(store: Store) -> None:
    await store.enqueue_many([job("a"), job("b", priority=5), job("c", priority=5), job("d")])

    assert await store.prioritise("a", 5) == "moved"
    assert await store.queue_page("default", 0, 10) == ["a", "b", "c", "d"]
    assert await store.prioritise("b", None) == "moved"
    assert await store.queue_page("default", 0, 10) == ["a", "c", "b", "d"]
    assert await store.prioritise("c", 5) == "moved"  # the same again: nothing jumps ahead
    assert await store.prioritise("d", 5.5) == "moved"
    assert [one.id for one in await (await hand(store)).take()] == ["d", "a", "c", "b"]


async def test_every_job_lies_in_one_place(store: Store) -> None:
    await store.enqueue_many([job("a", priority=2), job("b", priority=2, delay_ms=60_000)])
    assert await place_of(store, "a") == ["prio:default"]
    assert await place_of(store, "b") == ["later:default"]

    await store.prioritise("b", 3)
    assert await place_of(store, "b") == ["later:default"]
    await store.prioritise("b", None)
    assert await place_of(store, "b") == ["queue:default"]
    await store.prioritise("b", 1)
    assert await place_of(store, "b") == ["later:default"]
    await store.prioritise("a", None)
    assert await place_of(store, "a") == ["queue:default"]


async def test_it_counts_from_its_time_on(store: Store) -> None:
    await store.enqueue_many([job("soon", priority=9, delay_ms=80), job("now", priority=1)])
    worker = await hand(store)

    first = await worker.claim()
    assert [one.id for one in first.jobs] == ["now"]
    assert first.next_due_ms is not None
    assert 0 < first.next_due_ms - first.now_ms < 80

    await store.enqueue_many([job("now2", priority=1)])

    async def ripe() -> bool:
        return (await store.queue_depths(["default"]))[0].due == 2

    await until_async(ripe, 2, "the delayed job to be due")
    assert [one.id for one in await worker.take()] == ["soon", "now2"]


async def test_many_become_due_at_once_and_go_in_steps(store: Store) -> None:
    await store.enqueue_many([job(str(n), priority=1 + n % 3, due_ms=1000.0 * n + 4e12) for n in range(250)])
    ids = await raw(store, "ZRANGE", store.keys.later("default"), 0, -1)
    for n, job_id in enumerate(ids):
        await raw(store, "ZADD", store.keys.later("default"), 1000 + n, job_id)
    worker = await hand(store)

    claim = await worker.claim(1)
    assert (len(claim.jobs), claim.full) == (1, True)
    assert await raw(store, "ZCARD", store.keys.later("default")) == 150
    taken = claim.jobs
    while part := (await worker.claim(100)).jobs:
        taken += part
    assert len({one.id for one in taken}) == 250


async def test_whoever_takes_and_gives_back_finds_it_where_it_was(store: Store) -> None:
    await store.enqueue_many([job("a", priority=4), job("b", priority=4), job("c", priority=4)])
    worker = await hand(store)
    await worker.take(2)
    assert await place_of(store, "a") == ["held:worker-1"]

    await store.close_worker(worker.worker_id, reason="test", charge=Charge.NOBODY)

    assert await store.queue_page("default", 0, 10) == ["a", "b", "c"]
    assert await place_of(store, "a") == ["prio:default"]


async def test_a_retry_a_snooze_and_a_revival_keep_it(store: Store) -> None:
    await store.enqueue_many([job("a", priority=4)])
    worker = await hand(store)
    for end in (End.RETRY, End.SNOOZE):
        (a,) = await worker.take()
        await worker.settle(a, end)
        assert await place_of(store, "a") == ["prio:default"]
    (a,) = await worker.take()
    await worker.settle(a, End.RETRY, delay_ms=60_000)
    assert await place_of(store, "a") == ["later:default"]
    assert await store.prioritise("a", None) == "moved"
    await raw(store, "ZADD", "rrq:queue:default", 1, "a")
    (a,) = await worker.take()
    await worker.settle(a, End.BURY)
    assert await store.prioritise("a", 7) == "noted"
    assert await store.revive(["a"]) == ["a"]
    assert await place_of(store, "a") == ["prio:default"]


async def test_cancelling_takes_it_out_of_either_place(store: Store) -> None:
    await store.enqueue_many([job("a", priority=2), job("b", priority=2, delay_ms=60_000)])
    for job_id in ("a", "b"):
        assert await store.cancel(job_id) == "cancelled"
        assert await place_of(store, job_id) == []
    assert await (await hand(store)).take() == []
    assert await raw(store, "EXISTS", store.keys.facts) == 0, "the queue has no lane any more"


async def test_one_that_runs_is_noted_and_what_has_ended_is_too_late(store: Store) -> None:
    await store.enqueue_many([job("a")])
    worker = await hand(store)
    (a,) = await worker.take()
    assert await store.prioritise("a", 3) == "noted"
    await worker.settle(a, End.RETRY)
    assert await place_of(store, "a") == ["prio:default"]
    (a,) = await worker.take()
    await worker.settle(a)
    assert await store.prioritise("a", 3) == "too-late"
    assert await store.prioritise("nobody", 3) == "unknown"


async def test_a_foreign_tool_that_queues_it_again_makes_no_second_one(store: Store) -> None:
    await store.enqueue_many([job("a", priority=-2)])
    await raw(store, "ZADD", "rrq:queue:default", 1, "a")
    worker = await hand(store)

    assert [one.id for one in await worker.take()] == ["a"]
    assert await place_of(store, "a") == ["held:worker-1"]


async def test_a_spoilt_place_is_refused_and_the_job_stays(store: Store) -> None:
    await store.enqueue_many([job("a")])
    await raw(store, "SET", store.keys.prio("default"), "text")

    with pytest.raises(StoreRefused, match="not a queue"):
        await store.prioritise("a", 3)
    with pytest.raises(StoreRefused):
        await store.enqueue_many([job("b", priority=1)])
    assert await store.get("b") is None
    assert [one.id for one in await (await hand(store)).take()] == ["a"]


async def test_a_burst_that_is_debounced_may_change_its_priority(store: Store) -> None:
    once = Once(debounce_key="k", debounce_ms=60_000, window_seconds=61)
    await store.enqueue_many([job("a", once=once, delay_ms=60_000)])
    for priority, place in ((3, "later:default"), (None, "queue:default")):
        await store.enqueue_many([job(once=once, delay_ms=60_000, priority=priority)])
        assert await place_of(store, "a") == [place]
    await store.enqueue_many([job(once=once, delay_ms=60_000, priority=3, queue="other")])
    assert await place_of(store, "a") == ["later:other"]


async def test_depths_count_the_lanes(store: Store) -> None:
    await store.enqueue_many([job(), job(delay_ms=9_000), job(priority=1), job(priority=1, delay_ms=5_000)])

    (depth,) = await store.queue_depths(["default"])

    assert (depth.waiting, depth.due) == (4, 2)
    assert await store.queue_page("default", 1, 2) == (await store.queue_page("default", 0, 4))[1:3]


async def commands(store: Store) -> int:
    """How many commands the server has carried out, those inside scripts too."""
    text = (await raw(store, "INFO", "commandstats")).decode()
    return sum(int(line.split("calls=")[1].split(",")[0]) for line in text.splitlines() if "calls=" in line)


async def cost(store: Store, jobs: int, **wishes: object) -> int:
    """Commands of enqueueing, claiming and settling so many jobs in one call each."""
    worker = await hand(store, f"w{jobs}{wishes}")
    await raw(store, "CONFIG", "RESETSTAT")
    await store.enqueue_many([job(**wishes) for _ in range(jobs)])
    taken = await worker.take(jobs)
    assert len(taken) == jobs
    for one in taken:
        await worker.settle(one)
    return await commands(store)


async def test_a_job_without_a_priority_costs_nothing_extra_and_one_with_it_little(store: Store) -> None:
    await cost(store, 2)  # loads the scripts
    ten, twenty = await cost(store, 10), await cost(store, 20)
    plain = (twenty - ten) / 10
    ten, twenty = await cost(store, 10, priority=1), await cost(store, 20, priority=1)

    assert plain == 13, "3 to enqueue it, 2 to claim it, 8 for a settlement of its own"
    assert (twenty - ten) / 10 - plain <= 1


async def test_one_with_a_priority_a_throttle_and_two_tags_costs_eight_more(store: Store) -> None:
    await store.set_throttle("api", 100)
    wishes = {"priority": 1, "throttles": ("api",), "tags": ("red", "blue")}
    await cost(store, 2, **wishes)
    ten, twenty = await cost(store, 10), await cost(store, 20)
    plain = (twenty - ten) / 10
    ten, twenty = await cost(store, 10, **wishes), await cost(store, 20, **wishes)

    assert (twenty - ten) / 10 - plain <= 8


async def test_a_call_for_plain_jobs_costs_one_command_for_all_these_features(store: Store) -> None:
    worker = await hand(store)
    await store.enqueue_many([job(), job()])
    await worker.take(1)
    await raw(store, "CONFIG", "RESETSTAT")
    await worker.take(1)

    text = (await raw(store, "INFO", "commandstats")).decode()
    reads = {
        line.split(":")[0]: int(line.split("calls=")[1].split(",")[0]) for line in text.splitlines() if "=" in line
    }
    assert reads["cmdstat_hmget"] == 2, "its own hash, and what is known of its queues"
    assert reads["cmdstat_zrange"] == 1


async def test_jobs_of_many_queues_that_are_due_at_once_move_on_a_hundred_a_claim(store: Store) -> None:
    queues = [f"q{n}" for n in range(5)]
    worker = await hand(store, queues=queues)
    await store.enqueue_many(
        [job(f"{q}-{n}", queue=q, priority=1, delay_ms=600_000) for q in queues for n in range(40)]
    )
    for queue in queues:
        await rewind_all(store, f"rrqd:work:later:{queue}")
    before = await commands(store)
    claim = await worker.claim(10)

    left = [await raw(store, "ZCARD", f"rrqd:work:later:{queue}") for queue in queues]
    assert (sum(left), len(claim.jobs), claim.full) == (100, 10, True)
    assert await commands(store) - before < 700
    taken = [one.id for one in claim.jobs]
    while jobs := await worker.take(100):
        taken += [one.id for one in jobs]
    assert len(set(taken)) == 200
    assert [await raw(store, "ZCARD", f"rrqd:work:later:{queue}") for queue in queues] == [0] * 5


async def rewind_all(store: Store, key: str) -> None:
    """What lies there is due now."""
    for member in await raw(store, "ZRANGE", key, 0, -1):
        await raw(store, "ZADD", key, 1000, member)
