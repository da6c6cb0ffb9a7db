"""HUP: a new generation, or nothing."""

from __future__ import annotations

import re
import signal

import psutil

from tests.support.daemon import NO_JOBS, Daemon, alive
from tests.support.wait import until


def test_a_reload_rolls_every_worker_into_the_new_generation_one_after_another() -> None:
    with Daemon(http=True) as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.signal(signal.SIGHUP)
        daemon.expect_log("reload.done", generation=2)
        until(lambda: daemon.count_log("worker.left", generation=1) == 2, 10, "the roll to be over")
        daemon.expect_log("mold.left", child="mold default g1")
        expected = ["mold default g2", "steward", "web", "worker default/0 g2", "worker default/1 g2"]
        until(lambda: sorted(daemon.children()) == expected, 5, "the new family")
        moves = [one["event"] for one in daemon.log() if one["event"] in ("worker.ready", "worker.draining")]
        assert moves == ["worker.ready"] * 2 + ["worker.ready", "worker.draining"] * 2
        assert daemon.stop() == 0


def test_a_running_job_survives_a_reload() -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.order("wait", slot="default.0", seconds=2.0, job_id="long")
        until(lambda: daemon.lines("jobs"), 5, "the job's begin")
        daemon.signal(signal.SIGHUP)
        until(lambda: daemon.workers().keys() >= {"worker default/0 g2", "worker default/1 g2"}, 10, "the roll")
        assert "worker default/0 g1" in daemon.workers()
        until(lambda: len(daemon.workers()) == 2, 10, "the old worker to leave")
        assert [one["did"] for one in daemon.lines("jobs")] == ["begin", "end"]
        assert daemon.stop() == 0


def test_a_bad_file_changes_nothing_and_says_why() -> None:
    with Daemon(http=True) as daemon:
        daemon.expect_log("rrqd.ready")
        before = daemon.children()
        daemon.pools["default"]["processes"] = "many"
        daemon.write_config()
        daemon.signal(signal.SIGHUP)
        assert "processes" in daemon.expect_log("reload.failed")["error"]
        until(lambda: daemon.view().get("reload", {}).get("ok") is False, 5, "the view to say so")
        assert daemon.children() == before
        assert daemon.stop() == 0


def test_code_that_does_not_import_changes_nothing_and_says_why() -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        before = daemon.workers()
        daemon.write_jobs("import nothing_of_that_name\n")
        daemon.signal(signal.SIGHUP)
        assert "nothing_of_that_name" in daemon.expect_log("reload.failed")["error"]
        assert daemon.workers() == before
        daemon.write_jobs(NO_JOBS)
        daemon.signal(signal.SIGHUP)
        daemon.expect_log("reload.done", generation=3)
        assert daemon.stop() == 0


def test_a_candidate_that_takes_too_long_is_given_up() -> None:
    with Daemon(boot_timeout_seconds=2.0) as daemon:
        daemon.expect_log("rrqd.ready")
        before = daemon.workers()
        daemon.write_jobs("import threading\nthreading.Event().wait(60)\n" + NO_JOBS)
        daemon.signal(signal.SIGHUP)
        daemon.expect_log("reload.failed", error=re.compile("not ready within|boot-error"))
        assert daemon.workers() == before
        assert daemon.stop() == 0


def test_a_second_hup_replaces_the_candidate() -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.write_jobs("import threading\nthreading.Event().wait(60)\n" + NO_JOBS)
        daemon.signal(signal.SIGHUP)
        until(lambda: "mold default g2" in daemon.children(), 10, "the first candidate")
        daemon.write_jobs(NO_JOBS)
        daemon.signal(signal.SIGHUP)
        daemon.expect_log("reload.done", generation=3)
        until(lambda: sorted(daemon.workers()) == ["worker default/0 g3", "worker default/1 g3"], 10, "the roll")
        assert daemon.stop() == 0


def test_a_stop_during_a_reload_wins() -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.write_jobs("import threading\nthreading.Event().wait(60)\n" + NO_JOBS)
        daemon.signal(signal.SIGHUP)
        until(lambda: "mold default g2" in daemon.children(), 10, "the candidate")
        pids = daemon.children().values()
        assert daemon.stop(seconds=8) == 0
        assert not any(alive(pid) for pid in pids)


def test_pools_may_grow_shrink_come_and_go() -> None:
    pools = {"default": {"processes": 2}, "old": {"processes": 1}}
    with Daemon(pools=pools) as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.pools = {"default": {"processes": 1}, "new": {"processes": 2, "queues": ["fresh"]}}
        daemon.write_config()
        daemon.signal(signal.SIGHUP)
        until(
            lambda: sorted(daemon.workers()) == ["worker default/0 g2", "worker new/0 g2", "worker new/1 g2"],
            10,
            "the new pools",
        )
        until(
            lambda: [one for one in daemon.lines("steward.heard") if one.get("wake") == ["default", "new"]],
            5,
            "a steward that can wake the new pool",
        )
        assert daemon.stop() == 0


def test_pools_with_the_same_code_share_a_mold() -> None:
    pools = {"a": {"processes": 1}, "b": {"processes": 1}, "c": {"processes": 1, "environment": {"X": "1"}}}
    with Daemon(pools=pools) as daemon:
        daemon.expect_log("rrqd.ready")
        assert sorted(one for one in daemon.children() if one.startswith("mold")) == ["mold a g1", "mold c g1"]
        assert daemon.stop() == 0


def test_what_belongs_to_the_running_master_is_kept_and_the_wish_reported() -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.rrqd["namespace"] = "other:"
        daemon.write_config()
        daemon.signal(signal.SIGHUP)
        assert daemon.expect_log("reload.needs_restart")["keys"] == ["namespace"]
        daemon.expect_log("reload.done")
        assert daemon.stop() == 0


def test_many_reloads_leak_no_descriptor_and_no_thread() -> None:
    with Daemon(pools={"default": {"processes": 1}}) as daemon:
        daemon.expect_log("rrqd.ready")

        def reload(generation: int) -> tuple[int, int]:
            daemon.signal(signal.SIGHUP)
            daemon.expect_log("worker.ready", generation=generation)
            daemon.expect_log("worker.left", generation=generation - 1)
            daemon.expect_log("mold.left", child=f"mold default g{generation - 1}")
            return psutil.Process(daemon.pid).num_fds(), psutil.Process(daemon.pid).num_threads()

        before = reload(2)
        assert [reload(generation) for generation in range(3, 11)] == [before] * 8
        assert daemon.stop() == 0
