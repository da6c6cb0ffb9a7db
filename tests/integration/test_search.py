"""Jobs found by a filter: only where they can be, a bounded number a call, page after page until all was seen."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from rrqd.job import JobStatus
from rrqd.model.job import Job
from rrqd.model.lifecycle import End
from rrqd.model.signature import signature_of
from rrqd.model.wanted import Wanted, as_query
from rrqd.store import Store
from rrqd.store.search import Spot, search
from tests.support.moves import hand, job

NOW = datetime.now(UTC)


def wanted(**said: str) -> Wanted:
    return Wanted.read(said, NOW + timedelta(seconds=5))


async def ids(store: Store, everywhere: bool = False, **said: str) -> set[str]:
    found = await search(store, wanted(**said), limit=1000, look_most=10_000, everywhere=everywhere)
    assert found.next is None
    return {one.id for one in found.jobs}


async def a_world(store: Store) -> None:
    """One job of each kind: r runs, f is buried, t comes again, c is done, w waits, l is for later, d waits for w, h
    for a throttle, p has a priority, x is cancelled."""
    worker = await hand(store)
    for name, end in (("f", End.BURY), ("t", End.RETRY), ("c", End.COMPLETE), ("r", None)):
        await store.enqueue_many([job(name, function="report", tags=("blue",) if name in "fr" else ())])
        (claimed,) = await worker.take()
        if end is not None:
            delay = {"delay_ms": 60_000} if end is End.RETRY else {}
            await worker.settle(claimed, end, error=f"no such customer {name}", **delay)
    await store.set_throttle("printer", 0)
    await store.enqueue_many([job("h", queue="mail", throttles=("printer",))])
    await (await hand(store, "worker-2", queues=["mail"])).claim()
    await store.enqueue_many([
        job("w", queue="mail", tenant="acme"),
        job("l", queue="mail", delay_ms=60_000), job("d", queue="mail", parents=("w",)),
        job("p", queue="mail", priority=3), job("x", queue="mail"),
    ])  # fmt: skip
    await store.cancel("x")


async def test_every_word_of_a_filter_finds_its_jobs_wherever_they_are(store: Store) -> None:
    await a_world(store)
    listed = {"r", "f", "t", "h", "w", "l", "d", "p"}
    assert await ids(store) == listed
    assert await ids(store, everywhere=True) == listed | {"c", "x"}
    assert await ids(store, state="active") == {"r"}
    assert await ids(store, state="failed, Retrying") == {"f", "t"}
    assert await ids(store, state="completed") == {"c"}
    assert await ids(store, state="cancelled", queue="mail") == {"x"}
    assert await ids(store, queue="rrq:queue:mail") == {"h", "w", "l", "d", "p"}
    assert await ids(store, function="report") == {"r", "f", "t"}
    assert await ids(store, tag="blue") == {"r", "f"}
    assert await ids(store, tag="blue", state="failed") == {"f"}
    assert await ids(store, worker="worker-1") == {"r", "f", "t"}
    assert await ids(store, worker="worker-1", state="active") == {"r"}
    assert await ids(store, tenant="acme") == {"w"}
    assert await ids(store, error="customer f") == {"f"}
    assert await ids(store, since="1h") == listed
    assert await ids(store, since="1h", until="59m") == set()
    buried = await store.get("f")
    assert isinstance(buried, Job)
    assert await ids(store, signature=signature_of(buried)) == {"f"}
    assert await ids(store, signature="0" * 12) == set()
    assert await ids(store, queue="nobody") == set()


@pytest.mark.parametrize("limit", [1, 3, 7])
async def test_page_after_page_everything_is_seen_once(store: Store, limit: int) -> None:
    await a_world(store)
    await store.enqueue_many([job(f"m{n}", queue="mail") for n in range(20)])
    seen: Counter[str] = Counter()
    cursor = None
    for _ in range(100):
        found = await search(store, wanted(), cursor=cursor, limit=limit, everywhere=False)
        assert len(found.jobs) <= limit
        seen.update(one.id for one in found.jobs)
        cursor = found.next
        if cursor is None:
            break
    assert set(seen.values()) == {1}
    assert len(seen) == 28


async def test_a_call_looks_at_no_more_than_it_may_and_says_so(store: Store) -> None:
    await store.enqueue_many([job(f"m{n}") for n in range(900)])
    await store.enqueue_many([job("needle", function="other")])
    found = await search(store, wanted(function="other"), look_most=300)
    assert found.jobs == []
    assert 200 <= found.looked <= 500
    looks, total = 1, found.looked
    while found.next is not None and not found.jobs:
        found = await search(store, wanted(function="other"), look_most=300, cursor=found.next)
        looks, total = looks + 1, total + found.looked
    assert [one.id for one in found.jobs] == ["needle"]
    assert (looks >= 3, total) == (True, 901)


async def test_a_walk_over_all_keys_goes_on_where_it_stopped(store: Store) -> None:
    worker = await hand(store)
    await store.enqueue_many([job(f"m{n}") for n in range(40)])
    for claimed in await worker.take(40):
        await worker.settle(claimed)
    seen: list[str] = []
    cursor = None
    while True:
        found = await search(store, wanted(state="completed"), cursor=cursor, limit=7)
        seen += [one.id for one in found.jobs]
        if (cursor := found.next) is None:
            break
    assert sorted(seen) == sorted(f"m{n}" for n in range(40))


def test_a_wrong_filter_or_cursor_is_told_apart_from_one_that_finds_nothing() -> None:
    for said in ({"state": "done"}, {"since": "yesterday"}, {"until": "2026-13-01"}):
        with pytest.raises(ValueError, match=r"there is no state|is no time"):
            wanted(**said)
    assert wanted(since="2026-01-31").since == datetime(2026, 1, 31, tzinfo=UTC)
    assert wanted(state="", queue=" ", page="7") == Wanted()
    assert wanted(state="failed").states == {JobStatus.FAILED}
    for text in ("", "x", "bm8", str(Spot(99)), str(Spot(0, at=-1)), str(Spot(6, step="x"))):
        with pytest.raises(ValueError, match="no cursor"):
            Spot.read(text)
    assert Spot.read(str(Spot(1, "mail / ü", 7))) == Spot(1, "mail / ü", 7)
    assert as_query({"queue": "a b", "state": "failed", "tag": " ", "limit": "5"}) == "state=failed&queue=a+b"
