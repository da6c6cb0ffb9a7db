"""Start, replace, stop: the daemon seen from outside."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import psutil

from tests.support.daemon import Daemon, alive
from tests.support.wait import until


def test_it_starts_everybody_below_a_master_of_one_thread_and_says_so_once() -> None:
    with Daemon(http=True) as daemon:
        ready = daemon.expect_log("rrqd.ready")
        assert ready["pools"] == {"default": 2}
        assert ready["http"].startswith("http://127.0.0.1:")
        assert sorted(daemon.children()) == [
            "mold default g1", "steward", "web", "worker default/0 g1", "worker default/1 g1",
        ]  # fmt: skip
        for pid in daemon.workers().values():
            assert psutil.Process(pid).ppid() == daemon.pid
            assert os.getpgid(pid) == pid
        assert psutil.Process(daemon.pid).num_threads() == 1
        assert daemon.stop() == 0
        assert daemon.count_log("rrqd.ready") == 1


def test_a_killed_worker_is_replaced_at_once_and_nobody_else_is_touched() -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        before = daemon.workers()
        os.kill(before["worker default/0 g1"], signal.SIGKILL)
        died = daemon.expect_log("worker.died", slot=0)
        assert died["reason"] == "crash-signal 9"
        assert died["pid"] == before["worker default/0 g1"]
        until(lambda: daemon.count_log("worker.ready", slot=0) == 2, 5, "a new worker in slot 0")
        after = daemon.workers()
        assert after["worker default/1 g1"] == before["worker default/1 g1"]
        assert after["worker default/0 g1"] != before["worker default/0 g1"]
        assert daemon.stop() == 0


def test_the_steward_hears_who_died_of_what_with_which_jobs_aboard() -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.order("wait", slot="default.0", seconds=30, job_id="aboard")
        until(lambda: daemon.lines("jobs"), 5, "the job's begin")
        os.kill(daemon.workers()["worker default/0 g1"], signal.SIGKILL)
        dead = until(lambda: [one for one in daemon.lines("steward.heard") if one["type"] == "dead"], 5, "the news")[0]
        assert dead["reason"] == "crash-signal 9"
        assert [one["job_id"] for one in dead["story"]["running"]] == ["aboard"]
        born = [one for one in daemon.lines("steward.heard") if one["type"] == "born"]
        assert dead["worker_id"] in {one["worker_id"] for one in born}
        assert next(one["pid"] for one in born if one["worker_id"] == dead["worker_id"]) == 0
        assert daemon.stop() == 0


def test_steward_web_and_mold_are_replaced_and_workers_do_not_notice() -> None:
    with Daemon(http=True) as daemon:
        daemon.expect_log("rrqd.ready")
        workers = daemon.workers()
        for title in ("steward", "web", "mold default g1"):
            mark = daemon.mark()
            os.kill(daemon.children()[title], signal.SIGKILL)
            kind = title.partition(" ")[0]
            daemon.expect_log(f"{kind}.died", since=mark)
            daemon.expect_log(f"{kind}.ready", since=mark)
        assert daemon.workers() == workers
        boots = [one for one in daemon.lines("steward.heard") if one["type"] == "boot"]
        assert len(boots[1]["slots"]) == 2
        assert daemon.stop() == 0


def test_whoever_ends_by_itself_or_is_told_to_leave_by_an_operator_is_replaced() -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.order("exit", slot="default.0", code=3)
        assert daemon.expect_log("worker.died", slot=0)["reason"] == "crash-exit 3"
        os.kill(daemon.workers()["worker default/1 g1"], signal.SIGTERM)
        assert daemon.expect_log("worker.left", slot=1)["reason"] == "killed-by-operator"
        until(lambda: daemon.count_log("worker.ready", slot=1) == 2, 5, "a new worker in slot 1")
        assert daemon.stop() == 0


def test_a_stop_lets_running_jobs_finish_and_goes_in_reverse_order() -> None:
    with Daemon(http=True) as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.order("wait", seconds=0.5, job_id="last")
        until(lambda: daemon.lines("jobs"), 5, "the job's begin")
        assert daemon.stop() == 0
        assert [one["did"] for one in daemon.lines("jobs")] == ["begin", "end"]
        left = [one["event"] for one in daemon.log() if one["event"].endswith(".left")]
        assert left == ["worker.left", "worker.left", "mold.left", "web.left", "steward.left"]


def test_a_second_term_hands_back_at_once() -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.order("wait", seconds=60, job_id="long")
        until(lambda: daemon.lines("jobs"), 5, "the job's begin")
        daemon.signal(signal.SIGTERM)
        daemon.expect_log("worker.draining")
        assert daemon.stop(seconds=5) == 0
        assert daemon.count_log("stop.harder", step="hand back") == 1


def test_quit_kills_whatever_runs() -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.order("block", seconds=60)
        until(lambda: daemon.lines("jobs"), 5, "the job's begin")
        assert daemon.stop(signal.SIGQUIT, seconds=5) == 0


def test_a_stop_has_one_deadline_and_a_job_that_ignores_it_is_killed() -> None:
    with Daemon(stop_timeout_seconds=0.5) as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.order("block", seconds=60, job_id="deaf")
        until(lambda: daemon.lines("jobs"), 5, "the job's begin")
        assert daemon.stop(seconds=8) == 0
        assert [one["running"] for one in daemon.log() if one["event"] == "worker.left" and "running" in one] == [
            ["deaf"]
        ]


def test_when_the_master_is_killed_jobs_finish_and_nobody_stays() -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.order("wait", seconds=1.0, job_id="orphan")
        until(lambda: daemon.lines("jobs"), 5, "the job's begin")
        pids = daemon.children().values()
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        until(lambda: not any(alive(pid) for pid in pids), 8, "everybody to be gone")
        assert [one["did"] for one in daemon.lines("jobs")] == ["begin", "end"]
        assert daemon.lines("steward.heard")[-1]["type"] == "left-last"


def test_a_new_rrqd_waits_for_the_workers_of_a_dead_one() -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.order("wait", seconds=1.0, job_id="orphan")
        until(lambda: daemon.lines("jobs"), 5, "the job's begin")
        daemon.children()
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        mark = daemon.mark()
        daemon.start()
        daemon.expect_log("lock.waiting", since=mark, holder=re.compile("earlier"))
        daemon.expect_log("rrqd.ready", since=mark)
        assert daemon.lines("jobs")[1]["did"] == "end"
        assert daemon.stop() == 0


def test_a_second_rrqd_on_the_same_folder_says_who_holds_it_and_leaves() -> None:
    with Daemon(stop_timeout_seconds=0.3) as daemon:
        daemon.expect_log("rrqd.ready")
        first, second = daemon.process, Daemon(folder=daemon.folder, stop_timeout_seconds=0.3)
        second.start()
        assert second.wait() == 1
        assert first is not None
        failed = daemon.expect_log("start.failed")
        assert f"pid {first.pid}" in failed["error"]
        assert daemon.stop() == 0


def test_the_master_imports_nothing_that_could_hang() -> None:
    program = "import sys, rrqd.supervisor.master; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"asyncio", "redis", "ssl", "http", "uvloop", "uvicorn", "starlette", "structlog", "concurrent"}
