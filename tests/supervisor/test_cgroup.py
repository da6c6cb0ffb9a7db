"""With a delegated control group, what a job has started ends with its worker, wherever it has gone."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from rrqd.supervisor.cgroup import ROOTS, SUBGROUP, Leaves
from tests.support.daemon import Daemon
from tests.support.wait import until


@pytest.fixture
def unit() -> Iterator[Path]:
    """A control group such as systemd delegates to a unit."""
    root = next((root for root in ROOTS if (root / "cgroup.procs").exists()), None)
    if root is None or not os.access(root / "cgroup.procs", os.W_OK):
        pytest.skip("no writable control groups of version 2 here")
    folder = root / f"rrqd-test-{secrets.token_hex(4)}"
    (folder / SUBGROUP).mkdir(parents=True)
    yield folder
    (folder / "cgroup.kill").write_text("1")
    until(lambda: not _inside(folder), 5, "the group to be empty")
    for leaf in [*folder.iterdir()]:
        if leaf.is_dir():
            leaf.rmdir()
    folder.rmdir()


def _inside(folder: Path) -> list[str]:
    return [pid for file in folder.rglob("cgroup.procs") for pid in file.read_text().split()]


def test_a_process_that_left_its_workers_group_ends_with_the_worker(unit: Path) -> None:
    move = f'echo $$ > {unit / SUBGROUP}/cgroup.procs && exec "$@"'
    daemon = Daemon()
    daemon.prefix = ("sh", "-c", move, "sh")
    with daemon:
        daemon.expect_log("rrqd.ready")
        until(lambda: len([*unit.glob("worker-*")]) == 2, 5, "a group for each worker")
        worker = daemon.workers()["worker default/0 g1"]
        assert str(worker) in " ".join((leaf / "cgroup.procs").read_text() for leaf in unit.glob("worker-*"))
        daemon.order("run", slot="default.0", argv=["setsid", "sleep", "600"])
        sleeper = until(lambda: _sleeper(unit), 5, "the job's own process")
        assert os.getpgid(sleeper.pid) != worker
        os.kill(worker, signal.SIGKILL)
        sleeper.wait(5)
        until(lambda: len([*unit.glob("worker-*")]) == 2, 10, "as many groups as workers")
        assert daemon.stop() == 0
        assert _inside(unit) == []


def _sleeper(unit: Path) -> psutil.Process | None:
    for pid in _inside(unit):
        try:
            process = psutil.Process(int(pid))
            if process.cmdline()[:2] == ["sleep", "600"]:
                return process
        except psutil.NoSuchProcess:
            continue
    return None


def test_without_a_delegation_there_are_no_leaves(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("0::/user.slice/supervisor\n")
    assert Leaves.delegated((tmp_path,), tmp_path / "own") is None
    assert Leaves.delegated((tmp_path,), tmp_path / "missing") is None
