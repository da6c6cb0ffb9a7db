"""depend: jobs that wait for others, from the beginning or later, and no circles."""

from __future__ import annotations

import pytest

from rrqd.client import RRQClient, SyncRRQClient
from rrqd.exc import InvalidRequest, UnknownParent
from rrqd.job import JobResult, JobStatus
from rrqd.model.lifecycle import End
from rrqd.store import Charge, Store
from tests.support.moves import hand, job, known, place_of, raw


async def leftovers(store: Store) -> list[bytes]:
    """Keys of the family that are there."""
    found = []
    for kind in ("parents", "children", "heirs", "depends", "kin", "endings", "facts"):
        found += await raw(store, "KEYS", f"rrqd:{kind}*")
    return sorted(found)


async def test_a_child_runs_when_all_its_parents_have_completed(store: Store) -> None:
    await store.enqueue_many([job("a"), job("b", queue="other"), job("c", parents=("a", "b"))])
    assert await place_of(store, "c") == ["depends:default"]
    worker = await hand(store, queues=["default", "other"])
    a, b = sorted(await worker.take(), key=lambda one: one.id)

    await worker.settle(a, result=b'{"rows": 3}')
    assert await worker.take() == []
    await worker.settle(b)

    (c,) = await worker.take()
    assert c.id == "c"
    assert c.parent_results == {
        "a": JobResult(status=JobStatus.COMPLETED, result={"rows": 3}),
        "b": JobResult(status=JobStatus.COMPLETED, result=1),
    }
    assert await leftovers(store) == []


async def test_parents_that_have_completed_already_count(store: Store) -> None:
    await store.enqueue_many([job("a")])
    worker = await hand(store)
    (a,) = await worker.take()
    await worker.settle(a)

    await store.enqueue_many([job("b", parents=("a",))])

    assert await place_of(store, "b") == ["queue:default"]
    (b,) = await worker.take()
    assert b.parent_results["a"] is not None
    assert await leftovers(store) == []


async def test_a_parent_whose_record_has_expired_is_none(store: Store) -> None:
    await store.enqueue_many([job("a"), job("b", parents=("a",))])
    worker = await hand(store)
    (a,) = await worker.take()
    await worker.settle(a)
    await raw(store, "DEL", "rrq:job:a")

    (b,) = await worker.take()
    assert b.parent_results == {"a": None}


async def test_unknown_parents_are_refused_and_the_others_written(store: Store) -> None:
    with pytest.raises(UnknownParent, match="nobody"):
        await store.enqueue_many([job("a"), job("b", parents=("a", "nobody")), job("c")])
    assert await store.get("b") is None
    assert await place_of(store, "c") == ["queue:default"]
    assert await leftovers(store) == []


async def test_priority_delay_and_age_count_once_it_is_free(store: Store) -> None:
    await store.enqueue_many(
        [
            job("a"),
            job("high", parents=("a",), priority=3),
            job("old", parents=("a",)),
            job("late", parents=("a",), delay_ms=60_000),
            job("young"),
        ]
    )
    assert await store.prioritise("old", None) == "noted"
    worker = await hand(store)
    (a,) = await worker.take(1)
    await worker.settle(a)

    assert [one.id for one in await worker.take()] == ["high", "old", "young"]
    assert await place_of(store, "late") == ["queue:default"]
    assert (await known(store, "high")).fields["rrqd_place"] == ""


async def test_a_parent_that_fails_for_good_holds_cancels_or_lets_run(store: Store) -> None:
    kinds = [job(word, parents=("a",), on_parent=word) for word in ("hold", "cancel", "run")]
    await store.enqueue_many([job("a"), *kinds, job("grandchild", parents=("cancel",), on_parent="run")])
    worker = await hand(store)
    (a,) = await worker.take(1)
    await worker.settle(a, End.RETRY)
    assert await place_of(store, "run") == ["depends:default"]
    (a,) = await worker.take(1)
    await worker.settle(a, End.BURY)

    assert await place_of(store, "hold") == ["depends:default"]
    cancelled = await known(store, "cancel")
    assert cancelled.status == "CANCELLED"
    assert cancelled.last_error == "Cancelled: it depends on job a, which has not completed."
    assert 0 < await raw(store, "TTL", "rrq:job:cancel") <= 86_400
    taken = await worker.take()
    assert [one.id for one in taken] == ["run", "grandchild"]
    assert taken[0].parent_results["a"] == JobResult(status=JobStatus.FAILED, last_error="why")

    await store.revive(["a"])
    (a,) = await worker.take()
    await worker.settle(a)
    assert [one.id for one in await worker.take()] == ["hold"]
    assert await leftovers(store) == []


async def test_the_same_policies_hold_for_a_parent_that_has_failed_before(store: Store) -> None:
    await store.enqueue_many([job("a")])
    await store.cancel("a")
    await store.enqueue_many([job(word, parents=("a",), on_parent=word) for word in ("hold", "cancel", "run")])

    assert await place_of(store, "hold") == ["depends:default"]
    assert (await known(store, "cancel")).status == "CANCELLED"
    assert await place_of(store, "run") == ["queue:default"]


@pytest.mark.parametrize("how", ["settle", "release", "cancel", "poison"])
async def test_every_way_out_of_a_parent_is_heard(store: Store, how: str) -> None:
    await store.enqueue_many([job("a"), job("b", parents=("a",), on_parent="run")])
    worker = await hand(store)
    if how == "cancel":
        await store.cancel("a")
    else:
        (a,) = await worker.take()
        if how == "settle":
            await worker.settle(a, End.CANCEL)
        if how == "release":
            await store.cancel("a")
            await store.close_worker("worker-1", reason="test", charge=Charge.NOBODY)
        if how == "poison":
            await raw(store, "HSET", "rrq:job:a", "rrqd_stalls", "9")
            await store.close_worker("worker-1", reason="test", charge=Charge.DEATH)

    assert await place_of(store, "b") == ["queue:default"]


async def test_a_child_that_is_cancelled_leaves_nothing_behind(store: Store) -> None:
    await store.enqueue_many([job("a"), job("b", parents=("a",)), job("c", parents=("b",), on_parent="cancel")])

    assert await store.cancel("b") == "cancelled"

    assert await place_of(store, "b") == []
    assert (await known(store, "c")).status == "CANCELLED"
    assert await leftovers(store) == []


async def test_a_foreign_tool_can_not_make_it_run_early(store: Store) -> None:
    await store.enqueue_many([job("a"), job("b", parents=("a",))])
    await raw(store, "ZADD", "rrq:queue:default", 1, "b")
    worker = await hand(store)

    assert [one.id for one in await worker.take()] == ["a"]
    assert await place_of(store, "b") == ["depends:default"]


async def test_a_job_may_wait_for_more_or_fewer_while_it_waits(store: Store) -> None:
    await store.enqueue_many([job("a"), job("b"), job("c", priority=2)])

    assert await store.depend("c", ["a", "b"]) == "waits"
    assert await place_of(store, "c") == ["depends:default"]
    assert (await known(store, "c")).parents == ["a", "b"]
    assert await store.undepend("c", ["a"]) == "waits"
    assert await store.undepend("c") == "ready"
    assert await place_of(store, "c") == ["prio:default"]
    assert await leftovers(store) == [b"rrqd:facts"]
    assert await store.undepend("c") == "too-late"
    assert await store.depend("nobody", ["a"]) == "unknown"
    with pytest.raises(UnknownParent):
        await store.depend("c", ["nobody"])
    worker = await hand(store)
    await worker.take()
    assert await store.depend("c", ["a"]) == "too-late"


async def test_nobody_comes_to_wait_for_itself(store: Store) -> None:
    await store.enqueue_many([job("a"), job("b", parents=("a",)), job("c", parents=("b",))])

    for parent in ("a", "b", "c"):
        with pytest.raises(InvalidRequest, match="waits for job a itself"):
            await store.depend("a", [parent])
    assert await place_of(store, "a") == ["queue:default"]


async def test_who_waits_for_whom_can_be_seen(store: Store) -> None:
    await store.enqueue_many([job("a"), job("b"), job("c", parents=("a", "b")), job("d", parents=("c",))])
    await store.cancel("a")

    kin = await store.kinship(await known(store, "c"))

    assert [(one.id, one.status, one.waited_for) for one in kin.parents] == [
        ("a", JobStatus.CANCELLED, True),
        ("b", JobStatus.PENDING, True),
    ]
    assert (kin.on_parent, kin.children, kin.some_children) == ("hold", 1, ["d"])
    assert await store.waiting_for_others("default", 0, 10) == ["c", "d"]
    assert (await store.queue_depths(["default"]))[0].dependent == 2


async def test_a_batch_may_name_its_own_jobs_in_any_order(store: Store, dsn: str) -> None:
    async with RRQClient(config={"redis_dsn": dsn}) as client:
        ids = await client.enqueue_many(
            [
                ("noop", {"job_id": "last", "depends_on": ["first"]}),
                ("noop", {"job_id": "first"}),
            ]
        )
        assert ids == ["last", "first"]
        with pytest.raises(InvalidRequest, match="circle"):
            await client.enqueue("noop", {"job_id": "x", "depends_on": ["x"]})
        with pytest.raises(UnknownParent):
            await client.enqueue_many([("noop", {"depends_on": ["nobody"]}), ("noop", {"job_id": "there"})])
        assert await client.get_job("there") is not None
        assert await client.dependencies.drop("last") == "ready"
        assert await client.dependencies.add("last", "first") == "waits"


def test_without_a_loop_all_the_same(dsn: str) -> None:
    with SyncRRQClient(config={"redis_dsn": dsn}) as client:
        parent = client.enqueue("noop")
        child = client.enqueue("noop", {"depends_on": parent})
        kin = client.dependencies.of(child)
        assert kin is not None
        assert [one.id for one in kin.parents] == [parent]
        assert client.dependencies.drop(child, parent) == "ready"
        assert client.dependencies.of("nobody") is None


async def test_one_that_is_purged_leaves_nothing_behind(store: Store) -> None:
    await store.enqueue_many([job("a"), job("b", parents=("a",))])

    await store.purge(["b"])

    assert await store.get("b") is None
    assert await leftovers(store) == []
