"""move: a job is put elsewhere by hand, out of any state in which it can wait, and is never in two places."""

from __future__ import annotations

import msgspec
import pytest

from rrqd.exc import StoreRefused
from rrqd.model.lifecycle import End
from rrqd.store import Moved, Settled, Store, StorePolicy
from rrqd.store.choosing import unfail, unfinished
from tests.support.moves import hand, job, known, place_of, raw
from tests.support.wait import until_async


async def test_a_waiting_job_moves_and_keeps_what_is_not_said(store: Store) -> None:
    await store.enqueue_many(
        [job("a"), job("b", priority=3), job("c", delay_ms=60_000), job("d", priority=1, delay_ms=60_000)]
    )
    (before,) = await raw(store, "ZMSCORE", "rrq:queue:default", "a")

    assert await store.move(["a", "b", "c", "d"], queue="other") == [Moved.MOVED] * 4

    assert [await place_of(store, one) for one in "abcd"] == [
        ["queue:other"], ["prio:other"], ["queue:other"], ["later:other"],
    ]  # fmt: skip
    assert await raw(store, "ZMSCORE", "rrq:queue:other", "a") == [before]
    assert (await known(store, "b")).priority == 3
    assert (await known(store, "a")).queue == "other"
    assert await store.queue_page("other", 0, 10) == ["b", "a", "c", "d"]


async def test_time_and_priority_can_be_changed_alone(store: Store) -> None:
    await store.enqueue_many([job("a"), job("b", priority=3)])

    assert await store.move(["a"], delay_ms=60_000) == ["moved"]
    assert await store.move(["b"], priority=0) == ["moved"]
    assert [one.id for one in await (await hand(store)).take()] == ["b"]
    assert "next_scheduled_run_time" in (await known(store, "a")).fields
    assert await store.move(["a"], delay_ms=0, priority=2) == ["moved"]
    assert await place_of(store, "a") == ["prio:default"]


async def test_one_that_waits_for_others_goes_on_waiting(store: Store) -> None:
    await store.enqueue_many([job("parent"), job("child", parents=("parent",))])

    assert await store.move(["child"], queue="other") == ["moved"]
    assert await place_of(store, "child") == ["depends:other"]
    worker = await hand(store)
    (parent,) = await worker.take()
    await worker.settle(parent)
    assert await place_of(store, "child") == ["queue:other"]


async def test_a_buried_job_comes_back_as_new(store: Store) -> None:
    await store.enqueue_many([job("a")])
    worker = await hand(store)
    (a,) = await worker.take()
    await worker.settle(a, End.BURY)

    assert await store.move(["a"], queue="other", delay_ms=60_000) == ["revived"]

    assert await place_of(store, "a") == ["queue:other"]
    back = await known(store, "a")
    assert (back.status, back.number("current_retries"), back.last_error) == ("PENDING", 0, None)
    assert await raw(store, "TTL", "rrq:job:a") == -1
    assert await store.dlq_size() == 0


async def test_a_running_job_is_left_alone_unless_asked_for(store: Store) -> None:
    await store.enqueue_many([job("a"), job("done")])
    worker = await hand(store)
    claimed = await worker.take()
    await worker.settle(claimed[1])

    assert await store.move(["a", "done", "nobody"], queue="other") == ["running", "too-late", "unknown"]
    assert await store.move(["done", "nobody"], states=["running"]) == ["too-late", "unknown"]
    assert await place_of(store, "a") == ["held:worker-1"]
    await store.enqueue_many([job("waits")])
    assert await store.move(["waits"], states=["running"]) == ["waiting"]


async def test_a_job_that_is_taken_goes_back_to_its_place_and_its_last_run_settles_nothing(
    store: Store, dsn: str
) -> None:
    heard: list[bytes] = []
    ear = await Store.open(dsn, StorePolicy(), client_name="w", channel="worker-1", on_message=heard.append)
    await store.set_throttle("api", 1)
    await store.enqueue_many([job("a", throttles=("api",)), job("b", throttles=("api",)), job("c")])
    worker = await hand(store)
    a = next(one for one in await worker.take() if one.id == "a")

    assert await store.move(["a"], states=["running"]) == ["taken"]

    assert await place_of(store, "a") == ["prio:default"]
    assert await store.throttle_holders("api") == []
    assert await place_of(store, "b") == ["prio:default"], "its place under the throttle is free"

    async def told() -> bool:
        return heard == [b"taken %d a" % a.token]

    await until_async(told, 2, "the message")
    claim = await worker.claim(0)
    assert (claim.taken, claim.cancels) == ([a.token], [])
    assert (await worker.claim(0, again=True)).taken == [a.token]
    assert await worker.settle(a) is Settled.STALE
    again = (await worker.take())[0]
    assert (again.id, again.attempt) == ("a", 1)
    assert [one["what"] for one in await history(store, "a")] == ["taken"]
    await ear.close()


async def history(store: Store, job_id: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = msgspec.json.decode((await known(store, job_id)).fields["rrqd_history"])
    return found


async def test_a_cancelled_run_that_is_taken_ends_as_cancelled(store: Store) -> None:
    await store.enqueue_many([job("a")])
    worker = await hand(store)
    (a,) = await worker.take()
    await store.cancel("a")

    assert await store.move(["a"], states=["running"]) == ["cancelled"]
    assert (await known(store, "a")).status == "CANCELLED"
    assert await place_of(store, "a") == []
    assert await worker.settle(a) is Settled.STALE


async def test_a_place_that_is_no_queue_moves_nothing(store: Store) -> None:
    await store.enqueue_many([job("a"), job("b")])
    await raw(store, "SET", "rrq:queue:spoilt", "x")
    worker = await hand(store)
    (a,) = await worker.take(1)

    for states in (["waiting"], ["running"]):
        with pytest.raises(StoreRefused, match="not a queue"):
            await store.move(["a" if states == ["running"] else "b"], queue="spoilt", states=states)
    assert await place_of(store, "b") == ["queue:default"]
    assert await place_of(store, "a") == ["held:worker-1"]
    assert await worker.settle(a) is Settled.OK


async def test_a_job_that_a_foreign_worker_has_locked_is_too_late(store: Store) -> None:
    await store.enqueue_many([job("a")])
    await raw(store, "SET", "rrq:lock:job:a", "foreign")
    assert await store.move(["a"], queue="other") == ["too-late"]
    assert await place_of(store, "a") == ["queue:default"]


async def test_failures_are_grouped_and_come_back_by_group_in_bounded_steps(store: Store) -> None:
    await store.enqueue_many([job(f"j{n}") for n in range(6)])
    worker = await hand(store)
    for one in await worker.take():
        await worker.settle(one, End.BURY, result=b"odd" if one.id == "j5" else b"bad address")

    assert await store.groups() == {"bad address": 5, "odd": 1}
    assert (await store.failed_in("bad address", limit=2)).ids == ["j4", "j3"]
    await store.revive(["j4"])
    await store.purge(["j3"])
    assert (await store.failed_in("bad address")).ids == ["j2", "j1", "j0"]

    assert await unfail(store, "bad address", "other", 2) == ["j0", "j1"]
    assert await store.queue_page("other", 0, 9) == ["j0", "j1"]
    assert await unfail(store, "bad address", None, 9) == ["j2"]
    assert await unfail(store, "bad address", None, 9) == []
    assert await store.groups() == {"odd": 1}
    assert "rrqd_group" not in (await known(store, "j0")).fields


async def test_all_of_a_tag_or_a_queue_are_found_and_cancelled(store: Store) -> None:
    await store.set_throttle("api", 0)
    await store.enqueue_many([
        job("plain", tags=("t",)), job("high", priority=1), job("child", parents=("plain",)),
        job("parked", throttles=("api",)), job("elsewhere", queue="b", tags=("t",)),
        job("runs", queue="c", tags=("t",)),
    ])  # fmt: skip
    worker = await hand(store, queues=["c"])
    await worker.take()
    await (await hand(store, "worker-2", queues=["default"])).claim(0)

    assert sorted(await unfinished(store, queue="default")) == ["child", "high", "parked", "plain"]
    assert sorted(await unfinished(store, tag="t")) == ["elsewhere", "plain", "runs"]
    assert await unfinished(store, tag="t", queue="b") == ["elsewhere"]
    assert await store.cancel_many(["plain", "runs", "nobody"]) == ["cancelled", "asked", "unknown"]
    assert await unfinished(store, tag="t") == ["runs", "elsewhere"]
