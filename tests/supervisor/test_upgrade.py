"""Upgrade in place: the master becomes another rrqd, and nobody but it notices."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil

from tests.support.app import app, whole
from tests.support.daemon import Daemon
from tests.support.wait import until


def test_the_pid_and_all_children_stay_and_running_jobs_end() -> None:
    with Daemon(http=True, pools={"default": {"processes": 2}, "other": {"processes": 1}}) as daemon:
        daemon.expect_log("rrqd.ready")
        before, pid = daemon.children(), daemon.pid
        daemon.order("wait", slot="default.0", seconds=2.0, job_id="long")
        until(lambda: daemon.lines("jobs"), 5, "the job's begin")
        daemon.signal(signal.SIGUSR2)
        daemon.expect_log("upgrade.done", pid=pid, children=len(before))
        assert daemon.children() == before
        until(lambda: [one["did"] for one in daemon.lines("jobs")] == ["begin", "end"], 10, "the job's end")
        assert psutil.Process(pid).cmdline()[0] == "rrqd: master"
        assert daemon.stop() == 0


def test_afterwards_everything_is_kept_as_before() -> None:
    with Daemon(http=True, pools={"default": {"processes": 2}}) as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.signal(signal.SIGUSR2)
        daemon.expect_log("upgrade.done")
        workers = daemon.workers()
        os.kill(workers["worker default/0 g1"], signal.SIGKILL)
        daemon.expect_log("worker.died", reason="crash-signal 9", slot=0)
        until(lambda: len(daemon.workers()) == 2 and daemon.workers() != workers, 10, "a replacement")
        daemon.signal(signal.SIGHUP)
        daemon.expect_log("reload.done", generation=2)
        until(lambda: set(daemon.workers()) == {"worker default/0 g2", "worker default/1 g2"}, 20, "the roll")
        for child in ("steward", "web", "mold default g2"):
            mark = daemon.mark()
            os.kill(daemon.children()[child], signal.SIGKILL)
            daemon.expect_log(f"{child.split()[0]}.ready", since=mark)
        assert daemon.stop() == 0


def test_it_can_be_done_again_and_again() -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        before = daemon.children()
        descriptors = psutil.Process(daemon.pid).num_fds()
        for _ in range(3):
            mark = daemon.mark()
            daemon.signal(signal.SIGUSR2)
            daemon.expect_log("upgrade.done", since=mark)
        assert daemon.children() == before
        until(lambda: psutil.Process(daemon.pid).num_fds() == descriptors, 5, "as many descriptors as at first")
        assert daemon.stop() == 0


def test_a_new_rrqd_that_can_not_go_on_changes_nothing_and_says_why() -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        before = daemon.children()
        (daemon.folder / "rrq.toml").write_text("[rrqd]\nnonsense = 1\n")
        daemon.signal(signal.SIGUSR2)
        daemon.expect_log("upgrade.failed")
        assert any("nonsense: unknown key" in one.get("text", "") for one in daemon.log())
        assert daemon.children() == before
        assert daemon.count_log("upgrade.exec") == 0
        daemon.write_config()
        daemon.signal(signal.SIGUSR2)
        daemon.expect_log("upgrade.done")
        assert daemon.stop() == 0


def test_signals_that_come_meanwhile_are_heard_afterwards() -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.signal(signal.SIGUSR2)
        daemon.expect_log("upgrade.exec")
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGTTIN, signal.SIGTERM):
            daemon.signal(number)
        assert daemon.wait() == 0
        assert daemon.count_log("upgrade.done") == 1


def test_a_worker_that_dies_meanwhile_is_found_and_replaced() -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        victim = daemon.workers()["worker default/1 g1"]
        daemon.signal(signal.SIGUSR2)
        daemon.expect_log("upgrade.exec")
        os.kill(victim, signal.SIGKILL)
        daemon.expect_log("worker.died", pid=victim, reason="crash-signal 9")
        until(lambda: "worker default/1 g1" in daemon.workers(), 10, "its replacement")
        assert daemon.stop() == 0


async def test_with_the_whole_rrqd_its_server_and_real_jobs() -> None:
    with whole(http=True) as daemon:
        async with app(daemon) as one:
            job = await one.tell("sleep", seconds=2.0)
            await one.running([job])
            before = daemon.children()
            daemon.signal(signal.SIGUSR2)
            daemon.expect_log("upgrade.done")
            assert daemon.children() == before
            assert (await one.end(job)).status.value == "COMPLETED"
            later = [await one.tell() for _ in range(5)]
            assert await one.ends(later) == {"COMPLETED": 5}
            assert one.starts()[job] == 1
        assert daemon.stop() == 0


def test_by_hand_the_module_says_what_it_is() -> None:
    program = [sys.executable, "-m", "rrqd.supervisor.upgrade"]
    said = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr.count("\n")) == (2, 1)
