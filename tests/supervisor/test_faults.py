"""A kernel that fails: no processes, no descriptors, signals that get lost, orphans that come late, processes that
SIGKILL does not end. The master goes on, and when it is over everything is as before."""

from __future__ import annotations

import os
import re
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from rrqd.local_socket import ask
from rrqd.supervisor.process import state_letter
from tests.support.daemon import NO_JOBS, Daemon, alive
from tests.support.faults import Faulty
from tests.support.stuck import can_freeze, frozen, held
from tests.support.wait import BUSY_SECONDS, until

FAMILY = ["mold default g1", "steward", "web", "worker default/0 g1", "worker default/1 g1"]
SLOW_BETWEEN = """
import os, time
from pathlib import Path

mold, really = os.getpid(), os._exit

def late(code):
    if os.getppid() == mold and (Path(__file__).parent / "late").exists():
        time.sleep(0.5)
    really(code)

os._exit = late
"""
"""The process between mold and worker takes its time to end, so that the worker is re-parented late."""


@pytest.fixture(scope="module")
def shared() -> Iterator[Faulty]:
    """A daemon that bears one fault after the other."""
    with Faulty(http=True, jobs=SLOW_BETWEEN + NO_JOBS, log_level="debug", hang_timeout_seconds=3.0) as daemon:
        daemon.expect_log("rrqd.ready")
        yield daemon
        assert daemon.count_log("master.crashed") == 0
        assert daemon.stop() == 0


@pytest.fixture
def daemon(shared: Faulty) -> Iterator[Faulty]:
    """Whole before, and whole after."""
    _whole_family(shared)
    yield shared
    _whole_family(shared)


def _whole_family(daemon: Daemon) -> None:
    """Everybody is there once and is whom the master means, and nobody else: no zombie, no second one."""

    def whole() -> bool:
        status = ask(daemon.state, {"command": "status"})["status"]
        meant = {slot["pid"] for slot in status["pools"]["default"]["slots"]}
        there = daemon.children()
        return status["ready"] and sorted(there) == FAMILY and meant <= {*there.values()}

    until(whole, 20, "the whole family")
    until(lambda: len(psutil.Process(daemon.pid).children()) == len(FAMILY), 10, "nobody else to be there")


def _kill_a_proven_worker(daemon: Daemon) -> None:
    """Of slot 0. It has done a job, so that the pauses between starts do not grow from test to test."""
    ends = sum(one["did"] == "end" for one in daemon.lines("jobs"))
    daemon.order("wait", slot="default.0", seconds=0.0)
    until(lambda: sum(one["did"] == "end" for one in daemon.lines("jobs")) > ends, 10, "the job's end")
    os.kill(daemon.workers()["worker default/0 g1"], signal.SIGKILL)


# -- processes and descriptors that can't be had ------------------------------------------------------------


def test_a_start_without_processes_goes_on_when_there_are_some() -> None:
    with Faulty(http=True, boot_timeout_seconds=20.0) as daemon:
        daemon.fail("spawn", "EAGAIN")
        until(lambda: daemon.count_log("child.not_started") >= 3, 20, "some starts to fail")
        daemon.mend("spawn")
        daemon.expect_log("rrqd.ready", seconds=30)
        assert daemon.stop() == 0


def test_when_no_process_can_be_started_it_is_tried_again_with_pauses_and_the_others_work_on(daemon: Faulty) -> None:
    workers = daemon.workers()
    daemon.fail("spawn", "EAGAIN")
    for title in ("steward", "web"):
        os.kill(daemon.children()[title], signal.SIGKILL)
    failed = daemon.expect_log("child.not_started", child="steward")
    assert "temporarily unavailable" in failed["error"]
    until(lambda: daemon.failures("spawn") >= 5, 20, "more to fail")
    assert daemon.failures("spawn") < 100
    assert daemon.workers() == workers
    daemon.mend("spawn")


def test_a_child_that_can_not_be_watched_is_not_kept(daemon: Faulty) -> None:
    other = daemon.workers()["worker default/1 g1"]
    mark = daemon.mark()
    daemon.fail("pidfd_open", "ENFILE")
    _kill_a_proven_worker(daemon)
    os.kill(daemon.children()["web"], signal.SIGKILL)
    assert "open files in system" in daemon.expect_log("child.not_watched", since=mark)["error"]
    daemon.expect_log("child.not_started", child="web", since=mark)
    daemon.mend("pidfd_open")
    _whole_family(daemon)
    assert daemon.workers()["worker default/1 g1"] == other


@contextmanager
def _no_more_descriptors(pid: int) -> Iterator[None]:
    """It keeps those it has, and gets no other, not even in the place of one that it closes."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def test_a_master_that_gets_no_descriptors_bears_whatever_is_asked_of_it() -> None:
    # One of its own: what it does for the first time may need one most of all.
    with Daemon(http=True) as daemon:
        daemon.expect_log("rrqd.ready")
        descriptors = psutil.Process(daemon.pid).num_fds()
        with _no_more_descriptors(daemon.pid):
            for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGUSR2):
                daemon.signal(number)
            daemon.expect_log("reload.failed")
            daemon.expect_log("upgrade.failed")
            for title in ("worker default/0 g1", "web", "steward"):
                os.kill(daemon.children()[title], signal.SIGKILL)
            for child in ("worker", "web", "steward"):
                daemon.expect_log("child.not_started", child=re.compile(f"^{child}"))
        _whole_family(daemon)
        until(lambda: psutil.Process(daemon.pid).num_fds() == descriptors, 5, "as many descriptors as before")
        daemon.signal(signal.SIGHUP)
        daemon.expect_log("reload.done")
        assert daemon.stop() == 0


# -- signals and ends that get lost -------------------------------------------------------------------------


def test_ends_are_seen_though_no_signal_tells_of_them(daemon: Faulty) -> None:
    mark = daemon.mark()
    daemon.fail("sigchld")
    _kill_a_proven_worker(daemon)
    daemon.expect_log("worker.died", slot=0, since=mark)
    # An orphan of a job's: nobody has a pidfd of it, only looking now and then finds its end.
    daemon.order("run", slot="default.1", argv=["/bin/sh", "-c", "(sleep 0.2; exit 3) & exit 0"])
    daemon.expect_log("stranger.reaped", code=3, since=mark)
    assert daemon.failures("sigchld") > 0
    daemon.mend("sigchld")


def test_an_end_that_can_not_be_read_is_an_end_all_the_same(daemon: Faulty) -> None:
    mark = daemon.mark()
    daemon.fail("peek", "ECHILD")
    _kill_a_proven_worker(daemon)
    daemon.expect_log("worker.died", slot=0, since=mark)
    daemon.mend("peek")


def test_a_worker_that_is_re_parented_late_is_ours_all_the_same(daemon: Faulty) -> None:
    mark = daemon.mark()
    (daemon.folder / "late").touch()
    _kill_a_proven_worker(daemon)
    assert daemon.expect_log("worker.ready", slot=0, since=mark)["seconds"] > 0.4
    pid = daemon.workers()["worker default/0 g1"]
    assert psutil.Process(pid).ppid() == daemon.pid
    assert os.getpgid(pid) == pid
    (daemon.folder / "late").unlink()


def test_a_mold_that_dies_between_its_two_forks_leaves_nobody_without_a_master(daemon: Faulty) -> None:
    mark = daemon.mark()
    (daemon.folder / "late").touch()
    mold = daemon.children()["mold default g1"]
    _kill_a_proven_worker(daemon)
    between = until(lambda: psutil.Process(mold).children(), 10, "the process between mold and worker")[0]
    (daemon.folder / "late").unlink()
    os.kill(mold, signal.SIGKILL)
    daemon.expect_log("mold.died", since=mark)
    until(lambda: not between.is_running(), 10, "the process in between to be reaped")


# -- processes that SIGKILL does not end --------------------------------------------------------------------


def test_a_worker_that_can_not_be_killed_gives_its_slot_away_and_its_end_is_seen_when_it_comes(daemon: Faulty) -> None:
    mark = daemon.mark()
    before = daemon.workers()
    stuck = before["worker default/0 g1"]
    with frozen(stuck) if can_freeze() else held(stuck):
        if can_freeze():
            assert daemon.expect_log("worker.suspect", slot=0, since=mark)["kind"] == "in the kernel"
        else:
            daemon.order("overdue", slot="default.0")
        daemon.expect_log("child.killed", slot=0, since=mark)
        daemon.expect_log("worker.lost", slot=0, since=mark)
        daemon.expect_log("worker.ready", slot=0, since=mark)
        assert alive(stuck)
        assert daemon.workers()["worker default/1 g1"] == before["worker default/1 g1"]
    daemon.expect_log("worker.died", pid=stuck)


def test_a_stop_does_not_wait_for_a_worker_that_can_not_be_killed() -> None:
    with Daemon(stop_timeout_seconds=2.0) as daemon:
        daemon.expect_log("rrqd.ready")
        stuck = daemon.workers()["worker default/0 g1"]
        with held(stuck):
            began = time.monotonic()
            assert daemon.stop() == 0
            assert time.monotonic() - began < 4.0 + BUSY_SECONDS
            assert state_letter(stuck) == "t"
            others = [pid for pid in daemon._seen if pid != stuck]
            assert not any(alive(pid) for pid in others)
        until(lambda: not alive(stuck), 5, "it to be gone")
