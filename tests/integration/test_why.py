"""why: each thing that can hold a job up is named, with what to do about it."""

from __future__ import annotations

from rrqd.client import RRQClient
from rrqd.model.lifecycle import End
from rrqd.store import Store
from rrqd.store.why import Why, why
from tests.support.moves import hand, job, raw
from tests.support.wait import until_async

HEALTH = b'{"worker_id":"worker-1","queues":["rrq:queue:default"],"status":"idle (no jobs)"}'


async def served(store: Store) -> None:
    """A living worker of the default queue."""
    await hand(store)
    await store.write_health([("worker-1", HEALTH)], 60)


async def of(store: Store, job_id: str) -> Why:
    found = await why(store, job_id)
    assert found is not None
    return found


def codes(found: Why) -> list[str]:
    return [reason.code for reason in found.reasons]


async def test_nothing_holds_it_up(store: Store) -> None:
    await served(store)
    await store.enqueue_many([job("a")])

    found = await of(store, "a")

    assert (found.place, found.ahead, found.reasons) == ("queue", 0, [])
    assert await why(store, "nobody") is None


async def test_behind_how_many(store: Store) -> None:
    await served(store)
    jobs = [job("a"), job("b"), job("top", priority=9), job("high", priority=1), job("low", priority=-1)]
    await store.enqueue_many([*jobs, job("later", delay_ms=9_000)])
    ahead = {name: (await of(store, name)).ahead for name in ("top", "high", "a", "b", "low", "later")}

    assert ahead == {"top": 0, "high": 1, "a": 2, "b": 3, "low": 4, "later": None}
    assert (await of(store, "b")).reasons[0].text == "3 jobs of queue default come before it"


async def test_not_due_with_or_without_a_priority_and_before_a_retry(store: Store) -> None:
    await served(store)
    await store.enqueue_many([job("a", delay_ms=90_000), job("b", delay_ms=90_000, priority=1), job("c")])
    worker = await hand(store)
    (c,) = await worker.take()
    await worker.settle(c, End.RETRY, delay_ms=90_000)

    assert [codes(await of(store, one)) for one in "abc"] == [["not-due"]] * 3
    assert "is not tried again before" in (await of(store, "c")).reasons[0].text
    assert (await of(store, "b")).place == "later"
    await store.enqueue_many([job("soon", delay_ms=1, priority=1)])
    await until_async(lambda: _is_there(store, "soon"), 5, "its time to come")


async def _is_there(store: Store, job_id: str) -> bool:
    """Its time has come, though no claim has looked yet."""
    found = await of(store, job_id)
    return (found.place, codes(found)) == ("prio", [])


async def test_which_parents(store: Store) -> None:
    await served(store)
    await store.enqueue_many([job("a"), job("b"), job("c", parents=("a", "b"))])
    await store.cancel("b")

    found = await of(store, "c")

    assert (found.place, codes(found)) == ("depends", ["depends", "depends"])
    assert [reason.about for reason in found.reasons] == [["a"], ["b"]]
    assert found.reasons[1].text.endswith("which is CANCELLED; let it go with: rrqd job deps c --drop b")


async def test_paused_locked_alone_unserved_and_nowhere(store: Store) -> None:
    await store.enqueue_many([job("a"), job("b"), job("c"), job("d")])
    assert codes(await of(store, "a")) == ["no-worker"]
    await served(store)
    await store.pause_queues(["default"])
    assert codes(await of(store, "a")) == ["paused"]
    await store.resume_queues(["default"])
    await raw(store, "SET", "rrq:lock:job:b", "rrq_worker_9")
    assert "rrq_worker_9" in (await of(store, "b")).reasons[0].text
    await raw(store, "HSET", "rrq:job:c", "rrqd_aboard", "2")
    assert codes(await of(store, "c"))[0] == "alone"
    await raw(store, "ZREM", "rrq:queue:default", "d")
    assert codes(await of(store, "d")) == ["nowhere"]


async def test_which_throttle_and_who_holds_it(store: Store) -> None:
    await served(store)
    await store.set_throttle("api", 1)
    await store.enqueue_many([job(one, throttles=("api",)) for one in "abc"])
    worker = await hand(store)
    assert [one.id for one in await worker.take()] == ["a"]

    found = await of(store, "b")

    assert (found.place, codes(found)) == ("parked", ["throttled"])
    assert found.reasons[0].text == "throttle api lets 1 jobs run, and 1 do, held by a"
    await store.set_throttle("api", 9)
    await store.set_throttle("queue:default", 1)
    assert [one.id for one in await worker.take()] == ["b"]
    assert codes(await of(store, "c"))[0] == "throttled"


async def test_a_real_worker_serves_as_well(store: Store) -> None:
    await store.enqueue_many([job("a")])
    await store.write_health([("rrq_worker_1", HEALTH), ("rrq_worker_2", b"{")], 60)
    assert codes(await of(store, "a")) == []


async def test_one_that_runs_and_one_that_is_over(store: Store) -> None:
    await store.enqueue_many([job("a"), job("b"), job("c")])
    worker = await hand(store)
    a, b, _ = await worker.take()
    await worker.settle(a)
    await worker.settle(b, End.BURY)

    assert "COMPLETED" in (await of(store, "a")).reasons[0].text
    assert "rrqd job retry b" in (await of(store, "b")).reasons[0].text
    runs = await of(store, "c")
    assert (runs.place, runs.reasons[0].about) == ("held", ["worker-1"])
    await raw(store, "HSET", "rrq:job:c", "rrqd_token", "-1")
    assert "another program" in (await of(store, "c")).reasons[0].text


async def test_the_client_tells(store: Store, dsn: str) -> None:
    await store.enqueue_many([job("a", priority=2)])
    async with RRQClient(config={"redis_dsn": dsn}) as client:
        found = await client.why("a")
        assert found is not None
        assert codes(found) == ["no-worker"]
