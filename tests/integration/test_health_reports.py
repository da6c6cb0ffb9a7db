"""Who says that it lives: found by indexes first, so that the question costs no walk over all jobs."""

from __future__ import annotations

from rrqd.store import Store
from tests.support.moves import hand, raw


async def steps(store: Store) -> int:
    """How far the key space was walked since the last reset."""
    text = (await raw(store, "INFO", "commandstats")).decode()
    counts = {name: rest for name, _, rest in (line.partition(":") for line in text.splitlines())}
    return int(counts["cmdstat_scan"].split("calls=")[1].split(",")[0]) if "cmdstat_scan" in counts else 0


async def fill(store: Store, thousands: int) -> None:
    """So many keys of others."""
    await raw(store, "EVAL", f"for n = 1, {thousands}000 do redis.call('SET', 'other:' .. n, 'x') end", 0)
    await raw(store, "CONFIG", "RESETSTAT")


async def test_ours_and_real_ones_are_found(store: Store) -> None:
    await hand(store)
    await store.write_health([("worker-1", b'{"worker_id":"worker-1"}'), ("rrq_worker_7_abc", b'{"x":1}')], 60)

    assert await store.health_reports() == [b'{"x":1}', b'{"worker_id":"worker-1"}']

    await store.drop_health(["worker-1", "rrq_worker_7_abc"])
    assert await store.health_reports() == []


async def test_the_walk_is_bounded_once_somebody_is_found_and_whole_if_not(store: Store) -> None:
    await hand(store)
    await fill(store, 60)
    assert await store.health_reports() == []
    assert await steps(store) >= 60

    await store.write_health([("worker-1", b"{}")], 60)
    await raw(store, "CONFIG", "RESETSTAT")
    assert await store.health_reports() == [b"{}"]
    assert await steps(store) <= 50
