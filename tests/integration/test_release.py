"""release: jobs of a worker go back to their old place; deaths are charged to whom they belong."""

from __future__ import annotations

import pytest

from rrqd.store import Charge, ClaimState, Store, StorePolicy
from tests.support.moves import NODE, hand, job, known, lapse, place_of, raw


async def test_a_job_handed_back_comes_first_again(store: Store) -> None:
    await store.enqueue_many([job("a"), job("b"), job("c")])
    worker = await hand(store)
    first, _ = await worker.take(2)

    released = await store.release("worker-1", [(first.id, first.token)], "drain")

    assert released.queued == ["a"]
    assert await store.queue_page("default", 0, 10) == ["a", "c"]
    fields = (await known(store, "a")).fields
    assert fields["status"] == "PENDING"
    assert not {"worker_id", "start_time", "rrqd_token", "rrqd_stalls"} & fields.keys()


async def test_a_stale_token_releases_nothing(store: Store) -> None:
    await store.enqueue_many([job("a")])
    worker = await hand(store)
    (claimed,) = await worker.take()

    assert (await store.release("worker-1", [("a", claimed.token - 1)], "drain")).queued == []
    assert await place_of(store, "a") == ["held:worker-1"]


async def test_a_closed_worker_cannot_claim_any_more(store: Store) -> None:
    await store.enqueue_many([job(str(n)) for n in range(1200)])
    worker = await hand(store)
    while len(await store.held_by(worker.worker_id)) < 1000:
        await worker.take(100)

    released = await store.close_worker("worker-1", reason="planned", charge=Charge.NOBODY)

    assert len(released.queued) == 1000
    assert (await worker.claim()).state is ClaimState.CLOSED
    assert await store.workers_of(NODE) == []
    assert len(await store.queue_page("default", 0, 2000)) == 1200


async def test_a_close_asked_twice_happens_once(store: Store) -> None:
    await store.enqueue_many([job("a")])
    worker = await hand(store)
    await worker.take()
    await store.close_worker("worker-1", reason="crash-signal 9", charge=Charge.DEATH)

    assert (await store.close_worker("worker-1", reason="crash-signal 9", charge=Charge.DEATH)).queued == []
    assert (await known(store, "a")).number("rrqd_stalls") == 1


async def test_a_known_culprit_pays_alone(store: Store) -> None:
    await store.enqueue_many([job("guilty"), job("neighbour")])
    await (await hand(store)).take()

    await store.close_worker("worker-1", reason="crash-signal 11", charge=Charge.DEATH, culprit="guilty")

    assert (await known(store, "guilty")).number("rrqd_stalls") == 1
    neighbour = (await known(store, "neighbour")).fields
    assert not {"rrqd_stalls", "rrqd_aboard"} & neighbour.keys()


async def test_without_a_culprit_everybody_was_aboard(store: Store) -> None:
    await store.enqueue_many([job("a"), job("b")])
    await (await hand(store)).take()

    await store.close_worker("worker-1", reason="crash-signal 9", charge=Charge.DEATH)

    for job_id in ("a", "b"):
        one = await known(store, job_id)
        assert (one.number("rrqd_stalls"), one.number("rrqd_aboard")) == (None, 1)
        assert "crash-signal 9" in (one.last_error or "")


async def test_a_job_that_dies_alone_three_times_is_poison(store: Store) -> None:
    await store.enqueue_many([job("a")])
    for life in range(3):
        await (await hand(store, f"worker-{life}")).take()
        released = await store.close_worker(f"worker-{life}", reason="crash-signal 11", charge=Charge.DEATH)

    assert released.buried == ["a"]
    dead = await known(store, "a")
    assert dead.status == "FAILED"
    assert dead.error is not None
    assert dead.error["type"] == "poison"
    assert "died 3 times" in (dead.last_error or "")
    assert await place_of(store, "a") == ["dlq:default"]


async def test_max_stalls_is_obeyed(store: Store, dsn: str) -> None:
    strict = await Store.open(dsn, StorePolicy(max_stalls=1), client_name="rrqd:test")
    await strict.enqueue_many([job("a")])
    await (await hand(strict)).take()

    assert (await strict.close_worker("worker-1", reason="x", charge=Charge.DEATH)).buried == ["a"]
    await strict.close()


async def test_a_cancelled_job_does_not_come_back(store: Store) -> None:
    await store.enqueue_many([job("a")])
    await (await hand(store)).take()
    assert await store.cancel("a") == "asked"

    released = await store.close_worker("worker-1", reason="crash-signal 9", charge=Charge.DEATH)

    assert released.cancelled == ["a"]
    assert (await known(store, "a")).status == "CANCELLED"
    assert await place_of(store, "a") == []


async def test_a_reaper_cannot_take_from_a_living_node(store: Store) -> None:
    await store.enqueue_many([job("a")])
    await (await hand(store)).take()

    released = await store.close_worker("worker-1", reason="x", charge=Charge.DEATH, only_if_lapsed_node=NODE)

    assert released.queued == []
    assert await place_of(store, "a") == ["held:worker-1"]


async def test_a_lapsed_node_is_emptied_and_forgotten(store: Store) -> None:
    await store.enqueue_many([job("a")])
    await (await hand(store)).take()
    await lapse(store)
    assert await store.lapsed_nodes() == [NODE]

    await store.close_worker("worker-1", reason="x", charge=Charge.DEATH, only_if_lapsed_node=NODE)

    assert await place_of(store, "a") == ["queue:default"]
    assert await store.nodes() == {}


@pytest.mark.parametrize("gone", ["DEL", "SET"])
async def test_a_job_destroyed_meanwhile_does_not_stop_the_release(store: Store, gone: str) -> None:
    await store.enqueue_many([job("a"), job("b")])
    await (await hand(store)).take()
    await raw(store, "DEL", "rrq:job:a")
    if gone == "SET":
        await raw(store, "SET", "rrq:job:a", "text")

    assert (await store.close_worker("worker-1", reason="x", charge=Charge.DEATH)).queued == ["b"]


async def test_a_machine_that_is_gone_is_not_the_fault_of_the_one_job_aboard(store: Store) -> None:
    await store.enqueue_many([job("a")])
    for death in range(1, 4):
        worker = await hand(store, f"worker-{death}")
        await worker.take()
        await store.close_worker(worker.worker_id, reason="node gone", charge=Charge.NODE)
        found = await known(store, "a")
        assert (found.number("rrqd_aboard"), found.number("rrqd_stalls")) == (min(death, 2), 1 if death == 3 else None)


async def test_a_worker_that_outlived_its_master_charges_nobody(store: Store) -> None:
    from rrqd.config.settings import Settings
    from rrqd.upkeep.departed import Departed, see_off

    await store.enqueue_many([job("a")])
    worker = await hand(store)
    await worker.take()
    gone = Departed(worker_id=worker.worker_id, pool="default", reason="planned: the master is gone")
    await see_off(store, Settings(), gone)
    assert (await known(store, "a")).number("rrqd_stalls") is None
