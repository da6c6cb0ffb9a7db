"""settle: a run ends once, under its token, whatever is asked again or too late."""

from __future__ import annotations

import pytest

from rrqd.model.lifecycle import End
from rrqd.model.verdict import Verdict
from rrqd.store import Charge, Settled, Settlement, Store
from rrqd.store.jobs import fits
from tests.support.moves import Hand, hand, job, known, place_of, raw


@pytest.fixture
async def worker(store: Store) -> Hand:
    await store.enqueue_many([job("a", queue="mail")])
    return await hand(store, queues=["mail"])


async def test_a_completed_job_has_its_result_its_event_and_its_time_to_live(store: Store, worker: Hand) -> None:
    (claimed,) = await worker.take()

    assert await worker.settle(claimed, result=b'{"ok":true}', ttl_seconds=60) == "ok"

    done = await known(store, "a")
    assert (done.status, done.result) == ("COMPLETED", {"ok": True})
    assert await place_of(store, "a") == []
    (entry,) = await raw(store, "XRANGE", "rrq:events:job:a", "-", "+")
    assert entry[1] == [b"event", b"completed", b"job_id", b"a", b"status", b"COMPLETED"]
    assert 0 < await raw(store, "TTL", "rrq:job:a") <= 60
    assert 0 < await raw(store, "TTL", "rrq:events:job:a") <= 60


@pytest.mark.parametrize("seconds", [0, -1])
async def test_a_time_to_live_of_zero_or_less_keeps_the_result(store: Store, worker: Hand, seconds: int) -> None:
    (claimed,) = await worker.take()
    await worker.settle(claimed, ttl_seconds=seconds)

    assert await raw(store, "TTL", "rrq:job:a") == -1


async def test_a_retry_waits_in_its_own_queue(store: Store, worker: Hand) -> None:
    (claimed,) = await worker.take()

    await worker.settle(claimed, End.RETRY, error="boom", delay_ms=5000)

    waiting = await known(store, "a")
    assert (waiting.status, waiting.last_error, waiting.number("current_retries")) == ("RETRYING", "boom", 1)
    assert await place_of(store, "a") == ["queue:mail"]
    assert await worker.take() == []


async def test_a_retried_job_counts_its_attempts(store: Store, worker: Hand) -> None:
    for attempt in (1, 2, 3):
        (claimed,) = await worker.take()
        assert claimed.attempt == attempt
        await worker.settle(claimed, End.RETRY, delay_ms=0)


async def test_a_snooze_costs_no_attempt(store: Store, worker: Hand) -> None:
    (claimed,) = await worker.take()
    await worker.settle(claimed, End.SNOOZE, delay_ms=0)

    (again,) = await worker.take()
    assert again.attempt == 1


async def test_a_buried_job_lies_in_the_dlq(store: Store, worker: Hand) -> None:
    (claimed,) = await worker.take()

    await worker.settle(claimed, End.BURY, error="boom", detail=b'{"type":"ValueError"}', ttl_seconds=99)

    dead = await known(store, "a")
    assert (dead.status, dead.last_error, dead.number("current_retries")) == ("FAILED", "boom", 1)
    assert dead.error == {"type": "ValueError"}
    assert dead.fields.get("result") is None
    assert await place_of(store, "a") == ["dlq:default"]
    (entry,) = await raw(store, "XRANGE", "rrq:events:job:a", "-", "+")
    assert entry[1][:2] == [b"event", b"failed"]
    assert 0 < await raw(store, "TTL", "rrq:job:a") <= 99


async def test_the_job_may_name_its_own_dlq(store: Store, worker: Hand) -> None:
    await raw(store, "HSET", "rrq:job:a", "dlq_name", "rrq:dlq:mail")
    (claimed,) = await worker.take()
    await worker.settle(claimed, End.BURY)

    assert await place_of(store, "a") == ["dlq:mail"]


@pytest.mark.parametrize("end", list(End))
async def test_a_repeated_settlement_happens_once(store: Store, worker: Hand, end: End) -> None:
    (claimed,) = await worker.take()
    await worker.settle(claimed, end, delay_ms=60_000)
    before = (await known(store, "a")).fields

    assert await worker.settle(claimed, end, delay_ms=60_000) == "ok"

    assert (await known(store, "a")).fields == before
    assert len(await raw(store, "XRANGE", "rrq:events:job:a", "-", "+")) <= 1
    assert await raw(store, "LLEN", "rrq:dlq:default") <= 1


async def test_a_late_worker_cannot_settle_what_another_runs(store: Store, worker: Hand) -> None:
    (late,) = await worker.take()
    await store.close_worker("worker-1", reason="gone", charge=Charge.NOBODY)
    other = await hand(store, "worker-2", queues=["mail"])
    (now,) = await other.take()
    assert now.token > late.token

    assert await worker.settle(late, result=b'"late"') == "stale"
    assert await place_of(store, "a") == ["held:worker-2"]
    assert await other.settle(now, result=b'"mine"') == "ok"
    assert (await known(store, "a")).result == "mine"


async def test_a_released_job_cannot_be_settled_by_its_last_holder(store: Store, worker: Hand) -> None:
    (claimed,) = await worker.take()
    await store.release("worker-1", [("a", claimed.token)], "drain")

    assert await worker.settle(claimed) == "stale"
    assert await place_of(store, "a") == ["queue:mail"]


async def test_a_job_that_was_deleted_meanwhile_is_gone_and_forgotten(store: Store, worker: Hand) -> None:
    (claimed,) = await worker.take()
    await raw(store, "DEL", "rrq:job:a")

    assert await worker.settle(claimed) == "gone"
    assert await store.held_by("worker-1") == {}
    assert await store.get("a") is None


@pytest.mark.parametrize("count", ["abc", "1.5", "9223372036854775807", ""])
async def test_a_spoilt_count_of_attempts_stops_neither_the_job_nor_its_neighbours(store: Store, count: str) -> None:
    await store.enqueue_many([job("odd"), job("good")])
    worker = await hand(store)
    odd, good = await worker.take()
    await raw(store, "HSET", "rrq:job:odd", "current_retries", count)

    assert await worker.settle(odd, End.BURY) == Settled.OK
    assert await worker.settle(good) == Settled.OK
    assert (await known(store, "odd")).status == "FAILED"


async def test_what_cannot_be_ended_is_set_aside_and_its_neighbours_settle(store: Store) -> None:
    await store.enqueue_many([job("odd"), job("good")])
    worker = await hand(store)
    odd, good = await worker.take()
    verdicts = [Verdict(end=End.COMPLETE, result=b"1", ttl_seconds=60) for _ in range(2)]
    await raw(store, "SET", "rrqd:dlqs", "not a set")

    answers = await store.settle(
        worker.worker_id,
        [Settlement("odd", odd.token, Verdict(end=End.BURY, error="x")), Settlement("good", good.token, verdicts[1])],
    )
    assert answers == [Settled.BROKEN, Settled.OK]
    assert await raw(store, "HGET", "rrqd:aside", "odd") is not None


async def test_a_time_to_live_of_any_size_settles(store: Store) -> None:
    await store.enqueue_many([job("a")])
    worker = await hand(store)
    [a] = await worker.take()
    assert await worker.settle(a, ttl_seconds=10**18) == Settled.OK
    assert await place_of(store, "a") == []


async def test_results_larger_than_one_call_are_settled_in_several(store: Store) -> None:
    await store.enqueue_many([job(str(n)) for n in range(12)])
    worker = await hand(store)
    big = b'"' + b"x" * 1_000_000 + b'"'
    runs = [
        Settlement(one.id, one.token, Verdict(end=End.COMPLETE, result=big, ttl_seconds=60))
        for one in await worker.take(12)
    ]
    assert fits(runs) < 12
    assert await store.settle(worker.worker_id, runs) == [Settled.OK] * 12


async def test_a_diverted_job_waits_in_its_runners_queue_and_remembers_its_own(store: Store, worker: Hand) -> None:
    (claimed,) = await worker.take()

    assert await worker.settle(claimed, End.DIVERT, result=b"node#") == "ok"
    assert await worker.settle(claimed, End.DIVERT, result=b"node#") == "ok"

    waiting = await known(store, "a")
    assert (waiting.status, waiting.queue, waiting.fields.get("current_retries", "0")) == ("PENDING", "node#", "0")
    assert "start_time" not in waiting.fields
    assert await place_of(store, "a") == ["queue:node#"]
    runner = await hand(store, "runner", queues=["node#"])
    (again,) = await runner.take()
    assert (again.queue, again.attempt) == ("mail", 1)
    await runner.settle(again, End.RETRY, delay_ms=0)
    assert await place_of(store, "a") == ["queue:node#"]


async def test_a_job_that_was_cancelled_before_it_is_diverted_ends(store: Store, worker: Hand) -> None:
    (claimed,) = await worker.take()
    await store.cancel("a")

    await worker.settle(claimed, End.DIVERT, result=b"node#")

    assert (await known(store, "a")).status == "CANCELLED"
    assert await place_of(store, "a") == []
