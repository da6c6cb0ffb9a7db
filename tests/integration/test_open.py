"""open: a worker may claim only under a node whose end somebody will notice."""

from __future__ import annotations

from rrqd.store import Charge, ClaimState, Store
from tests.support.moves import LEASE_MS, NODE, Hand, hand, job, lapse, place_of, raw


async def test_an_open_worker_is_known_with_its_node(store: Store) -> None:
    await store.enqueue_many([job("a")])
    await (await hand(store)).take()

    (row,) = await store.workers()

    seconds, _ = await raw(store, "TIME")
    assert (row.worker_id, row.node_id, row.held) == ("worker-1", NODE, 1)
    assert abs(row.opened_ms / 1000 - int(seconds)) < 3
    assert await store.workers_of(NODE) == ["worker-1"]


async def test_without_a_live_lease_nothing_is_opened(store: Store) -> None:
    assert not await store.open_worker("worker-1", NODE)
    await store.renew(NODE, LEASE_MS)
    await lapse(store)
    assert not await store.open_worker("worker-1", NODE)

    assert await store.workers_of(NODE) == []
    assert (await Hand(store, "worker-1").claim()).state is ClaimState.CLOSED


async def test_opening_twice_keeps_what_is_held_and_the_turn(store: Store) -> None:
    await store.enqueue_many([job("a"), job("b")])
    worker = await hand(store)
    first = await worker.claim(1)

    assert await store.open_worker("worker-1", NODE)

    again = await worker.claim(1, again=True)
    assert [(one.id, one.token) for one in again.jobs] == [(one.id, one.token) for one in first.jobs]
    assert await place_of(store, "a") == ["held:worker-1"]
    assert await place_of(store, "b") == ["queue:default"]


async def test_a_closed_worker_that_opens_anew_holds_nothing(store: Store) -> None:
    await store.enqueue_many([job("a")])
    await (await hand(store)).take()
    await store.close_worker("worker-1", reason="x", charge=Charge.NOBODY)

    worker = await hand(store)

    assert await store.held_by("worker-1") == {}
    assert [claimed.id for claimed in await worker.take()] == ["a"]


async def test_workers_of_two_nodes_are_kept_apart(store: Store) -> None:
    await hand(store, "worker-1", "node-1")
    await hand(store, "worker-2", "node-2")

    assert await store.workers_of("node-1") == ["worker-1"]
    assert await store.workers_of("node-2") == ["worker-2"]
    assert {row.worker_id for row in await store.workers()} == {"worker-1", "worker-2"}


async def test_a_full_server_still_opens(store: Store) -> None:
    await store.renew(NODE, LEASE_MS)
    await raw(store, "CONFIG", "SET", "maxmemory", "1")
    try:
        assert await store.open_worker("worker-1", NODE)
    finally:
        await raw(store, "CONFIG", "SET", "maxmemory", "0")
