"""A start that fails says why in one line; one that works works everywhere."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
from pathlib import Path

import pytest

from tests.support.daemon import NO_JOBS, Daemon, alive
from tests.support.wait import until


def test_handlers_that_do_not_import_end_the_daemon_with_78_and_the_reason() -> None:
    with Daemon(jobs="import nothing_of_that_name\n") as daemon:
        assert daemon.wait() == 78
        assert "nothing_of_that_name" in daemon.expect_log("start.failed")["error"]


def test_a_worker_may_say_that_its_configuration_can_not_work() -> None:
    with Daemon() as daemon:
        daemon.state.mkdir(exist_ok=True)
        (daemon.state / "fail").touch()
        assert daemon.wait() == 78
        assert daemon.expect_log("start.failed")["error"] == "the folder says fail"


def test_five_failed_boots_before_ever_being_ready_end_the_daemon() -> None:
    with Daemon(pools={"default": {"processes": 1}}) as daemon:
        daemon.state.mkdir(exist_ok=True)
        (daemon.state / "crash").touch()
        assert daemon.wait() == 1
        assert daemon.count_log("worker.died", reason="boot-error 3") == 5


def test_boots_that_fail_after_it_was_good_are_repeated_with_pauses() -> None:
    with Daemon(pools={"default": {"processes": 1}}) as daemon:
        daemon.expect_log("rrqd.ready")
        (daemon.state / "crash").touch()
        daemon.order("exit", code=9)
        until(lambda: daemon.count_log("worker.died", reason="boot-error 3") >= 5, 15, "five failed boots")
        (daemon.state / "crash").unlink()
        until(lambda: daemon.count_log("worker.ready") == 2, 15, "a good boot")
        assert daemon.stop() == 0


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import threading as t\nt.Thread(target=t.Event().wait, daemon=True).start()\n", "jobs leaves a thread"),
        ("import asyncio\nloop = asyncio.new_event_loop()\n", "jobs creates an event loop"),
    ],
)  # fmt: skip
def test_an_import_that_would_not_survive_a_fork_is_refused_and_named(code: str, words: str) -> None:
    with Daemon(jobs=code + NO_JOBS) as daemon:
        assert daemon.wait() == 78
        assert f"importing {words}" in daemon.expect_log("start.failed")["error"]


def _address(taken: socket.socket) -> str:
    return f"127.0.0.1:{taken.getsockname()[1]}"


def test_an_http_address_in_use_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, Daemon(http=_address(taken)) as daemon:
        assert daemon.wait() == 1
        assert re.search("rrqd.http = .* in use", daemon.expect_log("start.failed")["error"])
        assert [one["event"] for one in daemon.log()] == ["start.failed"]


def test_an_embedded_address_in_use_is_one_clear_line() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        Daemon(embedded="always", embedded_address=_address(taken)) as daemon,
    ):
        assert daemon.wait() == 1
        assert f"{_address(taken)} is in use" in daemon.expect_log("start.failed")["error"]


def test_a_binary_that_is_not_there_is_named() -> None:
    with Daemon(embedded="always", embedded_binary="/no/such/server") as daemon:
        assert daemon.wait() == 1
        assert "/no/such/server" in daemon.expect_log("start.failed")["error"]


def _ask(daemon: Daemon, words: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", daemon.port), 5) as connection:
        connection.sendall(words + b"\r\n")
        return connection.recv(4096)


def test_the_embedded_server_is_up_first_down_last_comes_back_when_killed_and_keeps_its_data() -> None:
    with Daemon(embedded="always") as daemon:
        daemon.expect_log("rrqd.ready")
        assert _ask(daemon, b"SET kept 1").startswith(b"+OK")
        mode = (daemon.state / "valkey.conf").stat().st_mode & 0o777
        assert mode == 0o600
        workers = daemon.workers()
        title = next(one for one in daemon.children() if one.startswith("valkey"))
        mark = daemon.mark()
        os.kill(daemon.children()[title], signal.SIGKILL)
        daemon.expect_log("valkey.ready", since=mark)
        assert daemon.workers() == workers
        assert daemon.stop() == 0
        left = [one["event"] for one in daemon.log() if one["event"].endswith((".left", ".died"))]
        assert left[-1] == "valkey.left"

        mark = daemon.mark()
        daemon.start()
        daemon.expect_log("rrqd.ready", since=mark)
        assert _ask(daemon, b"GET kept") == b"$1\r\n1\r\n"
        # It leaves last also when the master is killed.
        pids = daemon.children().values()
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        until(lambda: not any(alive(pid) for pid in pids), 10, "everybody to be gone")


def test_a_server_left_behind_by_a_massacre_is_ended_and_its_data_taken_over() -> None:
    with Daemon(embedded="always") as daemon:
        daemon.expect_log("rrqd.ready")
        assert _ask(daemon, b"SET kept 1").startswith(b"+OK")
        children = daemon.children()
        daemon.signal(signal.SIGSTOP)
        for title, pid in children.items():
            if not title.startswith("valkey"):
                os.kill(pid, signal.SIGKILL)
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        mark = daemon.mark()
        daemon.start()
        daemon.expect_log("valkey.orphan", since=mark)
        daemon.expect_log("rrqd.ready", since=mark)
        assert _ask(daemon, b"GET kept") == b"$1\r\n1\r\n"
        assert daemon.stop() == 0


def test_a_state_folder_with_a_long_name_works() -> None:
    folder = Path("/tmp") / f"rrqd-test-{'long-' * 22}"
    folder.mkdir(exist_ok=True)
    with Daemon(folder=folder, embedded="always") as daemon:
        daemon.expect_log("rrqd.ready")
        assert daemon.stop() == 0
    shutil.rmtree(folder, ignore_errors=True)


def test_without_a_pool_it_warns_that_no_job_runs_here() -> None:
    with Daemon(pools={}) as daemon:
        assert "[rrqd.pools.<name>]" in daemon.expect_log("start.no_pools", level="warning")["what_to_do"]
        daemon.expect_log("rrqd.ready", pools={})
        assert daemon.stop() == 0
