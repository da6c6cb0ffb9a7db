"""RQ's registries, and every attribute of Job and Queue in RQ's and in the emulator's spelling."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from rrqd.rq import Job, Queue, Worker
from rrqd.rq.connection import Connection
from tests.support import calls


@pytest.fixture(scope="module")
def place(dsn: str) -> Iterator[Connection]:
    connection = Connection(dsn)
    yield connection
    connection.close()


@pytest.fixture
def queue(place: Connection) -> Queue:
    """A queue of the test's own."""
    return Queue(f"q-{uuid.uuid4()}", place)


#: What is read, what is called, and what may be either.
READ = {
    Job: (
        "id func_name args kwargs description created_at enqueued_at started_at ended_at timeout result_ttl meta "
        "status result exc_info origin func failure_ttl ttl retries_left dependency_ids dependency worker_name"
    ),
    Queue: (
        "name jobs job_ids started_job_registry finished_job_registry failed_job_registry scheduled_job_registry "
        "deferred_job_registry canceled_job_registry"
    ),
}
CALLED = {
    Job: (
        "get_id get_status save_meta get_meta return_value get_result latest_result refresh to_dict fetch_dependencies"
    ),
    Queue: "get_jobs get_job_ids is_empty empty",
}
EITHER = {
    Job: "is_queued is_started is_finished is_failed is_deferred is_scheduled is_canceled",
    Queue: "count",
}


def test_attributes_are_there_in_both_spellings(queue: Queue) -> None:
    job = queue.enqueue(calls.add, 1, 2)
    Worker(queue).work(burst=True)
    for owner in (job, queue):
        for name in READ[type(owner)].split():
            assert not callable(getattr(owner, name)) or name == "func", name
        for name in CALLED[type(owner)].split():
            getattr(owner, name)()
        for name in EITHER[type(owner)].split():
            value = getattr(owner, name)
            assert value == value(), name
    assert job.get_id() == job.id
    assert queue.finished_job_registry.get_job_ids() == [job.id]
    for name in ("cancel", "requeue", "delete"):
        assert callable(getattr(job, name))
