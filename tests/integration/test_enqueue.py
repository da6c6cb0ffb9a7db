"""enqueue: written once, in order, with RRQ's fields; or refused with nothing written."""

from __future__ import annotations

import pytest

from rrqd.exc import JobExists, StoreRefused
from rrqd.model.job import Once
from rrqd.store import Store
from tests.support.moves import hand, job, known, place_of, raw

UNIQUE = Once(unique_key="k", unique_ttl_seconds=60)


async def test_a_job_has_the_fields_that_rrq_reads(store: Store) -> None:
    await store.enqueue_many([job("a", params=b'{"x":1}', max_retries=2, timeout_seconds=9)])

    fields = (await known(store, "a")).fields
    assert fields["id"] == "a"
    assert fields["status"] == "PENDING"
    assert fields["function_name"] == "noop"
    assert fields["job_params"] == '{"x":1}'
    assert fields["queue_name"] == "rrq:queue:default"
    assert (fields["max_retries"], fields["job_timeout_seconds"]) == ("2", "9")
    assert fields["enqueue_time"].endswith("+00:00")
    assert await place_of(store, "a") == ["queue:default"]


async def test_a_batch_keeps_its_order(store: Store) -> None:
    ids = [f"job-{n:04}" for n in range(1500)]
    await store.enqueue_many([job(i) for i in reversed(ids)])

    assert await store.queue_page("default", 0, 2000) == list(reversed(ids))


async def test_calls_one_after_the_other_keep_their_order(store: Store) -> None:
    ids = [f"{n % 7}-{n}" for n in range(200)]
    for job_id in ids:
        await store.enqueue_many([job(job_id)])

    assert await store.queue_page("default", 0, 300) == ids


async def test_the_time_of_the_server_is_written(store: Store) -> None:
    seconds, _ = await raw(store, "TIME")
    await store.enqueue_many([job("a"), job("later", delay_ms=90_000)])

    moment = (await known(store, "a")).moment("enqueue_time")
    later = (await known(store, "later")).moment("next_scheduled_run_time")
    assert moment is not None
    assert later is not None
    assert abs(moment.timestamp() - int(seconds)) <= 2
    assert 89 < later.timestamp() - moment.timestamp() < 91


async def test_a_unique_key_gives_the_first_job(store: Store) -> None:
    first = await store.enqueue_many([job("a", once=UNIQUE)])
    second = await store.enqueue_many([job("b", once=UNIQUE)])

    assert (first[0].created, second[0].created) == (True, False)
    assert second[0].job_id == "a"
    assert await store.get("b") is None
    assert await raw(store, "GET", "rrq:idempotency:k") == b"a"


async def test_a_unique_key_of_a_job_that_is_gone_is_free(store: Store) -> None:
    await raw(store, "SET", "rrq:idempotency:k", "long-gone")

    assert (await store.enqueue_many([job("b", once=UNIQUE)]))[0].created


async def test_a_taken_id_is_refused_and_nothing_is_changed(store: Store) -> None:
    await store.enqueue_many([job("a", params=b'{"x":1}')])

    with pytest.raises(JobExists, match="already exists: a"):
        await store.enqueue_many([job("a", params=b'{"x":2}')])
    assert (await known(store, "a")).params == {"x": 1}


async def test_a_repeat_after_a_lost_reply_is_one_job(store: Store) -> None:
    jobs = [job("a", once=UNIQUE), job("b")]
    await store.enqueue_many(jobs)

    again = await store.enqueue_many(jobs, repeated=True)

    assert [answer.job_id for answer in again] == ["a", "b"]
    assert await store.queue_page("default", 0, 10) == ["a", "b"]


async def test_a_repeat_finds_another_job_under_its_id(store: Store) -> None:
    await store.enqueue_many([job("a", function="other")])

    with pytest.raises(JobExists):
        await store.enqueue_many([job("a")], repeated=True)


async def test_a_full_server_refuses_jobs_and_lets_running_ones_end(store: Store) -> None:
    await store.enqueue_many([job("a"), job("b")])
    worker = await hand(store)
    claimed, other = await worker.take()
    await raw(store, "CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(StoreRefused, match="OOM"):
            await store.enqueue_many([job("c")])
        assert await worker.settle(claimed) == "ok"
        assert (await store.release(worker.worker_id, [(other.id, other.token)], "full")).queued == ["b"]
    finally:
        await raw(store, "CONFIG", "SET", "maxmemory", "0")
    assert await store.get("c") is None
