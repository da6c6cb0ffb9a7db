"""Workers that hang, block, freeze or overstay, and a master that was away itself."""

from __future__ import annotations

import os
import re
import signal
import time
from typing import Any

from tests.support.daemon import Daemon
from tests.support.wait import until


def _deaths(daemon: Daemon, count: int) -> dict[str, tuple[str, str | None]]:
    """Job aboard -> (reason, kind of culprit), once so many deaths have been told."""

    def told() -> list[dict[str, Any]]:
        dead = [one for one in daemon.lines("steward.heard") if one["type"] == "dead"]
        return dead if len(dead) >= count else []

    return {
        str(one["culprit"]): (one["reason"], one["culprit_kind"])
        for one in until(told, 20, f"{count} deaths to be told")
    }


def test_silent_loops_are_reported_with_job_and_line_and_end_when_their_time_is_up() -> None:
    pools = {"default": {"processes": 4}}
    with Daemon(pools=pools, hang_timeout_seconds=3.5, timeout_grace_seconds=0.2) as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.order("block", slot="default.0", seconds=60, job_id="guilty", timeout_seconds=2.0)
        daemon.order("hold", slot="default.1", job_id="native", timeout_seconds=2.5)
        daemon.order("hold", slot="default.2", job_id="endless", timeout_seconds=None)
        daemon.order("block", slot="default.3", seconds=3.0, job_id="slow")
        blocked = daemon.expect_log("worker.suspect", job_id="slow")
        assert blocked["kind"] == "loop blocked"
        assert re.search(r'stand_ins.py", line \d+ in obey', blocked["stack"])
        held = daemon.expect_log("worker.suspect", job_id="native")
        assert held["kind"] == "interpreter held"
        assert " in obey" in held["stack"]
        assert _deaths(daemon, 3) == {
            "guilty": ("overdue", "timeout"),
            "native": ("overdue", "timeout"),
            "endless": ("hang", None),
        }
        daemon.expect_log("worker.recovered", slot=3)
        assert daemon.count_log("worker.died", slot=3) == 0
        until(lambda: len(daemon.workers()) == 4, 5, "the replacements")
        assert daemon.stop() == 0


def test_a_worker_may_ask_for_its_own_death_and_names_the_culprit() -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.order("overdue", job_id="deaf")
        assert _deaths(daemon, 1) == {"deaf": ("overdue", "timeout")}
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
    with Daemon(http=True, hang_timeout_seconds=2.0) as daemon:
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
        daemon.order("wait", slot="default.0", seconds=30, job_id="seen")
        until(lambda: daemon.lines("jobs"), 5, "the job's begin")
        daemon.signal(signal.SIGUSR1)
        task = daemon.expect_log("dump.entry", job_id="seen")
        assert any("obey" in line for line in task["awaiting"])
        daemon.expect_log("dump.entry", child="master")
        daemon.expect_log("dump.entry", child=re.compile("mold"))
        daemon.expect_log("dump.stacks", child=re.compile("worker default/1"))
        assert daemon.stop(signal.SIGQUIT) == 0
