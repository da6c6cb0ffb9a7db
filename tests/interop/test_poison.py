"""Jobs that stop a real RRQ worker for good end in the DLQ or aside, with a message, and their neighbours run."""

from __future__ import annotations

from typing import Any

from rrqd.store import Store, StorePolicy
from tests.interop.conftest import RealRRQ
from tests.support.app import app, whole
from tests.support.moves import raw
from tests.support.wait import until_async

NOW = "2026-01-01T00:00:00+00:00"


async def test_poison_is_set_aside_and_neighbours_run(real_rrq: RealRRQ) -> None:
    with whole() as daemon:
        async with app(daemon) as a:
            dsn = f"redis://127.0.0.1:{daemon.port}/0"
            store = await Store.open(dsn, StorePolicy(), client_name="rrqd:test")

            async def plant(job_id: str, **fields: Any) -> None:
                base = {"id": job_id, "function_name": "told", "enqueue_time": NOW, "status": "PENDING", **fields}
                await raw(store, "HSET", f"rrq:job:{job_id}", *[str(word) for pair in base.items() for word in pair])
                await raw(store, "ZADD", "rrq:queue:default", 1, job_id)

            await plant("timeout", job_timeout_seconds=10**15)
            await plant("params", job_params="[1, 2]")
            await plant("garbage", job_params="{{{")
            await plant("time", enqueue_time="soon")
            await plant("retries", max_retries="many")
            await raw(store, "SET", "rrq:job:text", "not a hash")
            await raw(store, "ZADD", "rrq:queue:default", 1, "text")
            neighbours = [await a.tell() for _ in range(5)]

            assert await a.ends(neighbours) == {"COMPLETED": 5}
            for job_id, word in {
                "timeout": "max_job_timeout_seconds", "params": "JSON object", "garbage": "not valid JSON",
                "time": "RFC 3339", "retries": "whole number",
            }.items():  # fmt: skip
                end = await a.end(job_id)
                assert (end.status, word in (end.last_error or "")) == ("FAILED", True), (job_id, end)

            async def aside() -> bool:
                return await store.aside_count() == 1

            await until_async(aside, 5, "the wrong key to be set aside")
            daemon.expect_log("job.set_aside", job_id="text")
            config = daemon.folder / "real.toml"
            config.write_text(f'[rrq]\nredis_dsn = "{dsn}"\n')
            assert "of 5 jobs" in real_rrq.cli(config, "dlq", "list")
            await store.close()
        assert daemon.stop() == 0
