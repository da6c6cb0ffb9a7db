"""Unique, rate limit, debounce in the store: which job is made, which key is held, and when it is free again."""

from __future__ import annotations

import uuid
from collections import Counter
from typing import Any

import pytest

from rrqd.client import RRQClient, SyncRRQClient
from rrqd.exc import InvalidRequest, RateLimited
from rrqd.job import EnqueueReport, Happened
from rrqd.model.job import Once, Until
from rrqd.model.lifecycle import End
from rrqd.store import Charge, Store
from tests.support.moves import hand, job, known, place_of, raw

LIMIT = Once(rate_limit_key="user-1", window_seconds=30)
BURST = Once(debounce_key="doc-1", window_seconds=600, debounce_ms=600_000)
STARTED = Once(unique_key="k", unique_until=Until.STARTED)
FINISHED = Once(unique_key="k", unique_until=Until.FINISHED)
UNIQUE_KEY = "rrq:idempotency:k"


async def happened(store: Store, *jobs: object, repeated: bool = False) -> list[tuple[str | None, str]]:
    return [(one.job_id, one.happened) for one in await store.enqueue_many(jobs, repeated=repeated)]  # type: ignore[arg-type]


async def test_a_job_that_uses_none_of_them_costs_no_command(store: Store) -> None:
    worker = await hand(store)

    async def reads(**fields: Any) -> Counter[str]:
        """Commands of a whole life by which keys of these could be read or written."""
        await raw(store, "CONFIG", "RESETSTAT")
        await store.enqueue_many([job(**fields)])
        await worker.settle((await worker.take())[0])
        stats = (await raw(store, "INFO", "commandstats")).decode().splitlines()
        calls = {
            line.split(":")[0][8:]: int(line.split("calls=")[1].split(",")[0]) for line in stats if "calls=" in line
        }
        return Counter({name: calls.get(name, 0) for name in ("get", "set", "del", "expire", "hmget", "hget")})

    await reads()
    plain = await reads()
    assert plain == Counter(get=1, set=1, hmget=plain["hmget"], hget=plain["hget"])  # the token
    assert await reads(once=FINISHED) - plain == Counter(get=3, set=1, hmget=1, **{"del": 1})


# Rate limit.


async def test_a_rate_limit_lets_the_first_of_a_window_through(store: Store) -> None:
    said = await happened(store, job("a", once=LIMIT), job("b", once=LIMIT), job("c"))

    assert said == [("a", "created"), (None, "limited"), ("c", "created")]
    assert await store.get("b") is None
    assert await raw(store, "GET", "rrq:rate_limit:user-1") == b"a"
    assert await raw(store, "TTL", "rrq:rate_limit:user-1") in (29, 30)


async def test_a_window_lasts_though_its_job_has_ended(store: Store) -> None:
    await happened(store, job("a", once=LIMIT))
    worker = await hand(store)
    await worker.settle((await worker.take())[0])

    assert await happened(store, job("b", once=LIMIT)) == [(None, "limited")]
    await raw(store, "DEL", "rrq:rate_limit:user-1")
    assert await happened(store, job("b", once=LIMIT)) == [("b", "created")]


async def test_a_limited_request_repeated_after_a_lost_reply_made_its_job(store: Store) -> None:
    await happened(store, job("a", once=LIMIT))

    assert await happened(store, job("a", once=LIMIT), repeated=True) == [("a", "created")]
    assert await store.queue_page("default", 0, 10) == ["a"]


# Debounce.


async def test_the_last_of_a_burst_runs_once_in_the_queue_it_names(store: Store) -> None:
    first = job("a", params=b'{"n":1}', max_retries=2, correlation_context=b'{"t":"1"}', delay_ms=600_000, once=BURST)
    last = job("b", function="other", queue="mail", trace_context=b'{"x":"y"}', delay_ms=900_000, once=BURST)

    assert await happened(store, first, last) == [("a", "created"), ("a", "replaced")]

    fields = (await known(store, "a")).fields
    assert (fields["function_name"], fields["job_params"], fields["queue_name"]) == ("other", "{}", "rrq:queue:mail")
    assert fields["trace_context"] == '{"x":"y"}'
    assert "max_retries" not in fields
    assert "correlation_context" not in fields
    assert await place_of(store, "a") == ["queue:mail"]
    assert await store.get("b") is None
    assert await raw(store, "TTL", "rrq:debounce:doc-1") > 590


async def test_a_burst_after_the_start_is_a_new_job(store: Store) -> None:
    await happened(store, job("a", once=BURST))
    worker = await hand(store)
    assert [one.id for one in await worker.take()] == ["a"]

    assert await happened(store, job("b", delay_ms=600_000, once=BURST)) == [("b", "created")]
    assert await raw(store, "GET", "rrq:debounce:doc-1") == b"b"


async def test_a_debounce_repeated_after_a_lost_reply_makes_no_second_job(store: Store) -> None:
    await happened(store, job("a", once=BURST))
    assert await happened(store, job("a", once=BURST), repeated=True) == [("a", "created")]
    await happened(store, job("b", params=b'{"n":2}', once=BURST))
    worker = await hand(store)
    assert [one.params for one in await worker.take()] == [{"n": 2}]

    assert await happened(store, job("b", params=b'{"n":2}', once=BURST), repeated=True) == [("a", "replaced")]
    assert await store.get("b") is None


async def test_a_burst_into_a_queue_that_is_none_changes_nothing(store: Store) -> None:
    await happened(store, job("a", delay_ms=600_000, once=BURST))
    await raw(store, "SET", "rrq:queue:bad", "something else")

    with pytest.raises(Exception, match="rrq:queue:bad"):
        await store.enqueue_many([job("b", function="other", queue="bad", once=BURST)])
    assert (await known(store, "a")).function == "noop"
    assert await store.queue_page("default", 0, 10) == ["a"]


# Unique, freed by the job.


async def test_a_key_until_the_start_is_free_once_a_worker_has_the_job(store: Store) -> None:
    assert await happened(store, job("a", once=STARTED), job("b", once=STARTED)) == [
        ("a", "created"),
        ("a", "duplicate"),
    ]
    worker = await hand(store)
    (running,) = await worker.take()
    assert await raw(store, "EXISTS", UNIQUE_KEY) == 0

    assert await happened(store, job("b", once=STARTED)) == [("b", "created")]
    await worker.settle(running)
    assert await raw(store, "GET", UNIQUE_KEY) == b"b"  # another's by now: the end of the first leaves it alone


@pytest.mark.parametrize("end", [End.COMPLETE, End.BURY, End.CANCEL])
async def test_a_key_until_the_end_is_free_however_the_job_ends(store: Store, end: End) -> None:
    await happened(store, job("a", once=FINISHED))
    worker = await hand(store)
    (running,) = await worker.take()
    assert await happened(store, job("b", once=FINISHED)) == [("a", "duplicate")]
    await worker.settle(running, end)

    assert await raw(store, "EXISTS", UNIQUE_KEY) == 0


async def test_a_key_until_the_end_is_held_through_retries(store: Store) -> None:
    await happened(store, job("a", once=FINISHED))
    worker = await hand(store)
    await worker.settle((await worker.take())[0], End.RETRY, delay_ms=60_000)

    assert await happened(store, job("b", once=FINISHED)) == [("a", "duplicate")]


@pytest.mark.parametrize("once", [STARTED, FINISHED])
async def test_a_cancelled_job_frees_its_key(store: Store, once: Once) -> None:
    await happened(store, job("a", once=once))
    await store.cancel("a")

    assert await raw(store, "EXISTS", UNIQUE_KEY) == 0


async def test_a_job_buried_as_poison_frees_its_key(store: Store) -> None:
    await happened(store, job("a", once=FINISHED))
    for n in range(3):
        worker = await hand(store, f"worker-{n}")
        assert await worker.take()
        await store.close_worker(worker.worker_id, reason="killed", charge=Charge.DEATH)

    assert (await known(store, "a")).status == "FAILED"
    assert await raw(store, "EXISTS", UNIQUE_KEY) == 0


async def test_a_revived_job_holds_its_key_again_if_nobody_has_it(store: Store) -> None:
    await happened(store, job("a", once=FINISHED))
    worker = await hand(store)
    await worker.settle((await worker.take())[0], End.BURY)
    assert await store.revive(["a"]) == ["a"]

    assert await happened(store, job("b", once=FINISHED)) == [("a", "duplicate")]


@pytest.mark.parametrize(
    ("once", "status", "then"),
    [
        (STARTED, "ACTIVE", "created"), (STARTED, "PENDING", "duplicate"), (FINISHED, "ACTIVE", "duplicate"),
        (FINISHED, "COMPLETED", "created"), (Once(unique_key="k", unique_ttl_seconds=60), "COMPLETED", "duplicate"),
    ],
)  # fmt: skip
async def test_a_key_whose_job_a_foreign_worker_ran(store: Store, once: Once, status: str, then: str) -> None:
    await happened(store, job("a", once=once))
    await raw(store, "HSET", "rrq:job:a", "status", status)

    assert (await happened(store, job("b", once=once)))[0][1] == then


# As an application asks.


async def test_of_many_all_others_are_written_when_one_is_limited(store: Store, dsn: str) -> None:
    limited = {"rate_limit_key": "user-1", "rate_limit_seconds": 60}
    async with RRQClient(config={"redis_dsn": dsn}) as client:
        with pytest.raises(RateLimited, match=r"^rate limited: 1 of 3 not enqueued$"):
            await client.enqueue_many([("f", limited), ("f", limited), ("f", {"job_id": "plain"})])
        reports = await client.enqueue_reports([("f", limited), ("f", {"unique_key": "k"}), ("g", {"unique_key": "k"})])

    assert await store.get("plain") is not None
    assert [one.happened for one in reports] == ["limited", "created", "duplicate"]
    assert reports[1].job_id == reports[2].job_id


def test_code_without_an_event_loop_has_the_same_calls(dsn: str) -> None:
    with SyncRRQClient(config={"redis_dsn": dsn}) as client:
        limit = {"rate_limit_key": str(uuid.uuid4()), "rate_limit_seconds": 60}
        burst = {"debounce_key": str(uuid.uuid4()), "debounce_seconds": 60}
        assert client.enqueue_with_rate_limit("f", limit) is not None
        assert client.enqueue_with_rate_limit("f", limit) is None
        first = client.enqueue_with_debounce("f", burst)
        assert client.enqueue_report("f", burst) == EnqueueReport(first, Happened.REPLACED)
        with pytest.raises(InvalidRequest, match=r"^rate_limit_key is required$"):
            client.enqueue_with_rate_limit("f", {})
        with pytest.raises(InvalidRequest, match=r"^debounce_seconds is required$"):
            client.enqueue_with_debounce("f", {"debounce_key": "x"})
