"""renew: one deadline for a node and all its workers, by the server's clock."""

from __future__ import annotations

import pytest

from rrqd.store import Charge, ClaimState, Store
from tests.support.moves import LEASE_MS, NODE, hand, job, lapse, place_of, raw


async def test_a_lease_ends_one_lease_after_the_servers_now(store: Store) -> None:
    seconds, _ = await raw(store, "TIME")

    lease = await store.renew(NODE, LEASE_MS)

    assert lease.deadline_ms - lease.now_ms == pytest.approx(LEASE_MS, abs=0.01)
    assert abs(lease.now_ms - int(seconds) * 1000) < 2000
    assert await store.nodes() == {NODE: pytest.approx(lease.deadline_ms, abs=0.01)}
    left = await store.lease_left(NODE)
    assert left is not None
    assert LEASE_MS / 1000 - 1 < left <= LEASE_MS / 1000


async def test_a_node_is_told_what_its_lease_was_before(store: Store) -> None:
    assert (await store.renew(NODE, LEASE_MS)).was == "unknown"
    assert (await store.renew(NODE, LEASE_MS)).was == "live"
    await lapse(store)
    assert (await store.renew(NODE, LEASE_MS)).was == "lapsed"
    assert (await store.renew(NODE, LEASE_MS)).was == "live"


async def test_a_node_that_was_reaped_is_told_that_nobody_knows_it(store: Store) -> None:
    await hand(store)
    await lapse(store)
    await store.close_worker("worker-1", reason="x", charge=Charge.DEATH, only_if_lapsed_node=NODE)

    assert (await store.renew(NODE, LEASE_MS)).was == "unknown"


async def test_a_renewal_comes_before_the_reaper_or_after_it(store: Store) -> None:
    await store.enqueue_many([job("a")])
    worker = await hand(store)
    await worker.take()
    await lapse(store)
    assert await store.lapsed_nodes() == [NODE]

    await store.renew(NODE, LEASE_MS)

    assert await store.lapsed_nodes() == []
    await store.close_worker("worker-1", reason="x", charge=Charge.DEATH, only_if_lapsed_node=NODE)
    assert await place_of(store, "a") == ["held:worker-1"]


async def test_all_workers_of_a_node_live_by_the_same_lease(store: Store) -> None:
    workers = [await hand(store, name) for name in ("worker-1", "worker-2")]
    await lapse(store)
    assert {(await worker.claim()).state for worker in workers} == {ClaimState.LAPSED}

    await store.renew(NODE, LEASE_MS)

    assert {(await worker.claim()).state for worker in workers} == {ClaimState.OK}


async def test_one_nodes_lease_is_not_anothers(store: Store) -> None:
    await store.renew("node-1", LEASE_MS)
    await store.renew("node-2", LEASE_MS)
    await lapse(store, "node-1")

    await store.renew("node-2", LEASE_MS)

    assert await store.lapsed_nodes() == ["node-1"]


async def test_a_node_that_leaves_with_nobody_behind_is_forgotten(store: Store) -> None:
    await store.renew(NODE, LEASE_MS)

    await store.leave(NODE)

    assert await store.nodes() == {}
    assert await store.lease_left(NODE) is None


async def test_workers_that_are_left_behind_are_for_any_reaper_at_once(store: Store) -> None:
    await store.enqueue_many([job("a")])
    await (await hand(store)).take()

    await store.leave(NODE)

    assert await store.lapsed_nodes() == [NODE]
    await store.close_worker("worker-1", reason="left", charge=Charge.NOBODY, only_if_lapsed_node=NODE)
    assert await place_of(store, "a") == ["queue:default"]


async def test_only_a_lapsed_node_without_workers_can_be_forgotten(store: Store) -> None:
    await hand(store)
    await store.forget_node(NODE)
    await lapse(store)
    await store.forget_node(NODE)
    assert list(await store.nodes()) == [NODE]

    await store.close_worker("worker-1", reason="x", charge=Charge.NOBODY)
    await store.forget_node(NODE)

    assert await store.nodes() == {}


async def test_a_full_server_still_renews(store: Store) -> None:
    await raw(store, "CONFIG", "SET", "maxmemory", "1")
    try:
        assert (await store.renew(NODE, LEASE_MS)).was == "unknown"
    finally:
        await raw(store, "CONFIG", "SET", "maxmemory", "0")
