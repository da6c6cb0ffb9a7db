"""What workers may do, seen from outside: in /proc, and by what their jobs can and can't."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from rrqd.supervisor import landlock
from tests.support.app import App, app
from tests.support.daemon import Daemon, alive
from tests.support.wait import until

JOBS = '''
import asyncio, os, subprocess, tempfile
from pathlib import Path
from rrqd.registry import Registry
from rrqd.runner_settings import PythonRunnerSettings

registry = Registry()


def can(do):
    try:
        do()
    except OSError as error:
        return type(error).__name__
    return "yes"


@registry.handler("write")
def write(request):
    """Try to write at each of the paths, and in the places that every job has."""
    tried = {path: can(lambda: Path(path, "x").write_text("x")) for path in request.params["paths"]}
    tried["sandbox"] = can(lambda: (request.sandbox / "x").write_text("x"))
    tried["temporary"] = can(lambda: tempfile.NamedTemporaryFile().close())
    tried["program"] = str(subprocess.run(["sh", "-c", 'echo x > "$TMPDIR/y"']).returncode)
    return tried


@registry.handler("write_async")
async def write_async(request):
    return write(request)


def where(request):
    Path("left behind").write_text("x")
    child = subprocess.run(["sh", "-c", "pwd; echo $TMPDIR"], capture_output=True, text=True).stdout.split()
    return {
        "sandbox": str(request.sandbox), "cwd": os.getcwd(), "TMPDIR": os.environ["TMPDIR"],
        "tempfile": os.path.dirname(tempfile.mkstemp()[1]), "child cwd": child[0], "child TMPDIR": child[1],
    }


@registry.handler("where")
async def where_async(request):
    return where(request)


@registry.handler("where_plain")
def where_plain(request):
    return where(request)


@registry.handler("fail")
def fail(request):
    raise ValueError(os.getcwd())


@registry.handler("leave_programs")
def leave_programs(request):
    """One of its own, one that has gone away from it, and one whose parent has ended."""
    ways = (["sleep", "600"], ["setsid", "sleep", "600"], ["sh", "-c", "sleep 600 & exit"])
    note = Path(request.params["note"])
    for way in ways:
        with note.open("a") as told:
            program = subprocess.Popen(way)
            told.write(f"{program.pid} ")
    os.waitpid(program.pid, 0)
    return os.getpid()


with_helper = PythonRunnerSettings(registry=registry, on_startup=lambda: subprocess.Popen(["sleep", "601"]))


@registry.handler("start_a_program")
async def start_a_program(request):
    program = subprocess.Popen(["sleep", "600"])
    Path(request.params["note"]).write_text(str(program.pid))
    await asyncio.sleep(600)
'''


HELD = {
    "nice": 3, "umask": "027", "oom_score_adj": 500, "cpus": "spread", "no_new_privs": True,
    "limits": {"nofile": 300, "core": 0, "stack": "unlimited"},
}  # fmt: skip
ALONE = {"isolation": "process", "concurrency": 1}
POOLS: dict[str, dict[str, Any]] = {
    "held": {"processes": 2, **HELD},
    "plain": {},
    "alone": {"handlers": "jobs:with_helper", **ALONE},
}


def has_landlock() -> bool:
    try:
        return landlock.abi() > 0
    except OSError:
        return False


needs_landlock = pytest.mark.skipif(not has_landlock(), reason="this kernel has no Landlock")
if has_landlock():
    POOLS["locked"] = {"landlock": True, "writable": ["out"], "concurrency": 4}
    POOLS["locked-alone"] = {"landlock": True, **ALONE}


def confined(pools: dict[str, dict[str, Any]]) -> Daemon:
    """The whole rrqd with these pools, each of one process that serves the queue of its name."""
    tables = {name: {"processes": 1, "queues": [name], **pool} for name, pool in pools.items()}
    return Daemon(pools=tables, stand_ins=False, jobs=JOBS, rrq={"base_retry_delay_seconds": 0.05})


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """One with a pool for each kind of confinement, in a folder where an earlier one has left something."""
    daemon = confined(POOLS)
    for name in ("out", "other", "precious"):
        (daemon.folder / name).mkdir()
    (daemon.folder / "precious" / "file").write_text("mine")
    left = daemon.state / LEFT / "17"
    left.mkdir(parents=True)
    (left / "link").symlink_to(daemon.folder / "precious")
    (left.parent / "trash").symlink_to(daemon.folder / "precious")
    with daemon:
        daemon.expect_log("rrqd.ready")
        yield daemon
        assert daemon.stop() == 0
        assert list((daemon.state / "sandboxes").iterdir()) == []


LEFT = "sandboxes/rrqd_gone-abcdef_default.0_123456"


@pytest.fixture
async def a(daemon: Daemon) -> AsyncIterator[App]:
    async with app(daemon) as found:
        yield found


def home_of(daemon: Daemon, pool: str) -> Path:
    """The folder of the pool's only worker, in which its jobs have their sandboxes."""
    [home] = (daemon.state / "sandboxes").glob(f"*_{pool}.0_*")
    return home


def test_what_an_earlier_rrqd_left_is_removed_at_the_start_and_links_are_not_followed(daemon: Daemon) -> None:
    until(lambda: not (daemon.state / LEFT).exists(), 5, "the leftovers to go")
    assert (daemon.folder / "precious" / "file").read_text() == "mine"


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def limit(pid: int, name: str) -> tuple[str, str]:
    """Soft and hard."""
    for line in Path(f"/proc/{pid}/limits").read_text().splitlines():
        if line.startswith(name):
            return tuple(line[len(name) :].split()[:2])  # type: ignore[return-value]
    raise LookupError(name)


def niceness(pid: int) -> int:
    text = Path(f"/proc/{pid}/stat").read_text()
    return int(text[text.rindex(")") + 2 :].split()[16])


async def answer(a: App, pool: str, function: str, **params: Any) -> Any:
    end = await a.end(await a.client.enqueue(function, {"params": params, "queue_name": pool}))
    assert end.status == "COMPLETED", end.last_error
    return end.result


def test_workers_are_held_to_what_their_pool_says_and_nobody_else_is(daemon: Daemon) -> None:
    usable = sorted(os.sched_getaffinity(daemon.pid))
    for slot in (0, 1):
        pid = daemon.workers()[f"worker held/{slot} g1"]
        seen = status(pid)
        assert niceness(pid) == niceness(daemon.pid) + 3
        assert (seen["Umask"], seen["NoNewPrivs"]) == ("0027", "1")
        assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "500\n"
        assert seen["Cpus_allowed_list"] == str(usable[slot % len(usable)])
        assert limit(pid, "Max open files") == ("300", "300")
        assert limit(pid, "Max core file size") == ("0", "0")
        assert limit(pid, "Max stack size") == ("unlimited", "unlimited")
    for name, other in daemon.children().items():
        if name == "steward" or name.startswith("mold "):
            assert niceness(other) == niceness(daemon.pid)
            assert status(other)["NoNewPrivs"] == status(daemon.pid)["NoNewPrivs"]


def test_without_settings_workers_are_the_first_that_the_kernel_kills_and_else_like_the_daemon(daemon: Daemon) -> None:
    pid = daemon.workers()["worker plain/0 g1"]
    inherited = int(Path(f"/proc/{daemon.pid}/oom_score_adj").read_text())
    assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) == max(300, inherited)
    assert niceness(pid) == niceness(daemon.pid)
    for one in ("Umask", "NoNewPrivs", "Cpus_allowed_list"):
        assert status(pid)[one] == status(daemon.pid)[one]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"cpus": "4095"}, "there is no processor 4095"),
        ({"limits": {"nofile": 5}}, "limits.nofile = 5: a worker itself needs"),
        ({"landlock": True, "writable": ["missing"]}, "missing: No such file"),
    ],
)
def test_what_can_not_be_had_ends_the_start_with_78_and_one_line(settings: dict[str, Any], words: str) -> None:
    with confined({"default": settings}) as daemon:
        assert daemon.wait() == 78
        failed = [one for one in daemon.log() if one["event"] == "start.failed"]
        assert len(failed) == 1
        assert failed[0]["error"].startswith("[rrqd.pools.default] ")
        assert words in failed[0]["error"]
        assert daemon.count_log("raw") == 0
        assert not any("Traceback" in str(one) for one in daemon.log())


@needs_landlock
@pytest.mark.parametrize("function", ["write", "write_async"])
async def test_under_landlock_a_job_writes_where_it_may_and_nowhere_else(a: App, function: str) -> None:
    daemon = a.daemon
    out, other = daemon.folder / "out", daemon.folder / "other"
    for _ in range(3):
        tried = await answer(a, "locked", function, paths=[str(out), str(other), str(daemon.state), "/var/tmp"])
        assert tried == {
            str(out): "yes", str(other): "PermissionError", str(daemon.state): "PermissionError",
            "/var/tmp": "PermissionError", "sandbox": "yes", "temporary": "yes", "program": "0",
        }  # fmt: skip
    assert list(other.iterdir()) == []
    home = home_of(daemon, "locked")
    until(lambda: sorted(one.name for one in home.iterdir()) == ["tmp", "trash"], 5, "the sandboxes to go")
    assert list((home / "trash").iterdir()) == []


@needs_landlock
async def test_under_landlock_a_killed_worker_leaves_nothing_and_its_successor_works(a: App) -> None:
    await answer(a, "locked", "write", paths=[])
    home = home_of(a.daemon, "locked")
    os.kill(a.daemon.workers()["worker locked/0 g1"], signal.SIGKILL)
    until(lambda: not home.exists(), 5, "the folder of the dead worker to go")
    assert (await answer(a, "locked", "write", paths=[]))["sandbox"] == "yes"


@needs_landlock
async def test_alone_in_its_process_a_job_has_its_sandbox_for_tmpdir_under_landlock_too(a: App) -> None:
    seen = await answer(a, "locked-alone", "where")
    assert set(seen.values()) == {seen["sandbox"]}


async def test_alone_in_its_process_a_job_runs_in_its_sandbox(a: App) -> None:
    daemon, sandboxes = a.daemon, set()
    for function in ("where", "where_plain", "where", "where_plain"):
        seen = await answer(a, "alone", function)
        assert set(seen.values()) == {seen["sandbox"]}
        sandboxes.add(seen["sandbox"])
    assert len(sandboxes) == 4
    failed = await a.end(await a.client.enqueue("fail", {"max_retries": 1, "queue_name": "alone"}))
    assert str(daemon.state / "sandboxes") in (failed.last_error or "")
    pid = daemon.workers()["worker alone/0 g1"]
    cwd = os.readlink(f"/proc/{daemon.pid}/cwd")
    until(lambda: os.readlink(f"/proc/{pid}/cwd") == cwd, 5, "the worker to be back where it was")
    until(lambda: not any(Path(one).exists() for one in sandboxes), 5, "the sandboxes to be removed")


@pytest.mark.parametrize("pool", ["plain", "alone"])
async def test_programs_that_a_job_has_started_die_with_its_worker(pool: str, a: App) -> None:
    note = a.daemon.folder / f"note-{pool}"
    options = {"params": {"note": str(note)}, "queue_name": pool}
    job_id = await a.client.enqueue("start_a_program", options)
    program = int(until(lambda: note.exists() and note.read_text(), 10, "the job to run"))
    assert alive(program)
    os.kill(a.daemon.workers()[f"worker {pool}/0 g1"], signal.SIGKILL)
    until(lambda: not alive(program), 5, "the program to end")
    await a.client.cancel(job_id)  # it runs again, or is about to
    assert (await a.end(job_id)).status == "CANCELLED"


async def test_alone_in_its_process_what_a_job_has_started_ends_with_the_job(a: App) -> None:
    """And what serves all jobs of the worker stays."""
    note = a.daemon.folder / "left"
    options = {"params": {"note": str(note)}, "queue_name": "alone"}
    await answer(a, "alone", "where")  # an earlier worker may just have been killed
    worker = a.daemon.workers()["worker alone/0 g1"]
    [helper] = living(worker)
    for _again in range(2):
        end = await a.end(await a.client.enqueue("leave_programs", options))
        assert end.result == worker
        assert living(worker) == [helper]
        assert "sleep" not in [one.name() for one in psutil.Process(a.daemon.pid).children()]
    # The dead that nobody has waited for are collected with the next job.
    await answer(a, "alone", "where")
    assert [one.pid for one in psutil.Process(worker).children()] == [helper]


def living(pid: int) -> list[int]:
    """The living processes below one."""
    found = psutil.Process(pid).children(recursive=True)
    return [one.pid for one in found if one.status() != psutil.STATUS_ZOMBIE]
