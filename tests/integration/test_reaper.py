"""The reaper: a node that is gone loses its jobs to the others, a server that was away costs nobody anything."""

from __future__ import annotations

import structlog

from rrqd.store import Store
from rrqd.upkeep.reaper import Reaper
from tests.support.moves import NODE, hand, job, lapse, place_of

LEASE_SECONDS = 2.0


def reaper(store: Store, node_id: str = "node-2") -> Reaper:
    return Reaper(store, node_id, LEASE_SECONDS, structlog.get_logger())


async def test_a_lapsed_nodes_jobs_go_back_after_one_lease_of_patience(store: Store) -> None:
    await store.enqueue_many([job("a")])
    await (await hand(store)).take()
    await lapse(store)
    other = reaper(store)
    await other.run_once(0.0)
    assert await place_of(store, "a") == ["held:worker-1"], "it has not connected yet"

    other.connected(0.0)
    await other.run_once(LEASE_SECONDS - 0.1)
    assert await place_of(store, "a") == ["held:worker-1"]
    await other.run_once(LEASE_SECONDS)
    assert await place_of(store, "a") == ["queue:default"]
    assert NODE not in await store.nodes()


async def test_who_has_lapsed_too_blames_the_server_and_waits(store: Store) -> None:
    await store.enqueue_many([job("a")])
    await (await hand(store)).take()
    await store.renew("node-2", 1000)
    await lapse(store)
    await lapse(store, "node-2")
    other = reaper(store)
    other.connected(-100.0)

    await other.run_once(0.0)
    assert await place_of(store, "a") == ["held:worker-1"]
    await store.renew("node-2", 60_000)
    await other.run_once(LEASE_SECONDS - 0.1)
    assert await place_of(store, "a") == ["held:worker-1"]
    await other.run_once(LEASE_SECONDS)
    assert await place_of(store, "a") == ["queue:default"]
