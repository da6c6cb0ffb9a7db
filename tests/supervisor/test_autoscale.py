"""A pool with two sizes grows by itself while jobs wait."""

from __future__ import annotations

from tests.support.app import TOLD, app
from tests.support.daemon import Daemon


async def test_a_pool_grows_while_jobs_wait_too_long_and_all_of_them_end() -> None:
    pool = {"min_processes": 1, "max_processes": 3, "scale_latency_seconds": 0.5, "concurrency": 1}
    with Daemon(pools={"default": pool}, stand_ins=False, jobs=TOLD) as daemon:
        async with app(daemon) as one:
            assert len(daemon.workers()) == 1
            gate = str(daemon.folder / "gate")
            jobs = [await one.tell("wait", gate=gate) for _ in range(9)]
            daemon.expect_log("pool.scaled", processes=2, before=1)
            daemon.expect_log("pool.scaled", processes=3, before=2)
            daemon.expect_log("worker.ready", slot=2)
            one.let_go()
            assert await one.ends(jobs, 30) == {"COMPLETED": 9}
            assert daemon.count_log("pool.scaled") == 2
        assert daemon.stop() == 0
