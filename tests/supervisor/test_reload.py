"""HUP: a new generation, or nothing."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator

import psutil
import pytest

from tests.support.commands import status
from tests.support.daemon import NO_JOBS, Daemon, alive
from tests.support.wait import until

HANGS = "import threading\nthreading.Event().wait(60)\n" + NO_JOBS


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    with Daemon(http=True, boot_timeout_seconds=6.0) as daemon:
        daemon.expect_log("rrqd.ready")
        yield daemon
        assert daemon.count_log("worker.died") == 0
        assert daemon.stop() == 0


@pytest.fixture
def daemon(shared: Daemon) -> Daemon:
    """Of two workers; which generation is in force, each asks for itself. It leaves good code and a good file."""
    until(lambda: len(shared.workers()) == 2 and status(shared)["ready"], 20, "two workers")
    return shared


def generation(daemon: Daemon) -> int:
    """The one in force."""
    return int(status(daemon)["generation"])


def two(number: int) -> list[str]:
    return [f"worker default/{slot} g{number}" for slot in (0, 1)]


def test_a_reload_rolls_every_worker_into_the_new_generation_one_after_another(daemon: Daemon) -> None:
    mark, old = daemon.mark(), generation(daemon)
    daemon.signal(signal.SIGHUP)
    daemon.expect_log("reload.done", generation=old + 1, since=mark)
    until(lambda: daemon.count_log("worker.left", generation=old, since=mark) == 2, 10, "the roll to be over")
    daemon.expect_log("mold.left", child=f"mold default g{old}", since=mark)
    expected = [f"mold default g{old + 1}", "steward", "web", *two(old + 1)]
    until(lambda: sorted(daemon.children()) == expected, 5, "the new family")
    moves = [one["event"] for one in daemon.log()[mark:] if one["event"] in ("worker.ready", "worker.draining")]
    assert moves == ["worker.ready", "worker.draining"] * 2


def test_a_running_job_survives_a_reload(daemon: Daemon) -> None:
    old = generation(daemon)
    daemon.hold_up("long", slot="default.0")
    daemon.signal(signal.SIGHUP)
    until(lambda: daemon.workers().keys() >= {*two(old + 1)}, 20, "the roll")
    assert f"worker default/0 g{old}" in daemon.workers()
    daemon.let_go()
    until(lambda: len(daemon.workers()) == 2, 10, "the old worker to leave")
    assert daemon.did("long") == ["begin", "end"]


def test_a_bad_file_changes_nothing_and_says_why(daemon: Daemon) -> None:
    before, mark = daemon.children(), daemon.mark()
    daemon.pools["default"]["processes"] = "many"
    daemon.write_config()
    daemon.signal(signal.SIGHUP)
    assert "processes" in daemon.expect_log("reload.failed", since=mark)["error"]
    until(lambda: daemon.view().get("reload", {}).get("ok") is False, 5, "the view to say so")
    assert daemon.children() == before
    daemon.pools["default"]["processes"] = 2
    daemon.write_config()


def test_code_that_does_not_import_changes_nothing_and_says_why(daemon: Daemon) -> None:
    before, mark, old = daemon.workers(), daemon.mark(), generation(daemon)
    daemon.write_jobs("import nothing_of_that_name\n")
    daemon.signal(signal.SIGHUP)
    assert "nothing_of_that_name" in daemon.expect_log("reload.failed", since=mark)["error"]
    assert daemon.workers() == before
    assert generation(daemon) == old
    daemon.write_jobs(NO_JOBS)
    daemon.signal(signal.SIGHUP)
    assert daemon.expect_log("reload.done", since=mark)["generation"] > old + 1


def test_a_candidate_that_takes_too_long_is_given_up(daemon: Daemon) -> None:
    before, mark = daemon.workers(), daemon.mark()
    daemon.write_jobs(HANGS)
    daemon.rrqd["boot_timeout_seconds"] = 2.0
    daemon.write_config()
    daemon.signal(signal.SIGHUP)
    daemon.expect_log("reload.failed", error=re.compile("not ready within|boot-error"), since=mark)
    assert daemon.workers() == before
    daemon.rrqd["boot_timeout_seconds"] = 15.0
    daemon.write_config()
    daemon.write_jobs(NO_JOBS)


def test_a_second_hup_replaces_the_candidate(daemon: Daemon) -> None:
    mark = daemon.mark()
    daemon.write_jobs(HANGS)
    daemon.signal(signal.SIGHUP)
    first = daemon.expect_log("reload.begin", since=mark)["generation"]
    until(lambda: f"mold default g{first}" in daemon.children(), 10, "the first candidate")
    daemon.write_jobs(NO_JOBS)
    daemon.signal(signal.SIGHUP)
    daemon.expect_log("reload.done", generation=first + 1, since=mark)
    until(lambda: sorted(daemon.workers()) == two(first + 1), 20, "the roll")


def test_many_reloads_leak_no_descriptor_and_no_thread(daemon: Daemon) -> None:
    master = psutil.Process(daemon.pid)

    def reload() -> None:
        mark, old = daemon.mark(), generation(daemon)
        daemon.signal(signal.SIGHUP)
        until(lambda: daemon.count_log("worker.left", generation=old, since=mark) == 2, 20, "the roll to be over")
        daemon.expect_log("mold.left", child=f"mold default g{old}", since=mark)

    def has_no_more_than(fds: int) -> bool:
        return master.num_fds() <= fds and master.num_threads() == 1

    reload()
    before = master.num_fds()
    for _ in range(4):
        reload()
        until(lambda: has_no_more_than(before), 10, "what is left of a reload to be put away")


def test_what_belongs_to_the_running_master_is_kept_and_the_wish_reported(daemon: Daemon) -> None:
    mark = daemon.mark()
    daemon.rrqd["namespace"] = "other:"
    daemon.write_config()
    daemon.signal(signal.SIGHUP)
    assert daemon.expect_log("reload.needs_restart", since=mark)["keys"] == ["namespace"]
    daemon.expect_log("reload.done", since=mark)
    del daemon.rrqd["namespace"]
    daemon.write_config()


def test_a_stop_during_a_reload_wins() -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.write_jobs(HANGS)
        daemon.signal(signal.SIGHUP)
        until(lambda: "mold default g2" in daemon.children(), 10, "the candidate")
        pids = daemon.children().values()
        assert daemon.stop(seconds=8) == 0
        assert not any(alive(pid) for pid in pids)


def test_pools_may_grow_shrink_come_and_go_and_those_with_the_same_code_share_a_mold() -> None:
    pools = {"default": {"processes": 2}, "old": {"processes": 1}, "c": {"processes": 1, "environment": {"X": "1"}}}
    with Daemon(pools=pools) as daemon:
        daemon.expect_log("rrqd.ready")
        assert sorted(one for one in daemon.children() if one.startswith("mold")) == ["mold c g1", "mold default g1"]
        daemon.pools = {"default": {"processes": 1}, "new": {"processes": 2, "queues": ["fresh"]}}
        daemon.write_config()
        daemon.signal(signal.SIGHUP)
        until(
            lambda: sorted(daemon.workers()) == ["worker default/0 g2", "worker new/0 g2", "worker new/1 g2"],
            20,
            "the new pools",
        )
        until(
            lambda: [one for one in daemon.lines("steward.heard") if one.get("wake") == ["default", "new"]],
            5,
            "a steward that can wake the new pool",
        )
        assert daemon.stop() == 0
