"""`kill -USR2` and `rrqd debug`, as an operator has them: the real daemon, a job that runs, a console in its worker.

`rrqd debug` is the real program throughout: what it does hangs on streams, signals and the end of processes.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.supervisor.test_confinement import needs_landlock
from tests.support.app import TOLD, App, app, whole
from tests.support.daemon import ROOT, Daemon
from tests.support.wait import until

RRQD = [sys.executable, "-m", "rrqd"]


class Said(NamedTuple):
    """What `rrqd debug` answered."""

    code: int
    out: str
    err: str


def of(daemon: Daemon) -> list[str]:
    return ["--config", str(daemon.folder / "rrq.toml")]


def debug(daemon: Daemon, *words: str, lines: str = "") -> Said:
    done = subprocess.run(
        [*RRQD, "debug", *words, *of(daemon)], cwd=ROOT, input=lines, capture_output=True, text=True, timeout=40,
        check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return Said(done.returncode, done.stdout, done.stderr)


@contextlib.contextmanager
def attached(daemon: Daemon, slot: str) -> Iterator[subprocess.Popen[str]]:
    """A guest who has come in and stays, with pipes for hands."""
    guest = subprocess.Popen(
        [*RRQD, "debug", slot, *of(daemon)], cwd=ROOT, text=True, bufsize=1,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert ask(guest, "'in'") == "'in'\n"
        yield guest
    finally:
        guest.kill()
        guest.communicate()


def ask(guest: subprocess.Popen[str], line: str) -> str:
    assert guest.stdin is not None
    assert guest.stdout is not None
    guest.stdin.write(line + "\n")
    guest.stdin.flush()
    return guest.stdout.readline()


def socket_of(daemon: Daemon, slot: int) -> Path:
    return daemon.state / "debug" / f"default.{slot}.sock"


def gone(daemon: Daemon, slot: int) -> None:
    until(lambda: not socket_of(daemon, slot).exists(), 5, "the socket to be removed")


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """One for all who leave it with two workers that do nothing."""
    with whole(concurrency=1) as daemon:
        daemon.expect_log("rrqd.ready")
        yield daemon
        assert daemon.stop() == 0


@pytest.fixture
async def a(daemon: Daemon) -> AsyncIterator[App]:
    until(lambda: len(daemon.workers()) == 2, 15, "both workers")
    async with app(daemon) as found:
        found.close()
        yield found


async def slot_of(a: App, job_id: str) -> int:
    """Of the worker that runs it."""
    [job] = await a.running([job_id])
    return int(re.findall(r"_default\.(\d)_", job.fields["worker_id"])[0])


async def test_a_worker_is_looked_into_while_its_jobs_and_its_neighbour_go_on(a: App) -> None:
    daemon, gate, mark = a.daemon, str(a.daemon.folder / "gate"), a.daemon.mark()
    workers = daemon.workers()
    ids = [await a.tell("wait", gate=gate), await a.tell("block until", gate=gate, plain=True)]
    slots = {job_id: await slot_of(a, job_id) for job_id in ids}
    assert sorted(slots.values()) == [0, 1]
    for job_id, slot in slots.items():
        said = debug(daemon, f"default/{slot}", lines=f"jobs()\nwhere('{job_id[:8]}')\nworker.worker_id\n")
        assert (said.code, said.err) == (0, "")
        assert re.search(rf"(?m)^{job_id} +told", said.out), said.out
        assert "tests/support/told.py" in said.out
        assert f"_default.{slot}_" in said.out.splitlines()[-1]
        assert ">>>" not in said.out
        gone(daemon, slot)
    said = debug(daemon, f"default/{slots[ids[0]]}", lines=f"frames('{ids[0]}')[1].f_locals['params']['do']\n")
    assert (said.code, said.out) == (0, "'wait'\n")
    a.let_go()
    assert [(await a.end(job_id)).result for job_id in ids] == ["let go", "blocked"]
    assert [a.starts()[job_id] for job_id in ids] == [1, 1]
    assert daemon.workers() == workers
    assert daemon.count_log("debugger.attached", since=mark) == 3


async def test_what_is_called_on_the_loop_works_and_its_answer_comes_back(a: App) -> None:
    [job_id] = await a.held(1)
    slot, mark = str(await slot_of(a, job_id)), a.daemon.mark()
    lines = "import asyncio\nawait_(asyncio.sleep(0.01, 'slept'))\ncall(max, 2, 3)\ntasks()\nstacks()\n"
    said = debug(a.daemon, slot, lines=lines)
    assert said.out.startswith("'slept'\n3\n")
    assert "rrqd-console" in said.out
    debug(a.daemon, slot, lines="call(worker.drain, 0)\n")
    a.daemon.expect_log("job.released", count=1, since=mark)
    a.let_go()
    assert (await a.end(job_id)).status == "COMPLETED"


async def test_a_worker_whose_loop_is_blocked_is_looked_into_as_well(a: App) -> None:
    job_id = await a.tell("block until", gate=str(a.daemon.folder / "gate"))
    slot = await slot_of(a, job_id)
    until(lambda: a.starts()[job_id], 5, "the job to block")
    said = debug(a.daemon, f"default/{slot}", lines=f"where('{job_id}')\ncall(print, seconds=0.1)\n")
    assert said.code == 0
    assert "threading.Event().wait" in said.out
    assert "TimeoutError: not done within 0.1 s" in said.out
    a.let_go()
    assert (await a.end(job_id)).result == "blocked"
    assert a.starts()[job_id] == 1


@needs_landlock
def test_a_worker_that_may_write_nowhere_else_listens_in_its_own_folder() -> None:
    pool = {"processes": 1, "landlock": True}
    with Daemon(pools={"default": pool}, stand_ins=False, jobs=TOLD) as daemon:
        daemon.expect_log("rrqd.ready")
        for _ in range(2):
            said = debug(daemon, "0", lines="1 + 1\n")
            assert (said.code, said.out, said.err) == (0, "2\n", "")
        opened = Path(daemon.expect_log("debugger.open")["path"])
        assert opened.is_relative_to(daemon.state / "sandboxes")
        until(lambda: not opened.exists(), 5, "the socket to be removed")
        assert daemon.stop() == 0


def test_the_signal_alone_opens_the_socket_for_any_tool(daemon: Daemon) -> None:
    mark = daemon.mark()
    os.kill(daemon.workers()["worker default/1 g1"], signal.SIGUSR2)
    path = until(lambda: socket_of(daemon, 1).exists() and socket_of(daemon, 1), 5, "the socket")
    assert isinstance(path, Path)
    assert daemon.expect_log("debugger.open", since=mark)["path"] == str(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not socket_of(daemon, 0).exists()
    with socket.socket(socket.AF_UNIX) as tool:
        tool.settimeout(10)
        tool.connect(str(path))
        tool.sendall(b"6 * 7\n")
        tool.shutdown(socket.SHUT_WR)
        said = tool.makefile("r").read()
        assert "worker default/1 g1, pid" in said
        assert ">>> 42\n" in said
    gone(daemon, 1)


def test_the_daemon_stops_in_time_though_somebody_is_in_a_worker_and_whoever_types_is_interrupted() -> None:
    with whole(processes=3, stop_timeout_seconds=10.0) as daemon:
        daemon.expect_log("rrqd.ready")
        with (
            attached(daemon, "default/0") as idle,
            attached(daemon, "default/1") as busy,
            typing(daemon, "default/2") as typist,
        ):
            assert busy.stdin is not None
            busy.stdin.write("print('spins', flush=True)\nwhile True: pass\n\n")
            assert busy.stdout is not None
            assert busy.stdout.readline() == "spins\n"
            began = time.monotonic()
            assert daemon.stop() == 0
            assert time.monotonic() - began < 10.0
            for guest in (idle, busy):
                out, err = guest.communicate(timeout=10)
                assert guest.returncode == 1
                assert "the worker leaves" in out
                assert re.fullmatch(r"rrqd: worker default/\d \(pid \d+\) has left\n", err)
            assert typist.wait(10) == 1
            assert typist.stderr is not None
            assert "has left" in typist.stderr.read()
        assert not list((daemon.state / "debug").iterdir())
        said = debug(daemon, "default/0")
        assert (said.code, said.out) == (1, "")
        assert said.err.startswith(f"rrqd: no rrqd runs with state_dir {daemon.state};")


@contextlib.contextmanager
def typing(daemon: Daemon, slot: str) -> Iterator[subprocess.Popen[str]]:
    """A guest at a terminal, in the middle of a line."""
    ours, theirs = pty.openpty()
    guest = subprocess.Popen(
        [*RRQD, "debug", slot, *of(daemon)], cwd=ROOT, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "dumb"}, start_new_session=True, text=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        shown = ""
        while ">>> " not in shown:
            shown += os.read(ours, 4096).decode()
        os.write(ours, b"half a li")
        yield guest
    finally:
        guest.kill()
        guest.communicate()
        os.close(ours)


def test_a_killed_workers_guest_is_told_and_its_successor_is_open_to_the_next(daemon: Daemon) -> None:
    pid = daemon.workers()["worker default/0 g1"]
    with attached(daemon, "default/0") as guest:
        second = debug(daemon, "default/0", lines="1\n")
        assert (second.code, second.out) == (1, "")
        assert "one at a time" in second.err
        mark = daemon.mark()
        os.kill(pid, signal.SIGKILL)
        _out, err = guest.communicate(timeout=10)
        assert (guest.returncode, err) == (1, f"rrqd: worker default/0 (pid {pid}) has left\n")
    daemon.expect_log("worker.ready", since=mark)
    assert socket_of(daemon, 0).exists()  # nobody was left to remove it
    said = debug(daemon, "default/0", lines="import os\nos.getpid()\n")
    assert (said.code, said.out) == (0, f"{daemon.workers()['worker default/0 g1']}\n")
    gone(daemon, 0)


def test_on_a_terminal_lines_are_prompted_for_and_ctrl_d_leaves(daemon: Daemon) -> None:
    ours, theirs = pty.openpty()
    guest = subprocess.Popen(
        [*RRQD, "debug", "0", *of(daemon)], cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "TERM": "dumb"}, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    shown = ""

    def see(text: str) -> None:
        nonlocal shown
        while text not in shown:
            shown += os.read(ours, 4096).decode(errors="replace")
        shown = shown.partition(text)[2]

    try:
        see("worker default/0 g1, pid")
        see("Ctrl-D leaves")
        see(">>> ")
        os.write(ours, b"for n in (6, 7):\n")
        see("... ")
        os.write(ours, b"    print('n is', n, '\\x1b[2J')\n\n")
        see("n is 6 \\x1b[2J")
        see(">>> ")
        os.write(ours, b"\x04")
        assert guest.wait(10) == 0
        gone(daemon, 0)
    finally:
        guest.kill()
        guest.wait()
        os.close(ours)


def test_without_a_slot_the_workers_are_listed_and_json_has_all_in_one_document(daemon: Daemon) -> None:
    pids = [daemon.workers()[f"worker default/{slot} g1"] for slot in (0, 1)]
    rows = [{"slot": f"default/{slot}", "generation": 1, "pid": pids[slot]} for slot in (0, 1)]
    assert json.loads(debug(daemon, "--json").out) == rows
    assert debug(daemon).out.split() == [
        "slot", "generation", "pid", "default/0", "1", str(pids[0]), "default/1", "1", str(pids[1])
    ]  # fmt: skip
    said = debug(daemon, "0", "--json", lines="1 + 1\n")
    assert json.loads(said.out) == {**rows[0], "output": "2\n"}


def test_what_cannot_be_looked_into_is_said_in_words(daemon: Daemon) -> None:
    nobody = whole()
    said = debug(nobody, "default/0")
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith(f"rrqd: no rrqd runs with state_dir {nobody.state};")
    shutil.rmtree(nobody.folder)
    said = debug(daemon, "default/7")
    assert (said.code, said.out) == (1, "")
    assert said.err == "rrqd: there is no worker default/7; there are: default/0 g1, default/1 g1\n"
    said = debug(daemon, "default")
    assert said.code == 2
    assert said.err.startswith("rrqd debug console: SLOT: must be like default/0, not 'default'")
    pid = daemon.workers()["worker default/1 g1"]
    os.kill(pid, signal.SIGSTOP)
    said = debug(daemon, "1")
    os.kill(pid, signal.SIGCONT)
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith(f"rrqd: worker default/1 (pid {pid}) has not answered within 5 s")
    assert f"kill -USR1 {pid}" in said.err
