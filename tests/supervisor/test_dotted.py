"""A daemon whose pools run functions by their dotted names: `handlers = "dotted:…"`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from rrqd.rq import Job, Queue, Retry
from rrqd.rq.connection import Connection
from tests.support.daemon import ROOT, Daemon
from tests.support.wait import until

JOBS = """
import threading, time
from rrqd.rq import get_current_job

def add(left, right):
    return left + right

async def add_async(left, right):
    return left + right

def spin():
    while True:
        time.sleep(0.01)

def twice():
    if get_current_job().retries_made < 1:
        raise RuntimeError("not yet")
    return "now"

def noted(job, connection, result):
    job.meta["noted"] = result
    job.save_meta()

def hidden():
    return "secret"
"""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    pool = {"processes": 2, "handlers": "dotted:jobs.add*, jobs.spin, jobs.twice, jobs.noted"}
    with Daemon(pools={"default": pool}, stand_ins=False, jobs=JOBS) as daemon:
        daemon.expect_log("rrqd.ready")
        yield daemon
        assert daemon.stop() == 0


@pytest.fixture(scope="module")
def queue(daemon: Daemon) -> Iterator[Queue]:
    place = Connection(f"redis://127.0.0.1:{daemon.port}/0")
    yield Queue("default", place)
    place.close()


def test_functions_run_by_name_plain_and_async_with_retries_and_callbacks(queue: Queue) -> None:
    jobs = [
        queue.enqueue("jobs.add", 1, 2, on_success="jobs.noted"),
        queue.enqueue("jobs.add_async", 3, right=4),
        queue.enqueue("jobs.twice", retry=Retry(max=1)),
    ]

    assert [job.get_result(timeout=10) for job in jobs] == [3, 7, "now"]
    assert jobs[0].get_meta() == {"noted": 3}


@pytest.mark.parametrize(
    ("function", "why"),
    [
        ("jobs.hidden", 'jobs.hidden is not under handlers = "dotted:jobs.add*,'),
        ("os.getcwd", "os.getcwd is not under handlers"),
        ("jobs.add_nowhere", "the module jobs has no add_nowhere"),
        ("__main__.add", "only a worker started by that script can run"),
    ],
)
def test_what_may_not_run_here_is_refused_with_the_reason_and_kept(queue: Queue, function: str, why: str) -> None:
    job = queue.enqueue(function, retry=Retry(max=5))
    until(lambda: job.is_failed, 10, "the job to be refused")

    assert why in (job.exc_info or "")
    assert job.retries_made == 1
    assert Job.fetch(job.id, queue.connection).requeue().id == job.id


def test_a_plain_function_is_stopped_by_a_cancel(daemon: Daemon, queue: Queue) -> None:
    job = queue.enqueue("jobs.spin", timeout=60)
    until(lambda: job.is_started, 10, "the function to run")
    job.cancel()
    until(lambda: job.is_canceled, 5, "the function to be stopped")

    assert queue.enqueue("jobs.add", 1, 1).get_result(timeout=10) == 2


def test_the_command_line_shows_these_jobs(daemon: Daemon, queue: Queue) -> None:
    job = queue.enqueue("jobs.add", 5, 6)
    assert job.get_result(timeout=10) == 11
    done = subprocess.run(
        [sys.executable, "-m", "rrqd", "job", "show", "--json", "--config", str(daemon.folder / "rrq.toml"), job.id],
        cwd=ROOT, env=dict(os.environ), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
        check=True,
    )  # fmt: skip
    shown = json.loads(done.stdout)
    assert "dotted:jobs.add" in json.dumps(shown)


def test_a_job_survives_the_death_of_its_worker(daemon: Daemon, queue: Queue) -> None:
    job = queue.enqueue("jobs.spin", timeout=60)
    until(lambda: job.is_started, 10, "the function to run")
    first = job.stored.fields["worker_id"]
    os.kill(
        next(pid for name, pid in daemon.workers().items() if name.split()[1].replace("/", ".") in first),
        signal.SIGKILL,
    )
    until(lambda: job.worker_name not in (None, first), 10, "another worker to run it")
    job.cancel()
    until(lambda: job.is_canceled, 5, "the function to be stopped")
