"""Workers that have served long enough are replaced: by jobs, by age, by memory. Jobs do not notice."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.app import TOLD, App, app
from tests.support.commands import least_ready, pool, rrqd, status
from tests.support.daemon import Daemon
from tests.support.wait import until, until_async

MIB = 1_048_576


def recycling(processes: int = 1, rrqd: dict[str, Any] | None = None, **settings: Any) -> Daemon:
    """The whole rrqd with one pool of these settings."""
    pools = {"default": {"processes": processes, "concurrency": 1, "recycle_jitter": 0.0, **settings}}
    return Daemon(pools=pools, stand_ins=False, jobs=TOLD, rrq={"base_retry_delay_seconds": 0.05}, **(rrqd or {}))


def served(a: App) -> Counter[str]:
    """Worker's pid -> how many jobs it began."""
    return Counter(line.split()[2] for line in Path(a.ledger).read_text().splitlines())


async def test_a_worker_does_max_jobs_and_no_more() -> None:
    with recycling(max_jobs=3) as daemon:
        async with app(daemon) as a:
            ids = [await a.tell() for _ in range(10)]
            assert await a.ends(ids) == {"COMPLETED": 10}
            assert sorted(served(a).values(), reverse=True) == [3, 3, 3, 1]
            assert set(a.starts().values()) == {1}
        assert daemon.count_log("worker.died") == 0
        assert {one["reason"] for one in daemon.log() if one["event"] == "worker.left"} == {"planned"}
        assert daemon.stop() == 0


async def test_with_jitter_a_worker_does_any_number_up_to_max_jobs() -> None:
    with recycling(processes=2, max_jobs=10, recycle_jitter=1.0) as daemon:
        async with app(daemon) as a:
            ids = [await a.tell("sleep", seconds=0.05) for _ in range(80)]
            assert await a.ends(ids, 60) == {"COMPLETED": 80}
            assert set(a.starts().values()) == {1}
            assert max(served(a).values()) <= 10
            assert len(served(a)) >= 8
        assert daemon.count_log("worker.died") == 0
        assert daemon.stop() == 0


def test_by_age_one_after_the_other_is_replaced_and_capacity_stays() -> None:
    pools = {"default": {"processes": 2, "max_age_seconds": 2.0, "recycle_jitter": 0.0}}
    with Daemon(pools=pools) as daemon:
        daemon.expect_log("rrqd.ready")
        first = set(daemon.workers().values())
        with least_ready(daemon) as seen:
            until(lambda: daemon.count_log("worker.left", reason="planned") >= 4, 40, "two rounds")
        assert min(seen) >= 2
        assert daemon.expect_log("worker.worn")["why"].endswith("s old")
        assert not first & set(daemon.workers().values())
        assert daemon.stop() == 0


def test_a_worker_that_is_old_finishes_its_job() -> None:
    with Daemon(pools={"default": {"processes": 1, "max_age_seconds": 1.0, "recycle_jitter": 0.0}}) as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.order("wait", seconds=4.0, job_id="long")
        until(lambda: daemon.lines("jobs"), 10, "the job's begin")
        pid = daemon.lines("jobs")[0]["pid"]
        daemon.expect_log("worker.left", pid=pid, reason="planned")
        assert [one["did"] for one in daemon.lines("jobs")] == ["begin", "end"]
        assert daemon.stop() == 0


async def test_a_worker_that_has_grown_is_replaced_and_its_job_ends_well() -> None:
    with recycling(max_memory_bytes=96 * MIB) as daemon:
        async with app(daemon) as a:
            large = await a.tell("keep", bytes=128 * MIB, seconds=6.0)
            worn = daemon.expect_log("worker.worn")
            assert worn["why"].endswith("MiB of its own")
            [slot] = [one for one in pool(daemon)["slots"] if one["worn"]]
            assert slot["private_bytes"] >= 128 * MIB
            shown = await asyncio.to_thread(rrqd, daemon, "status")
            assert "MiB of its own" in shown.out
            # Its successor works while it still has its job.
            assert (await a.end(await a.tell())).status == "COMPLETED"
            assert (await a.end(large)).result == "kept"
            daemon.expect_log("worker.left", pid=worn["pid"], reason="planned")
            assert set(a.starts().values()) == {1}
        assert daemon.count_log("crash.dossier") == 0
        assert daemon.stop() == 0


async def test_a_worker_that_grows_without_end_is_killed_and_its_job_charged() -> None:
    with recycling(kill_memory_bytes=96 * MIB, rrqd={"max_stalls": 2}) as daemon:
        async with app(daemon) as a:
            greedy = await a.tell("keep", bytes=128 * MIB, seconds=60.0)
            died = daemon.expect_log("worker.died", reason="oom")
            assert died["running"] == [greedy]

            async def charged() -> bool:
                return (await a.job(greedy)).number("rrqd_stalls") == 1

            await until_async(charged, 10, "the job to be charged")
            assert (await a.end(greedy, 30)).status == "FAILED"
            job = await a.job(greedy)
            assert job.number("rrqd_stalls") == 2
            assert job.error is not None
            death = job.error["death"]
            assert (job.error["reason"], death["reason"], death["signal"]) == ("oom", "oom", "SIGKILL")
            assert death["private_bytes"] >= 128 * MIB
            assert (await a.end(await a.tell())).status == "COMPLETED"
            one = rrqd(daemon, "crashes", "--json").data[0]
            assert one["reason"] == "oom"
            assert one["memory_trail"][-1][1] >= 128 * MIB
        assert daemon.stop() == 0


async def test_whatever_an_operator_does_under_load_no_job_is_lost_or_run_twice() -> None:
    with recycling(processes=2, concurrency=5, max_jobs=60, recycle_jitter=0.5) as daemon:
        async with app(daemon) as a:
            ids: list[str] = []
            for words in (
                ("scale", "default=4"), ("restart",), ("pause",), ("scale", "default=1"), ("resume", "default"),
                ("reload", "--config-only"), ("restart", "default/0"), ("reload",), ("scale", "default=+2"), ("dump",),
            ):  # fmt: skip
                for _ in range(4):
                    ids += [await a.tell("sleep", seconds=0.02 * (number % 10)) for number in range(15)]
                assert (await asyncio.to_thread(rrqd, daemon, *words)).code == 0, words
            assert await a.ends(ids, 60) == {"COMPLETED": len(ids)}
            assert a.starts() == Counter(ids)
            until(lambda: status(daemon)["ready"], 20, "the house to be in order")
            until(lambda: pool(daemon)["ready"] == 3, 20, "three workers")
        assert daemon.count_log("worker.died") == 0
        assert daemon.stop() == 0
