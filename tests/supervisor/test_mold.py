"""The mold: what is done once before the fork, what its workers have of it, and what it refuses."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from typing import Any

import pytest

from rrqd.job import JobStatus
from tests.support.app import App, app
from tests.support.daemon import NO_JOBS, Daemon

WARMUP = {"default": {"processes": 2, "warmup": ["jobs:warm"]}}
NOTED = """
import os
from pathlib import Path

def warm():
    with open(Path(__file__).with_name("warmed"), "a") as file:
        file.write(f"{os.getpid()}\\n")
"""
ASKED = """
import gc, os, random, sys, threading
from pathlib import Path
from rrqd.registry import Registry

registry = Registry()
pause = threading.Event()
random.random()

def warm():
    if "numpy" in os.environ.get("LIBRARIES", ""):
        import numpy.random
        numpy.ones((300, 300)) @ numpy.ones((300, 300))
        numpy.random.random()

@registry.handler("ask")
def ask(request):
    # Two processes answer: the first waits for the second.
    folder = Path(__file__).parent
    (folder / f"met-{os.getpid()}").touch()
    while len(list(folder.glob("met-*"))) < 2:
        pause.wait(0.002)
    numpy = sys.modules.get("numpy")
    return {
        "pid": os.getpid(),
        "frozen": gc.get_freeze_count(),
        "collects": gc.isenabled(),
        "random": random.random(),
        "numpy": numpy.random.random() if numpy else None,
    }
"""


def test_a_warmup_runs_once_in_the_mold_and_not_in_its_workers() -> None:
    with Daemon(pools=WARMUP, jobs=NO_JOBS + NOTED) as daemon:
        daemon.expect_log("rrqd.ready")
        warmed = [int(line) for line in (daemon.folder / "warmed").read_text().split()]
        assert warmed == [daemon.children()["mold default g1"]]
        assert daemon.stop() == 0


def test_a_warmup_that_raises_ends_the_daemon_with_78_and_one_line() -> None:
    code = "\ndef warm():\n    raise LookupError('no model here')\n"
    with Daemon(pools=WARMUP, jobs=NO_JOBS + code) as daemon:
        assert daemon.wait() == 78
        error = daemon.expect_log("start.failed")["error"]
        place = f"{daemon.folder}/jobs.py:6"
        assert f'warmup = "jobs:warm": warm raised LookupError: no model here ({place})' in error
        assert "\n" not in error
        assert daemon.count_log("start.failed") == 1


def test_a_thread_that_a_warmup_leaves_is_refused_and_named() -> None:
    thread = "Thread(target=threading.Event().wait, name='poller', daemon=True)"
    code = f"\nimport threading\ndef warm():\n    threading.{thread}.start()\n"
    with Daemon(pools=WARMUP, jobs=NO_JOBS + code) as daemon:
        assert daemon.wait() == 78
        error = daemon.expect_log("start.failed")["error"]
        assert "warmup jobs:warm leaves a thread running (poller); start it in on_startup" in error


def test_a_hook_that_hangs_in_every_fork_is_refused_before_the_first_worker() -> None:
    code = "\nimport os, threading\ndef hook(): threading.Event().wait()\nos.register_at_fork(after_in_child=hook)\n"
    with Daemon(jobs=NO_JOBS + code) as daemon:
        assert daemon.wait() == 78
        error = daemon.expect_log("start.failed")["error"]
        assert f"an at-fork hook hangs ({daemon.folder}/jobs.py:6); register it in on_startup" in error


def test_a_pool_of_threads_that_ends_before_each_fork_is_fine_and_works_in_the_workers() -> None:
    code = """
import os, threading
thread = None

def start():
    global thread, over
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()

def stop():
    if thread is not None and thread.is_alive():
        over.set()
        thread.join()

os.register_at_fork(before=stop)
start()
"""
    with Daemon(jobs=NO_JOBS + code) as daemon:
        daemon.expect_log("rrqd.ready")
        assert daemon.count_log("mold.audit") == 0
        assert daemon.stop() == 0


def test_a_child_process_and_a_connection_of_an_import_are_warned_about() -> None:
    code = """
import socket, subprocess
child = subprocess.Popen(['cat'], stdin=subprocess.PIPE)
listener = socket.create_server(('127.0.0.1', 0))
"""
    with Daemon(jobs=NO_JOBS + code) as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.expect_log("mold.audit", problem=re.compile(r"importing jobs leaves a child process running \(cat "))
        daemon.expect_log("mold.audit", problem=re.compile("importing jobs opens a network connection"))
        assert daemon.stop() == 0


def test_the_mold_says_what_was_slow_and_what_all_of_it_cost() -> None:
    code = """
import threading

def warm():
    global model
    model = bytearray(b"x") * 20_000_000
    threading.Event().wait(0.1)
"""
    with Daemon(pools={"default": {"preload": ["json"], "warmup": ["jobs:warm"]}}, jobs=NO_JOBS + code) as daemon:
        imports = daemon.expect_log("mold.ready")["imports"]
        told = {one["import"]: one for one in imports}
        assert "json" not in told
        assert told["warmup jobs:warm"]["seconds"] >= 0.1
        assert imports[-1]["import"] == "total"
        assert 19_000_000 < told["warmup jobs:warm"]["memory_bytes"] <= imports[-1]["memory_bytes"] < 40_000_000
        assert daemon.stop() == 0


def whole(**pool: Any) -> Daemon:
    """The whole rrqd with two workers of one slot each, which answer what they are asked."""
    pools = {"default": {"processes": 2, "concurrency": 1, "warmup": ["jobs:warm"], **pool}}
    return Daemon(pools=pools, stand_ins=False, jobs=ASKED)


async def answers(application: App) -> list[dict[str, Any]]:
    """Of both workers."""
    ids = [await application.client.enqueue("ask", {}) for _ in range(2)]
    ends = [await application.end(job_id) for job_id in ids]
    assert [end.status for end in ends] == [JobStatus.COMPLETED] * 2, ends
    return [end.result for end in ends]


async def test_workers_collect_garbage_but_for_what_was_there_before_the_fork_and_draw_different_numbers() -> None:
    with whole() as daemon:
        async with app(daemon) as application:
            one, two = await answers(application)
            for answer in (one, two):
                assert answer["frozen"] > 1000
                assert answer["collects"] is True
            assert one["pid"] != two["pid"]
            assert one["random"] != two["random"]
        assert daemon.stop() == 0


@pytest.mark.skipif(find_spec("numpy") is None, reason="numpy is not installed")
async def test_two_workers_draw_different_numbers_of_numpys_and_its_threads_are_no_offence() -> None:
    environment = {"LIBRARIES": "numpy", "OPENBLAS_NUM_THREADS": str(max(2, os.cpu_count() or 1))}
    with whole(environment=environment) as daemon:
        async with app(daemon) as application:
            one, two = await answers(application)
            assert one["numpy"] != two["numpy"]
        assert daemon.stop() == 0
