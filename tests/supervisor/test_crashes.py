"""What an operator is told of deaths, and of what everybody is doing: rrqd crashes, rrqd dump."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.support.app import App, app, whole
from tests.support.commands import pool, rrqd
from tests.support.daemon import ROOT, Daemon
from tests.support.wait import until

CLI = ROOT / "docs" / "cli.md"


def test_a_crash_in_c_leaves_a_dossier_with_the_signal_the_jobs_and_the_stack() -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        assert rrqd(daemon, "crashes").err == "nothing has died abnormally\n"
        daemon.order("wait", slot="default.0", seconds=60, job_id="aboard")
        until(lambda: daemon.lines("jobs"), 5, "the job's begin")
        os.kill(daemon.workers()["worker default/0 g1"], signal.SIGSEGV)
        daemon.expect_log("crash.dossier", signal="SIGSEGV")
        [one] = rrqd(daemon, "crashes", "--json").data
        assert (one["who"], one["reason"], one["signal"]) == ("worker default/0 g1", "crash-signal 11", "SIGSEGV")
        assert [job["job_id"] for job in one["running"]] == ["aboard"]
        assert one["running"][0]["seconds"] >= 0
        assert 0 <= one["age_seconds"] < 60  # in tenths: it may have lived for less than one
        assert one["usage"]["max_rss_bytes"] > 1_000_000
        assert "Fatal Python error: Segmentation fault" in one["stack"]
        assert "stand_ins.py" in one["stack"]
        line = next(line for line in CLI.read_text().splitlines() if line.startswith("| `crashes` (list)"))
        assert set(one) == set(re.findall(r"`([^`]+)`", line.split("|")[2]))
        shown = rrqd(daemon, "crashes").out
        assert "crash-signal 11" in shown
        assert "stand-in aboard" in shown
        full = rrqd(daemon, "crashes", "--full").out
        assert "SIGSEGV" in full
        assert "stand_ins.py" in full
        assert daemon.stop() == 0


def test_a_kill_leaves_one_too_and_they_outlive_the_daemon() -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.order("exit", slot="default.0", code=3, job_id="careless")
        daemon.expect_log("crash.dossier", reason="crash-exit 3")
        os.kill(daemon.workers()["worker default/1 g1"], signal.SIGKILL)
        os.kill(daemon.children()["steward"], signal.SIGKILL)
        until(lambda: daemon.count_log("crash.dossier") == 3, 10, "three dossiers")
        assert daemon.stop() == 0
        assert len(rrqd(daemon, "crashes", "--json").data) == 3
        daemon.start()
        daemon.expect_log("rrqd.ready", since=daemon.mark())
        found = rrqd(daemon, "crashes", "--json").data
        assert {(one["who"], one["reason"], one["signal"]) for one in found} == {
            ("worker default/0 g1", "crash-exit 3", None),
            ("worker default/1 g1", "crash-signal 9", "SIGKILL"),
            ("steward", "crash-signal 9", "SIGKILL"),
        }
        assert found[-1]["running"][0]["job_id"] == "careless"
        assert len(rrqd(daemon, "crashes", "--limit", "1", "--json").data) == 1
        assert daemon.stop() == 0


def test_a_worker_that_crashes_while_it_drains_leaves_one_as_well_and_ends_that_were_wanted_none() -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        os.kill(daemon.workers()["worker default/0 g1"], signal.SIGTERM)
        daemon.expect_log("worker.left", reason="killed-by-operator")
        assert rrqd(daemon, "reload", "--wait").code == 0
        assert rrqd(daemon, "crashes", "--json").data == []
        daemon.order("wait", slot="default.1", seconds=60, job_id="aboard")
        until(lambda: daemon.lines("jobs"), 5, "the job's begin")
        pid = daemon.workers()["worker default/1 g2"]
        mark = daemon.mark()
        assert rrqd(daemon, "restart", "default/1").code == 0
        daemon.expect_log("worker.draining", since=mark)
        os.kill(pid, signal.SIGSEGV)
        daemon.expect_log("crash.dossier", signal="SIGSEGV")

        def news() -> list[dict[str, Any]]:
            heard = daemon.lines("steward.heard")
            return [one for one in heard if one["type"] == "dead" and (one["story"] or {}).get("running")]

        dead = until(news, 5, "the news")[0]
        assert [one["job_id"] for one in dead["story"]["running"]] == ["aboard"]
        assert daemon.stop() == 0


@pytest.fixture(scope="module")
def one_worker() -> Iterator[Daemon]:
    with whole(http=True, processes=1) as daemon:
        daemon.expect_log("rrqd.ready")
        yield daemon
        assert daemon.stop(signal.SIGQUIT) == 0


@pytest.fixture
async def a(one_worker: Daemon) -> AsyncIterator[App]:
    async with app(one_worker) as found:
        yield found


async def test_a_job_that_kills_its_worker_again_and_again_is_buried_with_what_is_known_of_the_death(a: App) -> None:
    bad = await a.tell("kill")
    assert (await a.end(bad, 40)).status == "FAILED"
    shown = await _shown(a.daemon, bad)
    assert shown["stalls"] == 3
    error = shown["error"]
    assert (error["type"], error["stalls"], error["reason"]) == ("poison", 3, "crash-signal 9")
    death = error["death"]
    assert (death["reason"], death["signal"]) == ("crash-signal 9", "SIGKILL")
    assert [one["job_id"] for one in death["running"]] == [bad]
    assert death["who"] == "worker default/0 g1"
    assert (await a.end(await a.tell())).status == "COMPLETED"
    # A finished job is proof that the pool works.
    assert pool(a.daemon)["degraded"] is False


async def _shown(daemon: Daemon, job_id: str) -> dict[str, Any]:
    said = await asyncio.to_thread(rrqd, daemon, "job", "show", job_id, "--json")
    assert said.code == 0
    return dict(said.data)


def problems(daemon: Daemon) -> tuple[int, list[str]]:
    """What /readyz says: its code, and what is wrong."""
    try:
        with urlopen(f"http://{daemon.rrqd['http']}/readyz", timeout=10) as answer:
            code, body = answer.status, json.load(answer)
    except HTTPError as no:
        code, body = no.code, json.load(no)
    return code, [one["what"] for one in body["problems"]]


async def test_a_pool_whose_workers_die_faster_than_they_work_is_not_ready_until_a_job_has_ended(a: App) -> None:
    daemon = a.daemon
    while not pool(daemon)["degraded"]:
        for slot in pool(daemon)["slots"]:
            if slot["phase"] == "ready":
                os.kill(slot["pid"], signal.SIGKILL)
                daemon.expect_log("worker.died", pid=slot["pid"])
    until(lambda: "pool default is degraded" in problems(daemon)[1], 10, "/readyz to name it")
    assert problems(daemon)[0] == 503
    assert 'rrqd_pool_degraded{pool="default"} 1.0' in metrics(daemon)
    assert (await a.end(await a.tell())).status == "COMPLETED"
    until(lambda: problems(daemon) == (200, []), 10, "/readyz to be content")
    assert 'rrqd_pool_degraded{pool="default"} 0.0' in metrics(daemon)


def metrics(daemon: Daemon) -> str:
    with urlopen(f"http://{daemon.rrqd['http']}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def test_a_dump_tells_of_every_process_and_of_the_jobs_that_run() -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.order("wait", slot="default.1", seconds=30, job_id="aboard")
        daemon.order("block", slot="default.0", seconds=3, job_id="deaf")
        until(lambda: len(daemon.lines("jobs")) == 2, 5, "the jobs' begin")
        entries = rrqd(daemon, "dump", "--json").data
        # The stand-ins of steward and web do not answer.
        assert {one["child"] for one in entries} >= {
            "master", "mold default g1", "worker default/0 g1", "worker default/1 g1",
        }  # fmt: skip
        assert "aboard" in {one.get("job_id") for one in entries}
        [raw] = [one for one in entries if one["child"] == "worker default/0 g1" and "stack" in one]
        assert "stand_ins.py" in json.dumps(raw)
        assert daemon.expect_log("dump.entry", child="master")
        daemon.order("wait", slot="default.1", seconds=30, job_id="another")
        shown = rrqd(daemon, "dump").out
        for title, pid in daemon.workers().items():
            assert f"{title} (pid {pid})\n" in shown
        assert "aboard" in shown
        assert daemon.stop(signal.SIGQUIT) == 0


async def test_the_real_steward_and_web_tell_what_they_do_as_well(a: App) -> None:
    [job_id] = await a.held(1)
    entries = rrqd(a.daemon, "dump", "--json").data
    assert {one["child"] for one in entries} >= {
        "master", "steward", "web", "mold default g1", "worker default/0 g1",
    }  # fmt: skip
    assert job_id in {one.get("job_id") for one in entries}
    a.let_go()
