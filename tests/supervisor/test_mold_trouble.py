"""Starts that go wrong on the way to a worker: molds that break, exit, oversleep or say TERM, workers that never get
ready. Whatever it is, work goes on with what is there, and it is tried again, or the daemon says why not."""

from __future__ import annotations

import os
import re
import signal

import pytest

from tests.support.daemon import NO_JOBS, Daemon, alive
from tests.support.wait import until

ONCE = """
import os
from pathlib import Path

def once(name):
    try:
        (Path(__file__).parent / name).unlink()
    except FileNotFoundError:
        return False
    return True
"""
"""`once("x")` is true for the one process that takes the file ``x`` away from beside ``jobs.py``."""
EXITS = ONCE + 'if once("exit"):\n    os._exit(9)\n'
SLEEPS = ONCE + 'import time\nif once("sleep"):\n    time.sleep(60)\n'
TERMS = ONCE + 'import signal\nif once("term"):\n    os.kill(os.getpid(), signal.SIGTERM)\n'
STOPS_THE_MASTER = ONCE + 'import signal\nif once("stop"):\n    os.kill(os.getppid(), signal.SIGTERM)\n'
HOOKS_RAISE = """
import os

def broken():
    raise RuntimeError("a hook of mine")

os.register_at_fork(before=broken, after_in_parent=broken, after_in_child=broken)
"""
NO_FORKS = """
import errno, os
from pathlib import Path

really = os.fork

def fork():
    if (Path(__file__).parent / "full").exists():
        raise OSError(errno.EAGAIN, "too many processes")
    return really()

os.fork = fork
"""
FORK_HANGS = ONCE + 'import time\nos.register_at_fork(before=lambda: once("hang") and time.sleep(60))\n'
ONE = {"default": {"processes": 1}}


def _daemon(code: str, *files: str, **settings: object) -> Daemon:
    """With `files` beside ``jobs.py``."""
    daemon = Daemon(jobs=code + NO_JOBS, **settings)  # type: ignore[arg-type]
    for name in files:
        (daemon.folder / name).touch()
    return daemon


# -- molds --------------------------------------------------------------------------------------------------


def test_hooks_that_raise_at_every_fork_are_complained_of_and_nothing_else() -> None:
    with _daemon(HOOKS_RAISE) as daemon:
        daemon.expect_log("rrqd.ready")
        os.kill(daemon.workers()["worker default/0 g1"], signal.SIGKILL)
        until(lambda: daemon.count_log("worker.ready", slot=0) == 2, 10, "a new worker in slot 0")
        assert daemon.count_log("mold.died") == 0
        assert any("a hook of mine" in one.get("text", "") for one in daemon.log())
        assert daemon.stop() == 0


def test_a_mold_that_can_not_fork_any_more_is_no_end_and_its_other_workers_do_not_notice() -> None:
    with _daemon(NO_FORKS) as daemon:
        daemon.expect_log("rrqd.ready")
        before = daemon.workers()
        (daemon.folder / "full").touch()
        os.kill(before["worker default/0 g1"], signal.SIGKILL)
        daemon.expect_log("mold.died")
        mark = daemon.mark()
        (daemon.folder / "full").unlink()
        daemon.expect_log("worker.ready", slot=0, since=mark)
        assert daemon.workers()["worker default/1 g1"] == before["worker default/1 g1"]
        assert daemon.stop() == 0


@pytest.mark.parametrize(
    ("code", "file", "reason"),
    [
        (EXITS, "exit", "boot-error 9"),
        (TERMS, "term", "boot-error -15"),
        (SLEEPS, "sleep", "boot-error"),
    ],
    ids=["it exits", "it is told TERM", "it sleeps past its deadline"],
)  # fmt: skip
def test_a_mold_that_fails_once_is_made_anew_at_the_start_and_later(code: str, file: str, reason: str) -> None:
    with _daemon(code, file, boot_timeout_seconds=3.5) as daemon:
        daemon.expect_log("rrqd.ready", seconds=30)
        assert daemon.count_log("mold.died", reason=re.compile(f"^{reason}$")) == 1
        before = daemon.workers()
        mark = daemon.mark()
        if file != "sleep":  # once is enough to wait for
            (daemon.folder / file).touch()
            os.kill(daemon.children()["mold default g1"], signal.SIGKILL)
            daemon.expect_log("mold.died", since=mark, reason=reason)
            daemon.expect_log("mold.ready", since=mark)
        assert daemon.workers() == before
        assert daemon.stop() == 0


def test_term_from_inside_the_first_import_stops_the_daemon_and_nobody_stays() -> None:
    with _daemon(STOPS_THE_MASTER, "stop") as daemon:
        until(lambda: daemon.children(), 10, "the first children")
        pids = list(daemon.children().values())
        assert daemon.wait() == 0
        assert daemon.count_log("rrqd.ready") == 0
        assert not any(alive(pid) for pid in [*pids, *daemon._seen])


def test_a_fork_that_hangs_later_on_costs_the_mold_its_life_and_nobody_else() -> None:
    with _daemon(FORK_HANGS, boot_timeout_seconds=3.5) as daemon:
        daemon.expect_log("rrqd.ready")
        before = daemon.workers()
        (daemon.folder / "hang").touch()
        os.kill(before["worker default/0 g1"], signal.SIGKILL)
        until(lambda: daemon.count_log("worker.ready", slot=0) == 2, 30, "a new worker in slot 0")
        assert daemon.workers()["worker default/1 g1"] == before["worker default/1 g1"]
        assert daemon.stop() == 0


# -- workers that do not get ready --------------------------------------------------------------------------


BOOT_SECONDS = 3.5
"""Long enough for the others to start on a busy machine."""


def test_one_worker_that_is_stuck_is_ended_and_replaced_and_the_start_goes_on() -> None:
    with Daemon(boot_timeout_seconds=BOOT_SECONDS) as daemon:
        daemon.state.mkdir(exist_ok=True)
        (daemon.state / "stuck-once").touch()
        daemon.expect_log("rrqd.ready", seconds=30)
        assert daemon.count_log("child.killed", pool="default", reason="boot-error") == 1
        assert daemon.count_log("worker.ready") == 2
        assert daemon.stop() == 0


def test_when_all_are_stuck_the_daemon_gives_up_and_says_so() -> None:
    with Daemon(pools={"default": {"processes": 5}}, boot_timeout_seconds=BOOT_SECONDS) as daemon:
        daemon.state.mkdir(exist_ok=True)
        (daemon.state / "stuck").touch()
        assert daemon.wait(60) == 1
        assert "worker:default did not start" in daemon.expect_log("start.failed")["error"]
        assert daemon.count_log("worker.died", reason="boot-error") == 5
        assert not any(alive(pid) for pid in daemon._seen)


def test_when_only_a_replacement_is_stuck_it_is_ended_too_and_the_old_one_stays_as_long_as_it_can() -> None:
    with Daemon(pools=ONE, boot_timeout_seconds=BOOT_SECONDS) as daemon:
        daemon.expect_log("rrqd.ready", seconds=30)
        (daemon.state / "stuck-once").touch()
        daemon.signal(signal.SIGHUP)
        daemon.expect_log("worker.left", generation=1)
        told = [one["event"] for one in daemon.log() if one["event"] in ("child.killed", "worker.draining")]
        assert told == ["child.killed", "worker.draining"]  # nobody is asked to go before the other is there
        mark = daemon.mark()
        (daemon.state / "stuck-once").touch()
        daemon.order("exit", code=9)
        daemon.expect_log("child.killed", pool="default", reason="boot-error", since=mark)
        daemon.expect_log("worker.ready", generation=2, since=mark)
        assert daemon.stop() == 0
