"""Upgrade in place: the master becomes another rrqd, and nobody but it notices."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.support.app import app, whole
from tests.support.daemon import Daemon
from tests.support.wait import until


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    with Daemon(http=True, pools={"default": {"processes": 2}, "other": {"processes": 1}}) as daemon:
        daemon.expect_log("rrqd.ready")
        yield daemon
        assert daemon.stop() == 0


@pytest.fixture
def daemon(shared: Daemon) -> Daemon:
    """One that has become another again and again. It is left with all its workers, and a good file."""
    until(lambda: len(shared.workers()) == 3, 20, "all workers")
    return shared


def upgrade(daemon: Daemon) -> dict[str, Any]:
    mark = daemon.mark()
    daemon.signal(signal.SIGUSR2)
    return daemon.expect_log("upgrade.done", since=mark)


def test_the_pid_and_all_children_stay_and_running_jobs_end(daemon: Daemon) -> None:
    before, pid = daemon.children(), daemon.pid
    daemon.hold_up("long", slot="default.0")
    done = upgrade(daemon)
    assert (done["pid"], done["children"]) == (pid, len(before))
    assert daemon.children() == before
    assert daemon.did("long") == ["begin"]
    daemon.let_go()
    until(lambda: daemon.did("long") == ["begin", "end"], 10, "the job's end")
    assert psutil.Process(pid).cmdline()[0] == "rrqd: master"


def test_it_can_be_done_again_and_again(daemon: Daemon) -> None:
    before = daemon.children()
    descriptors = psutil.Process(daemon.pid).num_fds()
    for _ in range(2):
        upgrade(daemon)
    assert daemon.children() == before
    until(lambda: psutil.Process(daemon.pid).num_fds() == descriptors, 5, "as many descriptors as at first")


def test_a_new_rrqd_that_can_not_go_on_changes_nothing_and_says_why(daemon: Daemon) -> None:
    before, mark = daemon.children(), daemon.mark()
    (daemon.folder / "rrq.toml").write_text("[rrqd]\nnonsense = 1\n")
    daemon.signal(signal.SIGUSR2)
    daemon.expect_log("upgrade.failed", since=mark)
    assert any("nonsense: unknown key" in one.get("text", "") for one in daemon.log()[mark:])
    assert daemon.children() == before
    assert daemon.count_log("upgrade.exec", since=mark) == 0
    daemon.write_config()


def test_a_worker_that_dies_meanwhile_is_found_and_replaced(daemon: Daemon) -> None:
    mark = daemon.mark()
    victim = daemon.workers()["worker default/1 g1"]
    daemon.signal(signal.SIGUSR2)
    daemon.expect_log("upgrade.exec", since=mark)
    os.kill(victim, signal.SIGKILL)
    daemon.expect_log("worker.died", pid=victim, reason="crash-signal 9", since=mark)
    until(lambda: "worker default/1 g1" in daemon.workers(), 10, "its replacement")


def test_afterwards_everything_is_kept_as_before(daemon: Daemon) -> None:
    workers, mark = daemon.workers(), daemon.mark()
    os.kill(workers["worker default/0 g1"], signal.SIGKILL)
    daemon.expect_log("worker.died", reason="crash-signal 9", slot=0, since=mark)
    until(lambda: len(daemon.workers()) == 3 and daemon.workers() != workers, 10, "a replacement")
    daemon.signal(signal.SIGHUP)
    now = daemon.expect_log("reload.done", since=mark)["generation"]
    names = {f"worker default/0 g{now}", f"worker default/1 g{now}", f"worker other/0 g{now}"}
    until(lambda: set(daemon.workers()) == names, 20, "the roll")
    for child in ("steward", "web", f"mold default g{now}"):
        mark = daemon.mark()
        os.kill(daemon.children()[child], signal.SIGKILL)
        daemon.expect_log(f"{child.split()[0]}.ready", since=mark)


def test_signals_that_come_meanwhile_are_heard_afterwards() -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.signal(signal.SIGUSR2)
        daemon.expect_log("upgrade.exec")
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGTTIN, signal.SIGTERM):
            daemon.signal(number)
        assert daemon.wait() == 0
        assert daemon.count_log("upgrade.done") == 1


async def test_with_the_whole_rrqd_its_server_and_real_jobs() -> None:
    with whole(http=True) as daemon:
        async with app(daemon) as one:
            [job] = await one.held(1)
            before = daemon.children()
            daemon.signal(signal.SIGUSR2)
            daemon.expect_log("upgrade.done")
            assert daemon.children() == before
            one.let_go()
            assert (await one.end(job)).status.value == "COMPLETED"
            later = [await one.tell() for _ in range(5)]
            assert await one.ends(later) == {"COMPLETED": 5}
            assert one.starts()[job] == 1
        assert daemon.stop() == 0


def test_by_hand_the_module_says_what_it_is() -> None:
    program = [sys.executable, "-m", "rrqd.supervisor.upgrade"]
    said = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr.count("\n")) == (2, 1)
