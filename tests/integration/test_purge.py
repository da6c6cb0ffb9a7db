"""purge: a job and all that is stored of it is gone; one that runs is left alone."""

from __future__ import annotations

from rrqd.model.lifecycle import End
from rrqd.store import Store
from tests.support.moves import hand, job, place_of, raw


async def test_a_waiting_job_is_gone_without_a_trace(store: Store) -> None:
    await store.enqueue_many([job("a"), job("b")])

    assert (await store.purge(["a"])).removed == ["a"]

    assert (await store.get("a"), await place_of(store, "a")) == (None, [])
    assert await place_of(store, "b") == ["queue:default"]


async def test_a_job_with_a_priority_is_gone_from_its_own_place(store: Store) -> None:
    await store.enqueue_many([job("a", priority=5)])

    assert (await store.purge(["a"])).removed == ["a"]

    assert (await store.queue_depths(["default"]))[0].waiting == 0


async def test_a_job_that_runs_is_left_alone_whoever_runs_it(store: Store) -> None:
    await store.enqueue_many([job("ours"), job("theirs")])
    (ours,) = await (await hand(store)).take(1)
    await raw(store, "SET", "rrq:lock:job:theirs", "rrq_worker_1_abc")

    purged = await store.purge([ours.id, "theirs"])

    assert (purged.removed, purged.running) == ([], ["ours", "theirs"])
    assert await place_of(store, "ours") == ["held:worker-1"]


async def test_an_ended_job_goes_with_its_events(store: Store) -> None:
    await store.enqueue_many([job("a")])
    worker = await hand(store)
    (a,) = await worker.take()
    await worker.settle(a)
    assert [status for _, status in await store.events_of("a")] == ["COMPLETED"]

    assert (await store.purge(["a", "a"])).missing == ["a"]

    assert await raw(store, "EXISTS", "rrq:job:a", "rrq:events:job:a") == 0


async def test_of_a_dlq_only_what_lies_there_goes(store: Store) -> None:
    await store.enqueue_many([job("buried"), job("waiting", delay_ms=60_000)])
    worker = await hand(store)
    (one,) = await worker.take(1)
    await worker.settle(one, End.BURY)
    await raw(store, "LPUSH", "rrq:dlq:default", "expired")

    purged = await store.purge(["buried", "expired", "waiting"], dlq="default")

    assert (purged.removed, purged.missing) == (["buried", "expired"], ["waiting"])
    assert (await store.get("buried"), await store.dlq_size()) == (None, 0)
    assert await place_of(store, "waiting") == ["queue:default"]


async def test_a_buried_job_that_a_foreign_tool_put_back_stays(store: Store) -> None:
    """Only its entry in the DLQ goes: the job is waiting."""
    await store.enqueue_many([job("a")])
    await raw(store, "LPUSH", "rrq:dlq:default", "a")

    await store.purge(["a"], dlq="default")

    assert await place_of(store, "a") == ["queue:default"]


async def test_a_key_that_is_no_job_is_not_touched(store: Store) -> None:
    await raw(store, "SET", "rrq:job:text", "hello")

    assert (await store.purge(["text"])).missing == ["text"]

    assert await raw(store, "GET", "rrq:job:text") == b"hello"
