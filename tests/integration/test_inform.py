"""inform: many children are told in short steps, and ends that nobody reported are found."""

from __future__ import annotations

from rrqd.model.lifecycle import End
from rrqd.store import Store
from rrqd.upkeep.kin import Kin
from tests.support.moves import hand, job, known, place_of, raw

MANY = 2_500


async def test_many_children_are_told_in_steps_and_in_order(store: Store) -> None:
    await store.enqueue_many([job("a"), *(job(f"{n:05}", parents=("a",)) for n in range(MANY))])
    worker = await hand(store)
    (a,) = await worker.take()

    await worker.settle(a)
    told = await raw(store, "ZCARD", "rrq:queue:default")
    assert 0 < told <= 50
    (first,) = await worker.take(1)
    assert first.id == "00000"
    assert await raw(store, "ZCARD", "rrq:queue:default") <= 100, "a claim tells some, too"
    await Kin(store).run_once(0)

    assert await raw(store, "ZCARD", "rrq:queue:default") == MANY - 1
    assert await store.queue_page("default", 0, 3) == ["00001", "00002", "00003"]
    assert await raw(store, "EXISTS", "rrqd:endings", "rrqd:kin", "rrqd:children:a", "rrqd:facts") == 0


async def test_a_small_family_does_not_stand_behind_a_large_one(store: Store) -> None:
    await store.enqueue_many([job("big"), job("small"), job("only", parents=("small",))])
    await store.enqueue_many([job(parents=("big",)) for _ in range(500)])
    worker = await hand(store)
    big, small = await worker.take()
    await worker.settle(big)
    await worker.settle(small)

    assert await place_of(store, "only") == ["queue:default"]


async def test_many_cancelled_children_end_in_steps(store: Store) -> None:
    await store.enqueue_many([job("a"), *(job(f"{n}", parents=("a",), on_parent="cancel") for n in range(300))])
    await store.enqueue_many([job("last", parents=tuple(str(n) for n in range(300)), on_parent="run")])
    await store.cancel("a")
    assert await place_of(store, "last") == ["depends:default"]

    await Kin(store).run_once(0)

    assert (await known(store, "299")).status == "CANCELLED"
    assert await place_of(store, "last") == ["queue:default"]


async def test_what_a_real_worker_ended_is_found(store: Store) -> None:
    await store.enqueue_many([job("a"), job("b", parents=("a",))])
    await raw(store, "ZREM", "rrq:queue:default", "a")
    kin = Kin(store)
    await kin.run_once(0)
    assert await place_of(store, "b") == ["depends:default"]

    await raw(store, "HSET", "rrq:job:a", "status", "COMPLETED", "result", "5")
    await kin.run_once(1)

    assert await place_of(store, "b") == ["queue:default"]
    assert await raw(store, "EXISTS", "rrqd:kin", "rrqd:endings") == 0


async def test_a_parent_that_is_gone_counts_as_cancelled(store: Store) -> None:
    await store.enqueue_many(
        [job("a"), *(job(word, parents=("a",), on_parent=word) for word in ("hold", "cancel", "run"))]
    )
    await raw(store, "DEL", "rrq:job:a")
    await raw(store, "ZREM", "rrq:queue:default", "a")

    await Kin(store).run_once(0)

    assert (await known(store, "cancel")).status == "CANCELLED"
    assert await place_of(store, "run") == ["queue:default"]
    assert await place_of(store, "hold") == ["depends:default"]
    assert await store.undepend("hold") == "ready"
    assert await raw(store, "EXISTS", "rrqd:kin", "rrqd:children:a", "rrqd:heirs:a") == 0


async def test_a_parent_that_came_back_before_all_were_told_ends_once_more(store: Store) -> None:
    await store.enqueue_many([job("a"), *(job(f"{n}", parents=("a",), on_parent="cancel") for n in range(200))])
    worker = await hand(store)
    (a,) = await worker.take()
    await worker.settle(a, End.BURY)
    await store.revive(["a"])
    await Kin(store).run_once(0)
    assert (await known(store, "0")).status == "CANCELLED"
    assert await place_of(store, "199") == ["depends:default"], "it has not heard of the first end, and need not"

    (a,) = await worker.take()
    await worker.settle(a)
    await Kin(store).run_once(0)
    assert await place_of(store, "199") == ["queue:default"]


async def test_parents_are_looked_through_in_steps(store: Store) -> None:
    await store.enqueue_many([job(f"p{n}") for n in range(5)] + [job(f"c{n}", parents=(f"p{n}",)) for n in range(5)])
    await raw(store, "HSET", "rrq:job:p4", "status", "COMPLETED")

    assert await store.inform(0, 2) == (False, 2)
    assert await store.inform(2, 2) == (False, 4)
    assert await store.inform(4, 2) == (False, 0)
    assert await place_of(store, "c4") == ["queue:default"]
