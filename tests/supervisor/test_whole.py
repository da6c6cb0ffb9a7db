"""The whole rrqd, with its own steward, workers and server: what a crash costs a job."""

from __future__ import annotations

import os
import signal

from rrqd.client import SyncRRQClient
from rrqd.job import JobStatus
from tests.support.daemon import Daemon, alive
from tests.support.wait import until

JOBS = """
import asyncio
import threading

from rrqd.registry import Registry

registry = Registry()


@registry.handler("add")
async def add(request):
    return request.params["a"] + request.params["b"]


@registry.handler("slow")
async def slow(request):
    await asyncio.sleep(1.0)
    return "done"


@registry.handler("block")
async def block(request):
    threading.Event().wait(60)
"""


def _client(daemon: Daemon) -> SyncRRQClient:
    return SyncRRQClient(config={"redis_dsn": f"redis://127.0.0.1:{daemon.port}/0"})


def _active(client: SyncRRQClient, job_id: str) -> None:
    def running() -> bool:
        job = client.get_job_status(job_id)
        return job is not None and job.status == JobStatus.ACTIVE

    until(running, 5, "the job to run")


def test_a_job_survives_the_death_of_its_worker_and_a_blocking_one_costs_its_worker_its_life() -> None:
    with Daemon(stand_ins=False, jobs=JOBS, timeout_grace_seconds=0.5) as daemon:
        daemon.expect_log("rrqd.ready")
        with _client(daemon) as client:
            added = client.enqueue("add", {"params": {"a": 1, "b": 2}})
            assert client.wait_for_completion(added, timeout_seconds=5).result == 3
            slow = client.enqueue("slow")
            _active(client, slow)
            for pid in daemon.workers().values():
                os.kill(pid, signal.SIGKILL)
            assert client.wait_for_completion(slow, timeout_seconds=10).result == "done"
            block = client.enqueue("block", {"job_timeout_seconds": 1, "max_retries": 1})
            assert client.wait_for_completion(block, timeout_seconds=10).status == JobStatus.FAILED
            daemon.expect_log("worker.died", reason="overdue", culprit=block)
        assert daemon.stop() == 0


def test_a_running_job_is_finished_and_stored_though_the_master_was_killed() -> None:
    with Daemon(stand_ins=False, jobs=JOBS) as daemon:
        daemon.expect_log("rrqd.ready")
        with _client(daemon) as client:
            slow = client.enqueue("slow")
            _active(client, slow)
            pids = daemon.children().values()
            daemon.signal(signal.SIGKILL)
            daemon.wait()
            mark = daemon.mark()
            until(lambda: not any(alive(pid) for pid in pids), 10, "everybody to be gone")
            daemon.start()
            daemon.expect_log("rrqd.ready", since=mark)
        with _client(daemon) as client:
            assert client.wait_for_completion(slow, timeout_seconds=5).result == "done"
        assert daemon.stop() == 0
