"""revive: a buried job comes back as if new."""

from __future__ import annotations

from rrqd.model.lifecycle import End
from rrqd.store import Store
from tests.support.moves import hand, job, known, place_of, raw


async def bury(store: Store, *ids: str, queue: str = "mail") -> None:
    await store.enqueue_many([job(i, queue=queue, max_retries=1) for i in ids])
    worker = await hand(store, queues=[queue])
    for claimed in await worker.take(len(ids)):
        await worker.settle(claimed, End.BURY, error="boom", detail=b'{"type":"X"}', ttl_seconds=99)


async def test_a_revived_job_is_as_new_and_in_its_own_queue(store: Store) -> None:
    await bury(store, "a")
    await raw(store, "HSET", "rrq:job:a", "rrqd_stalls", "2", "rrqd_aboard", "2")

    assert await store.revive(["a"]) == ["a"]

    back = await known(store, "a")
    assert (back.status, back.number("current_retries"), back.last_error) == ("PENDING", 0, None)
    assert not {"completion_time", "start_time", "worker_id", "rrqd_stalls", "rrqd_aboard", "rrqd_error"} & set(
        back.fields
    )
    assert await place_of(store, "a") == ["queue:mail"]
    assert await raw(store, "TTL", "rrq:job:a") == -1
    (claimed,) = await (await hand(store, "worker-2", queues=["mail"])).take()
    assert claimed.attempt == 1


async def test_many_keep_their_order_oldest_first(store: Store) -> None:
    await bury(store, "a", "b", "c")
    oldest_first = [entry.id async for entry in store.dlq_from_oldest() if not isinstance(entry, str)]

    await store.revive(oldest_first, queue="other")

    assert await store.queue_page("other", 0, 10) == ["a", "b", "c"]
    assert await store.dlq_size() == 0


async def test_only_what_lies_there_moves(store: Store) -> None:
    await bury(store, "a")
    await store.enqueue_many([job("b")])

    assert await store.revive(["a", "b", "nobody"]) == ["a"]
    assert await store.revive(["a"]) == []
    assert await place_of(store, "a") == ["queue:mail"]


async def test_an_entry_whose_job_has_expired_is_dropped(store: Store) -> None:
    await bury(store, "a")
    await raw(store, "DEL", "rrq:job:a")

    assert await store.revive(["a"]) == []
    assert await store.dlq_size() == 0


async def test_a_walk_from_the_oldest_sees_each_entry_once(store: Store) -> None:
    ids = [f"{n:03}" for n in range(500)]
    await bury(store, *ids)

    seen = [entry.id async for entry in store.dlq_from_oldest(batch=37) if not isinstance(entry, str)]

    assert seen == ids


async def test_an_entry_whose_job_is_not_buried_any_more_revives_nothing(store: Store) -> None:
    await store.enqueue_many([job("a")])
    worker = await hand(store)
    (a,) = await worker.take()
    await worker.settle(a)
    await raw(store, "LPUSH", "rrq:dlq:default", "a")

    assert await store.revive(["a"]) == []
    assert (await known(store, "a")).status == "COMPLETED"
