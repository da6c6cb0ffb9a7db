"""The embedded server of a home: started by the first user, shared, gone after the last, its data kept."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from rrqd.supervisor.embedded import find_binary
from rrqd.supervisor.home import Home, enter, enter_throw_away
from tests.support.daemon import ROOT
from tests.support.wait import BUSY_SECONDS, until

SCRIPT = """
import sys
from rrqd.rq import Queue
queue = Queue("default")
job = queue.enqueue("tests.support.calls.add", 2, 3, job_id=sys.argv[1] if sys.argv[1:] else None)
print(job.id, flush=True)
"""
LINGERING = SCRIPT + "\nsys.stdin.read()\n"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "home")
    yield home
    for process in keepers(home) + servers(home):
        process.kill()


def keepers(home: Home) -> list[psutil.Process]:
    return _processes(lambda line: "rrqd.supervisor.keeper" in line and str(home.folder) in line)


def servers(home: Home) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()) == home.folder / "valkey" and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            pass
    return found


def _processes(fits) -> list[psutil.Process]:  # type: ignore[no-untyped-def]
    found = []
    for process in psutil.process_iter():
        try:
            if fits(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            pass
    return found


def run(home: Home, program: str, *args: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *args], cwd=ROOT, env={**os.environ, "RRQD_HOME": str(home.folder)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


def linger(home: Home, job_id: str) -> subprocess.Popen[str]:
    """A user that stays until its stdin is closed, or it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", LINGERING, job_id], cwd=ROOT, env={**os.environ, "RRQD_HOME": str(home.folder)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline().strip() == job_id
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait(10)
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()


def in_use(home: Home) -> bool:
    """Whether somebody holds the users' lock."""
    with home.users_lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def gone(home: Home) -> bool:
    return not keepers(home) and not servers(home)


STATUS = "import sys\nfrom rrqd.rq import Job\nprint(*[Job.fetch(one).get_status() for one in sys.argv[1:]])"


#: What only those pay for, at their start, who run jobs or look at pages.
LOADED = """
print(sorted({"pydantic", "structlog", "uvloop", "starlette", "click", "rich", "rrqd.runtime"} & set(sys.modules)))
"""


def test_a_second_process_sees_the_first_ones_job_and_later_ones_find_it_too(home: Home) -> None:
    run(home, SCRIPT, "one")

    assert run(home, STATUS + LOADED, "one") == "queued\n[]"
    until(lambda: gone(home), 5, "the keeper to leave after its last user")
    assert run(home, STATUS, "one") == "queued"


def test_the_keeper_stays_while_anybody_is_there_and_leaves_within_two_seconds(home: Home) -> None:
    first, second = linger(home, "a"), linger(home, "b")
    try:
        (keeper,) = keepers(home)
        end(first)
        assert run(home, STATUS, "a", "b") == "queued queued"
        assert [one.pid for one in keepers(home)] == [keeper.pid]
    finally:
        end(first)
        end(second)
    began = time.monotonic()
    until(lambda: gone(home), 10, "the keeper to leave")
    assert time.monotonic() - began < 2.0 + BUSY_SECONDS
    assert not home.socket_path.exists()


def test_a_forked_child_keeps_the_server_when_its_parent_is_killed(home: Home) -> None:
    program = LINGERING.replace("sys.stdin.read()", "import os\nif os.fork():\n    os.kill(os.getpid(), 9)\n") + (
        "queue.enqueue('tests.support.calls.add', 1, 1, job_id='of-the-child')\nprint('child', flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "of-the-parent"], cwd=ROOT,
        env={**os.environ, "RRQD_HOME": str(home.folder)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        assert [process.stdout.readline().strip() for _ in range(2)] == ["of-the-parent", "child"]
        assert run(home, STATUS, "of-the-parent", "of-the-child") == "queued queued"
    finally:
        end(process)  # closes the child's stdin: it ends
    until(lambda: gone(home), 5, "the keeper to leave after the child")


@pytest.mark.parametrize("victim", ["keeper", "server", "both"])
def test_a_killed_keeper_or_server_is_replaced_and_no_job_is_lost(home: Home, victim: str) -> None:
    user = linger(home, "before")
    try:
        for one in (keepers(home) if victim != "server" else []) + (servers(home) if victim != "keeper" else []):
            one.kill()
        assert run(home, SCRIPT, "after") == "after"
        assert run(home, STATUS, "before", "after") == "queued queued"
        assert len(keepers(home)) == 1
        until(lambda: len(servers(home)) == 1, 5, "one server")
    finally:
        end(user)
    until(lambda: gone(home), 5, "the keeper to leave")


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace makes the disk slow here")
def test_a_server_killed_while_its_disk_is_slow_has_lost_nothing_it_answered(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told to flush by itself, it would answer without writing for as long as one flush takes, up to 2 s."""
    slow = tmp_path / "slow-server"
    file = home.folder / "valkey" / "appendonlydir" / "appendonly.aof.1.incr.aof"
    flushes = f"-P {file} -e trace=fdatasync -e inject=fdatasync:delay_enter=3s"
    slow.write_text(f'#!/bin/sh\nexec strace -f -o /dev/null {flushes} {find_binary(None)} "$@"\n')
    slow.chmod(0o700)
    monkeypatch.setenv("RRQD_STORE_BINARY", str(slow))
    program = """
import os, time
from rrqd.rq import Queue
queue, began, number = Queue("default"), time.monotonic(), 0
pid = queue.connection.ask(lambda store: store.info())["process_id"]
while time.monotonic() - began < 1.5:
    queue.enqueue("tests.support.calls.add", number, 1, job_id=f"n-{number}")
    number += 1
os.kill(int(pid), 9)
print(number, queue.count)
"""
    enqueued, kept = run(home, program).split()
    assert int(enqueued) > 0
    assert kept == enqueued


def test_the_keeper_holds_nothing_of_who_started_it(home: Home) -> None:
    user = linger(home, "x")
    try:
        (keeper,) = keepers(home)
        (server,) = servers(home)
        for process in (keeper, server):
            ends = {os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{process.pid}/fd")}
            assert os.readlink(f"/proc/{user.pid}/fd/1") not in ends
            assert os.getsid(process.pid) != os.getsid(user.pid)
        assert os.stat(home.folder).st_mode & 0o777 == 0o700
    finally:
        end(user)


def test_a_path_too_long_for_a_socket_gets_a_short_name_that_goes_again(tmp_path: Path) -> None:
    home = Home(tmp_path / ("long-" * 24) / "home")
    link = home.link
    assert link is not None
    stay = enter(home)
    try:
        assert home.answers()
        assert link.readlink() == home.folder
    finally:
        stay.end()
    until(lambda: gone(home), 5, "the keeper to leave")
    assert not link.is_symlink()


def test_a_throw_away_home_leaves_nothing_behind() -> None:
    stay = enter_throw_away()
    folder = stay.home.folder
    assert stay.home.answers()

    stay.end()

    until(lambda: not folder.exists(), 5, "the folder to go")


def test_a_server_that_cannot_start_is_told_to_the_user_in_one_line(home: Home) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("queue.enqueue", "queue.count and queue.enqueue")], cwd=ROOT,
        env={**os.environ, "RRQD_HOME": str(home.folder), "RRQD_STORE_BINARY": "/nowhere/valkey-server"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .endswith("RRQD_STORE_BINARY = /nowhere/valkey-server: there is no such program")
    )


def test_a_terminated_keeper_takes_the_server_along_and_a_living_user_brings_both_back(home: Home) -> None:
    user = linger(home, "x")
    try:
        (keeper,) = keepers(home)
        keeper.send_signal(signal.SIGTERM)
        until(lambda: [one.pid for one in keepers(home)] not in ([], [keeper.pid]), 10, "another keeper")
        assert run(home, STATUS, "x") == "queued"
    finally:
        end(user)


def test_a_home_that_is_deleted_begins_anew_for_who_uses_it_and_for_who_comes(home: Home) -> None:
    user = linger(home, "x")
    try:
        (keeper,) = keepers(home)
        shutil.rmtree(home.folder)
        assert run(home, SCRIPT, "y") == "y"  # finds no folder, and makes one
        until(lambda: not keeper.is_running(), 10, "the keeper of the deleted folder to leave")
        until(lambda: len(keepers(home)) == len(servers(home)) == 1, 10, "one keeper for both, which stays")
        assert user.stdin is not None
        assert run(home, "from rrqd.rq import Job\nprint(Job.exists('x'), Job.exists('y'))") == "False True"
        until(lambda: in_use(home), 5, "the old user to be one of the new keeper's")
    finally:
        end(user)
    until(lambda: gone(home), 5, "the keeper to leave")
