"""cancel: a waiting job never starts, a running one is asked, each ends in one final state."""

from __future__ import annotations

from rrqd.model.lifecycle import End
from rrqd.store import Store, StorePolicy
from tests.support.moves import hand, job, known, place_of, raw
from tests.support.wait import until_async


async def test_a_waiting_job_never_starts(store: Store) -> None:
    await store.enqueue_many([job("a")])

    assert await store.cancel("a") == "cancelled"

    assert await place_of(store, "a") == []
    assert (await known(store, "a")).status == "CANCELLED"
    assert 0 < await raw(store, "TTL", "rrq:job:a") <= 86_400
    assert await (await hand(store)).take() == []


async def test_a_retrying_job_is_cancelled(store: Store) -> None:
    await store.enqueue_many([job("a")])
    worker = await hand(store)
    (claimed,) = await worker.take()
    await worker.settle(claimed, End.RETRY, delay_ms=60_000)

    assert await store.cancel("a") == "cancelled"
    assert await place_of(store, "a") == []


async def test_the_worker_of_a_running_job_is_told_at_once(store: Store, dsn: str) -> None:
    heard: list[bytes] = []
    ear = await Store.open(dsn, StorePolicy(), client_name="w", channel="worker-1", on_message=heard.append)
    await store.enqueue_many([job("a")])
    worker = await hand(store)
    (claimed,) = await worker.take()

    assert await store.cancel("a") == "asked"

    async def told() -> bool:
        return heard == [b"cancel a"]

    await until_async(told, 2, "the message")
    assert (await worker.claim()).cancels == ["a"]
    assert (await worker.claim()).cancels == []
    assert await worker.settle(claimed, End.CANCEL) == "ok"
    assert (await known(store, "a")).status == "CANCELLED"
    await ear.close()


async def test_a_job_that_is_faster_than_its_cancellation_completes(store: Store) -> None:
    await store.enqueue_many([job("a")])
    worker = await hand(store)
    (claimed,) = await worker.take()
    await store.cancel("a")

    assert await worker.settle(claimed) == "ok"
    assert (await known(store, "a")).status == "COMPLETED"


async def test_it_can_be_too_late_and_there_may_be_no_such_job(store: Store) -> None:
    await store.enqueue_many([job("a")])
    worker = await hand(store)
    (claimed,) = await worker.take()
    await worker.settle(claimed)

    assert await store.cancel("a") == "too-late"
    assert await store.cancel("nobody") == "unknown"


async def test_a_second_cancel_says_the_same(store: Store) -> None:
    await store.enqueue_many([job("a")])
    await store.cancel("a")

    assert await store.cancel("a") == "cancelled"
    assert len(await raw(store, "XRANGE", "rrq:events:job:a", "-", "+")) == 1


async def test_a_cancel_told_in_a_lost_reply_is_told_again(store: Store) -> None:
    await store.enqueue_many([job("a")])
    worker = await hand(store)
    await worker.take()
    await store.cancel("a")
    assert (await worker.claim()).cancels == ["a"]
    assert (await worker.claim(again=True)).cancels == ["a"]
    assert (await worker.claim()).cancels == []


async def test_a_cancelled_run_that_fails_before_it_hears_is_not_tried_again(store: Store) -> None:
    await store.enqueue_many([job("a")])
    worker = await hand(store)
    [a] = await worker.take()
    await store.cancel("a")
    await worker.settle(a, End.RETRY)
    assert await place_of(store, "a") == []
    assert (await known(store, "a")).status == "CANCELLED"
