"""What workers may do, seen from outside: in /proc, and by what their jobs can and can't."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rrqd.supervisor import landlock
from tests.support.app import App, app
from tests.support.daemon import Daemon, alive
from tests.support.wait import until

JOBS = '''
import asyncio, os, subprocess, tempfile
from pathlib import Path
from rrqd.registry import Registry

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


@registry.handler("start_a_program")
async def start_a_program(request):
    program = subprocess.Popen(["sleep", "600"])
    Path(request.params["note"]).write_text(str(program.pid))
    await asyncio.sleep(600)
'''


def confined(processes: int = 1, **settings: Any) -> Daemon:
    """The whole rrqd, its only pool with these settings."""
    pool = {"processes": processes, **settings}
    return Daemon(pools={"default": pool}, stand_ins=False, jobs=JOBS, rrq={"base_retry_delay_seconds": 0.05})


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """A daemon under Landlock that may write in one folder of its own choice."""
    daemon = confined(landlock=True, writable=["out"], concurrency=4)
    for name in ("out", "other"):
        (daemon.folder / name).mkdir()
    with daemon:
        yield daemon


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


async def answer(a: App, function: str, **params: Any) -> Any:
    end = await a.end(await a.client.enqueue(function, {"params": params}))
    assert end.status == "COMPLETED", end.last_error
    return end.result


def test_workers_are_held_to_what_their_pool_says_and_nobody_else_is() -> None:
    settings = {
        "nice": 3, "umask": "027", "oom_score_adj": 500, "cpus": "spread", "no_new_privs": True,
        "limits": {"nofile": 300, "core": 0, "stack": "unlimited"},
    }  # fmt: skip
    with confined(2, **settings) as daemon:
        daemon.expect_log("rrqd.ready")
        usable = sorted(os.sched_getaffinity(daemon.pid))
        for slot in (0, 1):
            pid = daemon.workers()[f"worker default/{slot} g1"]
            seen = status(pid)
            assert niceness(pid) == niceness(daemon.pid) + 3
            assert (seen["Umask"], seen["NoNewPrivs"]) == ("0027", "1")
            assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "500\n"
            assert seen["Cpus_allowed_list"] == str(usable[slot % len(usable)])
            assert limit(pid, "Max open files") == ("300", "300")
            assert limit(pid, "Max core file size") == ("0", "0")
            assert limit(pid, "Max stack size") == ("unlimited", "unlimited")
        for name in ("steward", "mold default g1"):
            other = daemon.children()[name]
            assert niceness(other) == niceness(daemon.pid)
            assert status(other)["NoNewPrivs"] == status(daemon.pid)["NoNewPrivs"]
        assert daemon.stop() == 0


def test_without_settings_workers_are_the_first_that_the_kernel_kills_and_else_like_the_daemon() -> None:
    with confined() as daemon:
        daemon.expect_log("rrqd.ready")
        (pid,) = daemon.workers().values()
        inherited = int(Path(f"/proc/{daemon.pid}/oom_score_adj").read_text())
        assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) == max(300, inherited)
        assert niceness(pid) == niceness(daemon.pid)
        for one in ("Umask", "NoNewPrivs", "Cpus_allowed_list"):
            assert status(pid)[one] == status(daemon.pid)[one]
        assert daemon.stop() == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"cpus": "4095"}, "there is no processor 4095"),
        ({"limits": {"nofile": 5}}, "limits.nofile = 5: a worker itself needs"),
        ({"landlock": True, "writable": ["missing"]}, "missing: No such file"),
    ],
)
def test_what_can_not_be_had_ends_the_start_with_78_and_one_line(settings: dict[str, Any], words: str) -> None:
    with confined(**settings) as daemon:
        assert daemon.wait() == 78
        failed = [one for one in daemon.log() if one["event"] == "start.failed"]
        assert len(failed) == 1
        assert failed[0]["error"].startswith("[rrqd.pools.default] ")
        assert words in failed[0]["error"]
        assert daemon.count_log("raw") == 0
        assert not any("Traceback" in str(one) for one in daemon.log())


def has_landlock() -> bool:
    try:
        return landlock.abi() > 0
    except OSError:
        return False


needs_landlock = pytest.mark.skipif(not has_landlock(), reason="this kernel has no Landlock")


@needs_landlock
@pytest.mark.parametrize("function", ["write", "write_async"])
async def test_under_landlock_a_job_writes_where_it_may_and_nowhere_else(daemon: Daemon, function: str) -> None:
    out, other = daemon.folder / "out", daemon.folder / "other"
    async with app(daemon) as a:
        for _ in range(3):
            tried = await answer(a, function, paths=[str(out), str(other), str(daemon.state), "/var/tmp"])
            assert tried == {
                str(out): "yes", str(other): "PermissionError", str(daemon.state): "PermissionError",
                "/var/tmp": "PermissionError", "sandbox": "yes", "temporary": "yes", "program": "0",
            }  # fmt: skip
        assert list(other.iterdir()) == []
        home = next((daemon.state / "sandboxes").iterdir())
        until(lambda: sorted(one.name for one in home.iterdir()) == ["tmp", "trash"], 5, "the sandboxes to go")
        assert list((home / "trash").iterdir()) == []
    assert daemon.stop() == 0
    assert list((daemon.state / "sandboxes").iterdir()) == []


@needs_landlock
async def test_under_landlock_a_killed_worker_leaves_nothing_and_its_successor_works(daemon: Daemon) -> None:
    async with app(daemon) as a:
        await answer(a, "write", paths=[])
        (home,) = (daemon.state / "sandboxes").iterdir()
        os.kill(daemon.workers()["worker default/0 g1"], signal.SIGKILL)
        until(lambda: not home.exists(), 5, "the folder of the dead worker to go")
        assert (await answer(a, "write", paths=[]))["sandbox"] == "yes"
    assert daemon.stop() == 0


@needs_landlock
async def test_alone_in_its_process_a_job_has_its_sandbox_for_tmpdir_under_landlock_too() -> None:
    with confined(landlock=True, isolation="process", concurrency=1) as daemon:
        async with app(daemon) as a:
            seen = await answer(a, "where")
            assert set(seen.values()) == {seen["sandbox"]}
        assert daemon.stop() == 0


async def test_alone_in_its_process_a_job_runs_in_its_sandbox() -> None:
    with confined(isolation="process", concurrency=1) as daemon:
        async with app(daemon) as a:
            sandboxes = set()
            for function in ("where", "where_plain", "where", "where_plain"):
                seen = await answer(a, function)
                assert set(seen.values()) == {seen["sandbox"]}
                sandboxes.add(seen["sandbox"])
            assert len(sandboxes) == 4
            failed = await a.end(await a.client.enqueue("fail", {"max_retries": 1}))
            assert str(daemon.state / "sandboxes") in (failed.last_error or "")
            (pid,) = daemon.workers().values()
            cwd = os.readlink(f"/proc/{daemon.pid}/cwd")
            until(lambda: os.readlink(f"/proc/{pid}/cwd") == cwd, 5, "the worker to be back where it was")
            until(lambda: not any(Path(one).exists() for one in sandboxes), 5, "the sandboxes to be removed")
        assert daemon.stop() == 0


@pytest.mark.parametrize("isolation", ["async", "process"])
async def test_programs_that_a_job_has_started_die_with_its_worker(isolation: str) -> None:
    with confined(isolation=isolation, concurrency=1) as daemon:
        note = daemon.folder / "note"
        async with app(daemon) as a:
            await a.client.enqueue("start_a_program", {"params": {"note": str(note)}})
            program = int(until(lambda: note.exists() and note.read_text(), 10, "the job to run"))
            assert alive(program)
            os.kill(daemon.workers()["worker default/0 g1"], signal.SIGKILL)
            until(lambda: not alive(program), 5, "the program to end")
        assert daemon.stop(signal.SIGQUIT) == 0


def test_what_an_earlier_rrqd_left_is_removed_at_the_start_and_links_are_not_followed() -> None:
    daemon = confined()
    precious = daemon.folder / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine")
    left = daemon.state / "sandboxes" / "rrqd_gone-abcdef_default.0_123456" / "17"
    left.mkdir(parents=True)
    (left / "link").symlink_to(precious)
    (left.parent / "trash").symlink_to(precious)
    with daemon:
        daemon.expect_log("rrqd.ready")
        until(lambda: not left.parent.exists(), 5, "the leftovers to go")
        assert (precious / "file").read_text() == "mine"
        assert daemon.stop() == 0
