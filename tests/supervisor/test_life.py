"""Start, replace, stop: the daemon seen from outside."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.support.daemon import Daemon, alive
from tests.support.wait import until


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """One for all that is replaced while it runs."""
    with Daemon(http=True) as daemon:
        daemon.expect_log("rrqd.ready")
        yield daemon
        assert daemon.stop() == 0
        assert daemon.count_log("rrqd.ready") == 1


TWO = ["worker default/0 g1", "worker default/1 g1"]


def both(daemon: Daemon, since: int) -> None:
    """Wait for the one that replaces whoever has died."""
    daemon.expect_log("worker.ready", since=since)
    until(lambda: sorted(daemon.workers()) == TWO, 5, "both workers")


def test_it_starts_everybody_below_a_master_of_one_thread_and_says_so(daemon: Daemon) -> None:
    ready = daemon.expect_log("rrqd.ready")
    assert ready["pools"] == {"default": 2}
    assert ready["http"].startswith("http://127.0.0.1:")
    assert sorted(daemon.children()) == ["mold default g1", "steward", "web", *TWO]
    for pid in daemon.workers().values():
        assert psutil.Process(pid).ppid() == daemon.pid
        assert os.getpgid(pid) == pid
    assert psutil.Process(daemon.pid).num_threads() == 1


def test_a_killed_worker_is_replaced_at_once_and_nobody_else_is_touched(daemon: Daemon) -> None:
    before, mark = daemon.workers(), daemon.mark()
    os.kill(before[TWO[0]], signal.SIGKILL)
    died = daemon.expect_log("worker.died", slot=0, since=mark)
    assert died["reason"] == "crash-signal 9"
    assert died["pid"] == before[TWO[0]]
    both(daemon, mark)
    after = daemon.workers()
    assert after[TWO[1]] == before[TWO[1]]
    assert after[TWO[0]] != before[TWO[0]]


def test_the_steward_hears_who_died_of_what_with_which_jobs_aboard(daemon: Daemon) -> None:
    mark = daemon.mark()
    daemon.order("wait", slot="default.0", seconds=30, job_id="aboard")
    until(lambda: daemon.did("aboard"), 5, "the job's begin")
    heard = len(daemon.lines("steward.heard"))
    os.kill(daemon.workers()[TWO[0]], signal.SIGKILL)
    both(daemon, mark)

    def news() -> list[dict[str, Any]]:
        return [one for one in daemon.lines("steward.heard")[heard:] if one["type"] == "dead"]

    dead = until(news, 5, "the news")[0]
    assert dead["reason"] == "crash-signal 9"
    assert [one["job_id"] for one in dead["story"]["running"]] == ["aboard"]
    born = [one for one in daemon.lines("steward.heard") if one["type"] == "born"]
    assert dead["worker_id"] in {one["worker_id"] for one in born}
    assert next(one["pid"] for one in born if one["worker_id"] == dead["worker_id"]) == 0


def test_steward_web_and_mold_are_replaced_and_workers_do_not_notice(daemon: Daemon) -> None:
    workers = daemon.workers()
    for title in ("steward", "web", "mold default g1"):
        mark = daemon.mark()
        os.kill(daemon.children()[title], signal.SIGKILL)
        kind = title.partition(" ")[0]
        daemon.expect_log(f"{kind}.died", since=mark)
        daemon.expect_log(f"{kind}.ready", since=mark)
    assert daemon.workers() == workers
    boots = [one for one in daemon.lines("steward.heard") if one["type"] == "boot"]
    assert len(boots[-1]["slots"]) == 2


def test_whoever_ends_by_itself_or_is_told_to_leave_by_an_operator_is_replaced(daemon: Daemon) -> None:
    mark = daemon.mark()
    daemon.order("exit", slot="default.0", code=3)
    assert daemon.expect_log("worker.died", slot=0, since=mark)["reason"] == "crash-exit 3"
    os.kill(daemon.workers()[TWO[1]], signal.SIGTERM)
    assert daemon.expect_log("worker.left", slot=1, since=mark)["reason"] == "killed-by-operator"
    for slot in (0, 1):
        daemon.expect_log("worker.ready", slot=slot, since=mark)


def test_a_second_rrqd_on_the_same_folder_says_who_holds_it_and_leaves(daemon: Daemon) -> None:
    mark = daemon.mark()
    second = Daemon(folder=daemon.folder, stop_timeout_seconds=0.3)
    second.start()
    assert second.wait() == 1
    failed = daemon.expect_log("start.failed", since=mark)
    assert f"pid {daemon.pid}" in failed["error"]
    daemon.write_config()


def test_a_stop_lets_running_jobs_finish_and_goes_in_reverse_order() -> None:
    with Daemon(http=True) as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.order("wait", seconds=0.5, job_id="last")
        until(lambda: daemon.lines("jobs"), 5, "the job's begin")
        assert daemon.stop() == 0
        assert [one["did"] for one in daemon.lines("jobs")] == ["begin", "end"]
        left = [one["event"] for one in daemon.log() if one["event"].endswith(".left")]
        assert left == ["worker.left", "worker.left", "mold.left", "web.left", "steward.left"]


def test_a_stop_has_one_deadline_and_a_second_term_or_quit_does_not_wait_for_it() -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        _begin(daemon, "wait", "long")
        daemon.signal(signal.SIGTERM)
        daemon.expect_log("worker.draining")
        assert daemon.stop(seconds=8) == 0
        assert daemon.count_log("stop.harder", step="hand back") == 1

        _start_again(daemon, 10.0)
        _begin(daemon, "block", "killed")
        assert daemon.stop(signal.SIGQUIT, seconds=8) == 0

        mark = daemon.mark()
        _start_again(daemon, 0.5)
        _begin(daemon, "block", "deaf")
        assert daemon.stop(seconds=8) == 0
        left = [one for one in daemon.log()[mark:] if one["event"] == "worker.left" and "running" in one]
        assert [one["running"] for one in left] == [["deaf"]]


def _begin(daemon: Daemon, do: str, job_id: str) -> None:
    daemon.order(do, seconds=60, job_id=job_id)
    until(lambda: daemon.did(job_id), 5, "the job's begin")


def _start_again(daemon: Daemon, stop_seconds: float) -> None:
    mark = daemon.mark()
    daemon.rrqd["stop_timeout_seconds"] = stop_seconds
    daemon.write_config()
    daemon.start()
    daemon.expect_log("rrqd.ready", since=mark)


def test_when_the_master_is_killed_jobs_finish_nobody_stays_and_a_new_rrqd_waits_for_that() -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.hold_up("orphan")
        pids = daemon.children().values()
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        mark = daemon.mark()
        daemon.start()
        daemon.expect_log("lock.waiting", since=mark, holder=re.compile("earlier"))
        daemon.let_go()
        until(lambda: not any(alive(pid) for pid in pids), 8, "everybody to be gone")
        assert daemon.did("orphan") == ["begin", "end"]
        daemon.expect_log("rrqd.ready", since=mark)
        said = [one["type"] for one in daemon.lines("steward.heard")]
        assert said.index("left-last") < len(said) - 1 - said[::-1].index("boot")
        assert daemon.stop() == 0


def test_the_master_imports_nothing_that_could_hang() -> None:
    program = "import sys, rrqd.supervisor.master; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"asyncio", "redis", "ssl", "http", "uvloop", "uvicorn", "starlette", "structlog", "concurrent"}
