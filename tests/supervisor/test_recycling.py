"""Workers that have served long enough are replaced: by jobs, by age, by memory. Jobs do not notice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.app import TOLD, App, app
from tests.support.commands import least_ready, pool, rrqd, status
from tests.support.daemon import Daemon
from tests.support.wait import until, until_async

MIB = 1_048_576


POOLS: dict[str, dict[str, Any]] = {
    "three": {"max_jobs": 3},
    "any": {"processes": 2, "max_jobs": 10, "recycle_jitter": 1.0},
    "large": {"max_memory_bytes": 96 * MIB},
    "greedy": {"kill_memory_bytes": 96 * MIB},
}


def recycling(**pools: dict[str, Any]) -> Daemon:
    """The whole rrqd with these pools, each of which serves the queue of its name."""
    plain = {"processes": 1, "concurrency": 1, "recycle_jitter": 0.0}
    tables = {name: {**plain, "queues": [name], **pool} for name, pool in pools.items()}
    return Daemon(pools=tables, stand_ins=False, jobs=TOLD, rrq={"base_retry_delay_seconds": 0.05}, max_stalls=2)


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with recycling(**POOLS) as daemon:
        daemon.expect_log("rrqd.ready")
        yield daemon
        assert daemon.stop() == 0


@pytest.fixture
async def a(daemon: Daemon) -> AsyncIterator[App]:
    async with app(daemon) as found:
        found.close()
        found.ledger.unlink(missing_ok=True)
        yield found


def on(queue: str) -> dict[str, Any]:
    return {"queue_name": queue}


def served(a: App) -> Counter[str]:
    """Worker's pid -> how many jobs it began."""
    return Counter(line.split()[2] for line in Path(a.ledger).read_text().splitlines())


async def test_a_worker_does_max_jobs_and_no_more(a: App) -> None:
    mark = a.daemon.mark()
    ids = [await a.tell(options=on("three")) for _ in range(10)]
    assert await a.ends(ids) == {"COMPLETED": 10}
    assert sorted(served(a).values(), reverse=True) == [3, 3, 3, 1]
    assert set(a.starts().values()) == {1}
    until(lambda: a.daemon.count_log("worker.left", since=mark, pool="three") == 3, 10, "three to leave")
    assert a.daemon.count_log("worker.died", since=mark) == 0
    left = [one for one in a.daemon.log()[mark:] if one["event"] == "worker.left"]
    assert {one["reason"] for one in left} == {"planned"}


async def test_with_jitter_a_worker_does_any_number_up_to_max_jobs(a: App) -> None:
    mark = a.daemon.mark()
    ids = [await a.tell("sleep", seconds=0.02, options=on("any")) for _ in range(80)]
    assert await a.ends(ids, 60) == {"COMPLETED": 80}
    assert set(a.starts().values()) == {1}
    assert max(served(a).values()) <= 10
    assert len(served(a)) >= 8
    assert a.daemon.count_log("worker.died", since=mark) == 0


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
        daemon.hold_up("long")
        pid = daemon.lines("jobs")[0]["pid"]
        daemon.expect_log("worker.draining")
        daemon.let_go()
        daemon.expect_log("worker.left", pid=pid, reason="planned")
        assert [one["did"] for one in daemon.lines("jobs")] == ["begin", "end"]
        assert daemon.stop() == 0


async def test_a_worker_that_has_grown_is_replaced_and_its_job_ends_well(a: App) -> None:
    daemon, mark = a.daemon, a.daemon.mark()
    gate = str(daemon.folder / "gate")
    large = await a.tell("keep", bytes=128 * MIB, gate=gate, options=on("large"))
    worn = daemon.expect_log("worker.worn", since=mark)
    assert worn["why"].endswith("MiB of its own")
    [slot] = [one for one in pool(daemon, "large")["slots"] if one["worn"]]
    assert slot["private_bytes"] >= 128 * MIB
    shown = await asyncio.to_thread(rrqd, daemon, "status")
    assert "MiB of its own" in shown.out
    # Its successor works while it still has its job.
    assert (await a.end(await a.tell(options=on("large")))).status == "COMPLETED"
    a.let_go()
    assert (await a.end(large)).result == "kept"
    daemon.expect_log("worker.left", pid=worn["pid"], reason="planned", since=mark)
    assert set(a.starts().values()) == {1}
    assert daemon.count_log("crash.dossier", since=mark) == 0


async def test_a_worker_that_grows_without_end_is_killed_and_its_job_charged(a: App) -> None:
    daemon, mark = a.daemon, a.daemon.mark()
    gate = str(daemon.folder / "gate")
    greedy = await a.tell("keep", bytes=128 * MIB, gate=gate, options=on("greedy"))
    died = daemon.expect_log("worker.died", reason="oom", since=mark)
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
    assert (await a.end(await a.tell(options=on("greedy")))).status == "COMPLETED"
    one = rrqd(daemon, "crashes", "--json").data[0]
    assert one["reason"] == "oom"
    assert one["memory_trail"][-1][1] >= 128 * MIB


async def test_whatever_an_operator_does_under_load_no_job_is_lost_or_run_twice() -> None:
    with recycling(default={"processes": 2, "concurrency": 5, "max_jobs": 60, "recycle_jitter": 0.5}) as daemon:
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
