"""The debugger's socket: who may come, how many, and that it is gone afterwards. And what there is to see."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from rrqd import stacks
from rrqd.local_socket import peer_of, reachable
from rrqd.runner import ExecutionContext, ExecutionRequest
from rrqd.runtime.console import TURN
from rrqd.runtime.debugger import Debugger, socket_path
from rrqd.runtime.insight import Insight
from rrqd.runtime.worker import Worker
from tests.support.wait import until


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder deeper than the kernel's names for sockets are long."""
    folder = tmp_path / ("deep" * 30)
    folder.mkdir()
    return folder


@contextmanager
def debugger(state: Path, names: dict[str, Any] | None = None) -> Iterator[Debugger]:
    one = Debugger([socket_path(state, "default", 0)], lambda: names or {}, lambda: "hello\n")
    before = signal.getsignal(signal.SIGUSR2)
    one.install()
    try:
        yield one
    finally:
        one.close()
        signal.signal(signal.SIGUSR2, before)
        until(lambda: not any(thread.name == "rrqd-debugger" for thread in threading.enumerate()), 10, "its thread")


def connected(path: Path) -> socket.socket:
    link = socket.socket(socket.AF_UNIX)
    link.settimeout(10)
    with reachable(path) as address:
        link.connect(address)
    return link


def asked(one: Debugger) -> socket.socket:
    """Ask with the signal, and enter."""
    os.kill(os.getpid(), signal.SIGUSR2)

    def enter() -> socket.socket | None:
        try:
            return connected(one.path)
        except (FileNotFoundError, ConnectionRefusedError):
            return None

    link = until(enter, 10, "the socket")
    assert link is not None
    return link


def heard(link: socket.socket, word: str) -> str:
    said = ""
    while word not in said:
        data = link.recv(4096)
        assert data, said
        said += data.decode()
    return said


def gone(path: Path) -> None:
    until(lambda: not path.exists(), 10, "the socket to be removed")


def test_the_signal_opens_a_socket_for_its_user_alone_and_leaving_removes_it(state: Path) -> None:
    with debugger(state) as one:
        for _ in range(2):
            with asked(one) as link:
                assert stat.S_IMODE(one.path.stat().st_mode) == 0o600
                assert stat.S_IMODE(one.path.parent.stat().st_mode) == 0o700
                assert peer_of(link) == (os.getpid(), os.geteuid())
                assert heard(link, f"{TURN}>>> ").startswith("hello\n")
            gone(one.path)


def test_what_a_killed_worker_left_there_is_replaced(state: Path) -> None:
    path = socket_path(state, "default", 0)
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead, reachable(path) as address:
        dead.bind(address)
    assert path.exists()
    with debugger(state) as one, asked(one) as link:
        heard(link, "hello")


def test_a_second_guest_is_told_that_there_is_one(state: Path) -> None:
    with debugger(state) as one, asked(one) as link:
        heard(link, "hello")
        with connected(one.path) as second:
            heard(second, "one at a time")
            assert second.recv(1) == b""
        link.sendall(b"1 + 1\n")
        heard(link, "2\n")


def test_what_computes_for_ever_is_ended_when_its_guest_is_gone(state: Path) -> None:
    began = threading.Event()
    with debugger(state, {"began": began}) as one:
        with asked(one) as link:
            link.sendall(b"began.set()\nwhile True: pass\n\n")
            assert began.wait(10)
            runs = next(thread for thread in threading.enumerate() if thread.name == "rrqd-console")
        until(lambda: not runs.is_alive(), 10, "the console to end")
        gone(one.path)
        with asked(one) as link:
            heard(link, "hello")


def test_a_worker_that_leaves_says_so_and_takes_only_its_own_socket_along(state: Path) -> None:
    with debugger(state) as one, asked(one) as link:
        heard(link, TURN)
        one.path.unlink()
        one.path.touch()  # the next worker of this slot has opened its own
        one.close()
        heard(link, "the worker leaves")
        end = select.poll()
        end.register(link, 0)
        assert end.poll(10_000)
        assert one.path.exists()


def test_a_short_path_is_used_as_it_is(tmp_path: Path) -> None:
    with reachable(Path("/run/rrqd/debug/default.0.sock")) as address:
        assert address == "/run/rrqd/debug/default.0.sock"
    with reachable(socket_path(tmp_path, "x" * 90, 0).parent.parent / "y") as address:
        assert len(address) <= 108


# -- what there is to see ----------------------------------------------------------------------------------


class Running:
    """A worker as far as the debugger asks it: what it runs."""

    def __init__(self, *ids: str, left: float | None = 55.0) -> None:
        self.ids = ids
        self.left = left

    def running(self) -> list[dict[str, Any]]:
        one = {"function": "resize", "queue": "default", "attempt": 2, "running_seconds": 5.04}
        return [{"job_id": job_id, "seconds_left": self.left, **one} for job_id in self.ids]


def insight(*ids: str, left: float | None = 55.0) -> Insight:
    return Insight(cast(Worker, Running(*ids, left=left)), asyncio.get_running_loop(), "default/0 g1")


async def test_jobs_show_their_age_and_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    insight("job-1").jobs()
    insight("job-2", left=None).jobs()
    lines = [line.split(maxsplit=4) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["id", "function", "attempt", "seconds", "left"]
    assert lines[1] == ["job-1", "resize", "2", "5.0", "55.0"]
    assert lines[3] == ["job-2", "resize", "2", "5.0", "waits for a thread"]


async def test_the_greeting_says_who_what_and_which_names() -> None:
    one = insight("a", "b")
    greeting = one.banner()
    assert "worker default/0 g1, pid" in greeting
    assert "2 jobs run" in greeting
    assert "1 job runs" in insight("a").banner()
    for name in set(one.names()) - {"exit", "quit"}:
        assert name in greeting


async def waits(secret: str, gate: asyncio.Event) -> None:
    await gate.wait()


async def test_the_frames_of_a_waiting_task_have_its_variables(capsys: pytest.CaptureFixture[str]) -> None:
    gate = asyncio.Event()
    task = asyncio.create_task(waits("s3", gate), name=stacks.JOB_PREFIX + "abc-1")
    await asyncio.sleep(0)
    one = insight("abc-1", "xyz-2")
    frames = one.frames("abc")
    assert [frame.f_code.co_name for frame in frames[:2]] == ["waits", "wait"]
    assert frames[0].f_locals["secret"] == "s3"
    one.where("abc-1")
    assert "await gate.wait()" in capsys.readouterr().out
    gate.set()
    await task


async def test_the_frames_of_a_task_that_blocks_the_loop_go_on_to_where_it_blocks() -> None:
    there, found, gate = threading.Event(), [], threading.Event()
    one = insight("abc")

    def block() -> None:
        there.set()
        gate.wait(10)

    async def blocks() -> None:
        block()

    def look() -> None:
        there.wait(10)
        found.extend(frame.f_code.co_name for frame in one.frames("abc"))
        gate.set()

    thread = threading.Thread(target=look)
    thread.start()
    await asyncio.create_task(blocks(), name=stacks.JOB_PREFIX + "abc")
    thread.join()
    assert found[:2] == ["blocks", "block"]


async def test_the_frames_of_a_plain_handler_begin_where_it_got_its_request() -> None:
    there, gate = threading.Event(), threading.Event()
    context = ExecutionContext(job_id="abc", attempt=1, enqueue_time=cast(Any, None), queue_name="q")
    request = ExecutionRequest(request_id="r", job_id="abc", function_name="f", context=context)

    def handler(request: ExecutionRequest) -> None:
        there.set()
        gate.wait(10)

    thread = threading.Thread(target=lambda: (lambda: handler(request))())
    thread.start()
    there.wait(10)
    names = [frame.f_code.co_name for frame in insight("abc").frames("abc")]
    gate.set()
    thread.join()
    assert "handler" in names[:3]


async def test_a_job_that_does_not_run_or_is_not_clear_is_an_error() -> None:
    with pytest.raises(LookupError, match="no running jobs"):
        insight("abc-1").frames("z")
    with pytest.raises(LookupError, match="2 running jobs"):
        insight("abc-1", "abc-2").frames("abc")


async def test_call_and_await_run_on_the_loop_and_bring_back_what_came_of_it() -> None:
    one = insight()

    async def where() -> int:
        return threading.get_ident()

    def fails() -> None:
        raise SystemExit(3)

    assert await asyncio.to_thread(one.call, threading.get_ident) == threading.get_ident()
    assert await asyncio.to_thread(one.call, max, 1, 2) == 2
    assert await asyncio.to_thread(one.await_, where()) == threading.get_ident()
    with pytest.raises(SystemExit):
        await asyncio.to_thread(one.call, fails)


async def test_what_is_not_done_in_time_is_given_up() -> None:
    one, ended = insight(), asyncio.Event()

    async def never() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(TimeoutError, match="not done within"):
        await asyncio.to_thread(lambda: one.await_(never(), seconds=0.05))
    await asyncio.wait_for(ended.wait(), 10)
