"""Workers that hang, block, freeze or overstay, and a master that was away itself."""

from __future__ import annotations

import os
import re
import signal
import time

from tests.support.daemon import Daemon
from tests.support.wait import until

QUICK = {"hang_timeout_seconds": 3.0, "timeout_grace_seconds": 0.5}


def _dead(daemon: Daemon) -> dict[str, object]:
    return until(
        lambda: [one for one in daemon.lines("steward.heard") if one["type"] == "dead"], 15, "a death to be told"
    )[0]


def test_a_blocked_loop_is_reported_with_the_job_and_the_line_where_it_stands() -> None:
    with Daemon(**QUICK) as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.order("block", seconds=2.8, job_id="slow")
        suspect = daemon.expect_log("worker.suspect")
        assert suspect["kind"] == "loop blocked"
        assert suspect["job_id"] == "slow"
        assert re.search(r'stand_ins.py", line \d+ in obey', suspect["stack"])
        daemon.expect_log("worker.recovered")
        assert daemon.count_log("worker.died") == 0
        assert daemon.stop() == 0


def test_a_job_that_blocks_the_loop_past_its_timeout_costs_its_worker_its_life() -> None:
    with Daemon(hang_timeout_seconds=60.0, timeout_grace_seconds=0.5) as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.order("block", seconds=60, job_id="guilty", timeout_seconds=2.0)
        dead = _dead(daemon)
        assert (dead["reason"], dead["culprit"], dead["culprit_kind"]) == ("overdue", "guilty", "timeout")
        until(lambda: len(daemon.workers()) == 2, 5, "the replacement")
        assert daemon.stop() == 0


def test_a_held_interpreter_is_seen_and_its_only_job_is_the_suspect() -> None:
    with Daemon(hang_timeout_seconds=60.0, timeout_grace_seconds=0.2) as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.order("hold", job_id="native", timeout_seconds=2.5)
        suspect = daemon.expect_log("worker.suspect")
        assert (suspect["kind"], suspect["job_id"]) == ("interpreter held", "native")
        assert "obey" in suspect["stack"]
        assert _dead(daemon)["culprit"] == "native"
        assert daemon.stop() == 0


def test_a_job_without_a_limit_that_holds_the_interpreter_ends_at_the_hang_timeout() -> None:
    with Daemon(hang_timeout_seconds=2.5) as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.order("hold", job_id="endless", timeout_seconds=None)
        dead = _dead(daemon)
        assert (dead["reason"], dead["culprit"], dead["culprit_kind"]) == ("hang", "endless", None)
        assert daemon.stop() == 0


def test_a_worker_may_ask_for_its_own_death_and_names_the_culprit() -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.order("overdue", job_id="deaf")
        dead = _dead(daemon)
        assert (dead["reason"], dead["culprit"], dead["culprit_kind"]) == ("overdue", "deaf", "timeout")
        assert daemon.stop() == 0


def test_a_frozen_worker_is_reported_as_frozen_and_not_killed_for_it() -> None:
    with Daemon(hang_timeout_seconds=2.5) as daemon:
        daemon.expect_log("rrqd.ready")
        pid = daemon.workers()["worker default/0 g1"]
        os.kill(pid, signal.SIGSTOP)
        assert daemon.expect_log("worker.suspect")["kind"] == "stopped"
        os.kill(pid, signal.SIGCONT)
        daemon.expect_log("worker.recovered")
        assert daemon.count_log("worker.died") == 0
        assert daemon.stop() == 0


def test_a_pause_of_the_master_kills_nobody() -> None:
    with Daemon(hang_timeout_seconds=2.0) as daemon:
        daemon.expect_log("rrqd.ready")
        workers = daemon.workers()
        daemon.signal(signal.SIGSTOP)
        for pid in workers.values():
            os.kill(pid, signal.SIGSTOP)
        paused_at = time.monotonic()
        until(lambda: time.monotonic() - paused_at > 3.0, 10, "a pause longer than every limit")
        daemon.signal(signal.SIGCONT)
        daemon.expect_log("master.paused")
        for pid in workers.values():
            os.kill(pid, signal.SIGCONT)
        mark = daemon.mark()
        until(lambda: daemon.view().get("pauses") == 1, 5, "the pause in the view")
        assert daemon.workers() == workers
        assert daemon.count_log("child.killed", since=mark) == 0
        assert daemon.stop() == 0


def test_usr1_shows_what_everybody_is_doing() -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.order("wait", slot="default.0", seconds=3, job_id="seen")
        until(lambda: daemon.lines("jobs"), 5, "the job's begin")
        daemon.signal(signal.SIGUSR1)
        task = daemon.expect_log("dump.entry", job_id="seen")
        assert any("obey" in line for line in task["awaiting"])
        daemon.expect_log("dump.entry", child="master")
        daemon.expect_log("dump.entry", child=re.compile("mold"))
        daemon.expect_log("dump.stacks", child=re.compile("worker default/1"))
        assert daemon.stop() == 0
