"""A foreign hand has put something else under a name that a move needs: it says so, and leaves nothing half done."""

from __future__ import annotations

import pytest

from rrqd.exc import StoreRefused
from rrqd.model.job import Once
from rrqd.model.lifecycle import End
from rrqd.store import Charge, Store
from tests.support.moves import hand, job, known, place_of, raw


async def spoil(store: Store, key: str) -> None:
    await raw(store, "SET", key, "something else")


async def test_nothing_is_written_for_a_queue_that_is_none(store: Store) -> None:
    await spoil(store, "rrq:queue:bad")
    with pytest.raises(StoreRefused, match="rrq:queue:bad"):
        await store.enqueue_many([job("a", queue="bad", once=Once(unique_key="u")), job("b")])
    assert await store.get("a") is None
    assert await raw(store, "EXISTS", "rrq:idempotency:u") == 0
    assert await place_of(store, "b") == ["queue:default"]


async def test_other_queues_are_served_beside_one_that_is_none(store: Store) -> None:
    await spoil(store, "rrq:queue:bad")
    await store.enqueue_many([job("a")])
    worker = await hand(store, queues=["bad", "default"])
    first = await worker.claim()
    assert [one.id for one in first.jobs] == ["a"]
    assert first.aside == [("rrq:queue:bad", "rrq:queue:bad holds something that is not a queue.")]
    assert (await worker.claim()).aside == [], "it is said once"


@pytest.mark.parametrize("end", [End.RETRY, End.SNOOZE])
async def test_a_job_whose_queue_is_none_any_more_is_buried_and_its_neighbours_settle(store: Store, end: End) -> None:
    await store.enqueue_many([job("a"), job("b")])
    worker = await hand(store)
    a, b = await worker.take()
    await spoil(store, "rrq:queue:default")
    await worker.settle(a, end)
    await worker.settle(b)
    assert await raw(store, "LRANGE", "rrq:dlq:default", 0, -1) == [b"a"]
    found = await known(store, "a")
    assert (found.status, "not a queue" in (found.last_error or "")) == ("FAILED", True)
    assert (await known(store, "b")).status == "COMPLETED"


async def test_a_dead_workers_jobs_whose_queue_is_none_any_more_are_buried(store: Store) -> None:
    await store.enqueue_many([job("a")])
    worker = await hand(store)
    await worker.take()
    await spoil(store, "rrq:queue:default")
    released = await store.close_worker(worker.worker_id, reason="crash", charge=Charge.DEATH)
    assert (released.buried, (await known(store, "a")).status) == (["a"], "FAILED")


async def test_a_dlq_that_is_no_list_keeps_the_failed_job_and_notes_it(store: Store) -> None:
    await store.enqueue_many([job("a")])
    worker = await hand(store)
    [a] = await worker.take()
    await spoil(store, "rrq:dlq:default")
    await worker.settle(a, End.BURY)
    assert (await known(store, "a")).status == "FAILED"
    assert await raw(store, "HGET", "rrqd:aside", "a") is not None


async def test_an_event_stream_that_is_none_does_not_stop_a_job_from_ending(store: Store) -> None:
    await store.enqueue_many([job("a")])
    worker = await hand(store)
    [a] = await worker.take()
    await spoil(store, "rrq:events:job:a")
    await worker.settle(a)
    assert (await known(store, "a")).status == "COMPLETED"


async def test_a_revival_into_a_queue_that_is_none_leaves_the_job_buried(store: Store) -> None:
    await store.enqueue_many([job("a")])
    worker = await hand(store)
    [a] = await worker.take()
    await worker.settle(a, End.BURY)
    await spoil(store, "rrq:queue:default")
    with pytest.raises(Exception, match="not a queue"):
        await store.revive(["a"])
    assert await store.dlq_list() == ["a"]
    assert (await known(store, "a")).status == "FAILED"
