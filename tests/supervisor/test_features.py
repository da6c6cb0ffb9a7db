"""What the steward and the workers do for features of jobs, seen from outside: templates bear jobs, a limit that
expires lets go, figures arrive.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rrqd.client import SyncRRQClient
from rrqd.job import JobStatus
from tests.support.app import TOLD
from tests.support.daemon import Daemon
from tests.support.wait import until


@pytest.fixture(scope="module")
def client() -> Iterator[SyncRRQClient]:
    """A client of a daemon that all tests here share."""
    with Daemon(pools={"default": {"processes": 1}}, stand_ins=False, jobs=TOLD) as daemon:
        daemon.expect_log("rrqd.ready")
        with SyncRRQClient(config={"redis_dsn": f"redis://127.0.0.1:{daemon.port}/0"}) as client:
            yield client
        assert daemon.stop() == 0


def has_completed(client: SyncRRQClient, job_id: str) -> bool:
    job = client.get_job(job_id)
    return job is not None and job.status is JobStatus.COMPLETED


def test_a_template_bears_jobs_until_it_is_removed(client: SyncRRQClient) -> None:
    made = client.recurring.add("told", every_seconds=0.2, id="often")
    until(lambda: has_completed(client, "often-3"), 15, "the third job of the template")
    assert client.recurring.remove(made) is True


def test_a_limit_that_expires_lets_go(client: SyncRRQClient) -> None:
    client.throttles.set("none", 0, expires_seconds=1)
    job_id = client.enqueue("told", {"throttles": ["none"]})
    end = client.wait_for_completion(job_id, timeout_seconds=15)
    assert end is not None
    assert end.status is JobStatus.COMPLETED


def test_figures_arrive_by_themselves(client: SyncRRQClient) -> None:
    assert client.wait_for_completion(client.enqueue("told"), timeout_seconds=15) is not None
    until(lambda: client.stats.queue("default")[0].completed > 0, 15, "the figures of the queue")
