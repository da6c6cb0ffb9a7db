"""Who takes jobs: the list, what each holds, when its node was last seen, and forgetting one that is gone."""

from __future__ import annotations

import asyncio
from pathlib import Path

from rrqd import RRQClient
from rrqd.store import Store
from tests.support.line import Line
from tests.support.moves import hand, job, lapse, place_of, raw


async def test_the_registry_tells_who_holds_what_and_forgets_only_the_dead(
    store: Store, dsn: str, tmp_path: Path
) -> None:
    line = Line(tmp_path, dsn)
    await store.enqueue_many([job("a"), job("b")])
    worker = await hand(store, "worker-1", "node-a")
    await hand(store, "worker-2", "node-b")
    a, _ = await worker.take()
    async with RRQClient(config={"redis_dsn": dsn}) as client:
        rows = {row.worker_id: row for row in await client.workers.list()}
        assert [(row.node_id, row.held) for row in rows.values()] == [("node-a", 2), ("node-b", 0)]
        seen = rows["worker-1"].seen_seconds
        assert seen is not None
        assert 0 <= seen < 10 < rows["worker-1"].lease_seconds <= 15
        assert await client.workers.jobs("worker-1") == ["a", "b"]
        assert await client.workers.forget("worker-1") == "alive"
        assert await place_of(store, "a") == ["held:worker-1"]

        await lapse(store, "node-a")
        assert (await client.workers.list())[0].lease_seconds < 0
        assert sorted(await client.workers.nodes()) == ["node-a", "node-b"]
        listed = await asyncio.to_thread(line, "workers", "--json")
        assert [(row["worker"], row["jobs"]) for row in listed.data] == [("worker-1", 2), ("worker-2", 0)]
        held = await asyncio.to_thread(line, "worker", "jobs", "worker-1", "--json")
        assert [row["id"] for row in held.data] == ["a", "b"]
        said = await asyncio.to_thread(line, "worker", "forget", "worker-1", "worker-2", "nobody", "--json")
        assert (said.code, said.data) == (1, {"worker-1": "forgotten", "worker-2": "alive", "nobody": "unknown"})

        assert await place_of(store, "b") == ["queue:default"]
        assert await worker.settle(a) == "stale"
        assert sorted(await client.workers.nodes()) == ["node-b"]
        await store.renew("node-c", 15_000)
        await raw(store, "ZADD", store.keys.seen, 1, "long-gone")
        await store.renew("node-d", 15_000)
        assert sorted(await client.workers.nodes()) == ["node-b", "node-c", "node-d"], "a day is enough"
