"""RQ's registries, and every attribute of Job and Queue in RQ's and in the emulator's spelling."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from rrqd.rq import InvalidJobOperation, Job, Queue, Repeat, Retry, SimpleWorker, Worker, cancel_job, requeue_job
from rrqd.rq.command import send_stop_job_command
from rrqd.rq.connection import Connection
from rrqd.rq.results import Result
from rrqd.rq.serializers import JSONSerializer
from tests.support import calls
from tests.support.wait import until


@pytest.fixture(scope="module")
def place(dsn: str) -> Iterator[Connection]:
    connection = Connection(dsn)
    yield connection
    connection.close()


@pytest.fixture
def queue(place: Connection) -> Queue:
    """A queue of the test's own."""
    return Queue(f"q-{uuid.uuid4()}", place)


def test_what_has_ended_is_found_by_the_lists_of_its_queue(queue: Queue, place: Connection) -> None:
    done = [queue.enqueue(calls.add, number, 1) for number in range(3)]
    bad, dropped = queue.enqueue(calls.boom), queue.enqueue(calls.add, 1, 2)
    doomed = queue.enqueue(calls.add, 3, 4, depends_on=dropped)
    again = queue.enqueue(calls.add, 1, 1, repeat=Repeat(times=1))
    Queue(f"{queue.name}-other", place).enqueue(calls.add, 1, 1)
    dropped.cancel()
    Worker([queue, f"{queue.name}-other"]).work(burst=True)

    ended = [job.id for job in (*done, again)]
    assert set(queue.finished_job_registry.get_job_ids()) == {*ended, f"{again.id}:repeat:1"}
    assert queue.finished_job_registry.get_job_ids()[-1] == f"{again.id}:repeat:1"  # it ended last
    assert queue.failed_job_registry.get_job_ids() == [bad.id]
    assert (dropped.id in queue.canceled_job_registry, doomed.get_status()) == (True, "deferred")
    assert len(queue.failed_job_registry) == queue.failed_job_registry.count == 1

    finished = queue.finished_job_registry
    assert [finished.get_job_ids(*cut) for cut in ((1, 2), (3,), (2, 1), (-1,))] == [
        finished.get_job_ids()[1:3], finished.get_job_ids()[3:], [], finished.get_job_ids()[-1:],
    ]  # fmt: skip
    assert (done[0] in finished, bad in finished, "unknown" in finished) == (True, False, False)

    queue.failed_job_registry.requeue(bad)
    done[0].delete()
    assert queue.failed_job_registry.get_job_ids() == []
    assert done[0] not in queue.finished_job_registry
    assert f"FAILED {queue.name}" not in place.ask(lambda store: store.lists())


def test_callbacks_of_a_function_that_is_stopped(queue: Queue, place: Connection) -> None:
    """A cancel is a stop, the end of its time a failure; a job that runs again elsewhere hears of neither."""
    worker = Worker(queue, concurrency=4)
    worker.start()
    on = {"on_stopped": calls.note, "on_failure": calls.note}
    canceled = [queue.enqueue(f, meta={"noted": "no"}, **on) for f in (calls.spin, calls.spin_async)]
    late = queue.enqueue(calls.spin_async, timeout=1, retry=Retry(max=1), meta={"noted": "no"}, **on)
    until(lambda: all(job.is_started for job in canceled), 30, "both to run")
    for job in canceled:
        job.cancel()
    until(lambda: all(job.is_canceled for job in canceled), 30, "both to stop")
    assert [job.get_meta()["noted"] for job in canceled] == [[], []]
    until(lambda: late.is_failed, 30, "its time to be over, twice")
    assert late.get_meta()["noted"][0] == "JobTimeoutException"
    assert late.retries_made == 2
    spaced = queue.enqueue_in(timedelta(hours=1), calls.add, 1, 2, retry=Retry(max=2, interval=[7, 9]))
    assert spaced.stored.fields["rrqd_policy"] == '{"retry_delay_seconds":7.0,"max_retry_delay_seconds":9.0}'

    again = [queue.enqueue(f, meta={"noted": "no"}, **on) for f in (calls.spin, calls.spin_async)]
    until(lambda: all(job.is_started for job in again), 30, "both to run")
    assert worker._background is not None
    worker._background.stop(0.0)
    until(lambda: all(job.is_queued for job in again), 30, "both to wait again")
    assert [job.get_meta()["noted"] for job in again] == ["no", "no"]


def test_the_rest_of_rqs_names(queue: Queue, place: Connection) -> None:
    told: list[tuple[str, str]] = []

    def note(job: Job, kind: type, fault: Exception, trace: object) -> bool:
        told.append((job.id, f"{kind.__name__}: {fault}"))
        return False

    first, bad = queue.enqueue(calls.add, 1, 2), queue.enqueue(calls.boom, "no")
    later = queue.enqueue_in(timedelta(hours=1), calls.add, 1, 2)
    assert [queue.get_job_position(one) for one in (first, bad.id, later)] == [0, 1, None]
    assert queue.scheduled_job_registry.get_scheduled_time(later) > datetime.now(UTC) + timedelta(minutes=59)
    with pytest.raises(InvalidJobOperation, match="is queued; only a running one"):
        send_stop_job_command(place, first.id)
    worker = SimpleWorker([queue], exception_handlers=[note, calls.boom], with_scheduler=True)
    worker.work(burst=True)

    assert worker.queue_names() == [queue.name]
    assert told == [(bad.id, "ValueError: no")]
    assert requeue_job(bad.id, connection=place).is_queued
    cancel_job(bad.id, connection=place)
    assert queue.canceled_job_registry.get_job_count() == 1
    assert Queue("s", place, serializer=JSONSerializer).serializer == "json"
    result = first.latest_result()
    assert isinstance(result, Result)
    assert result.type == Result.Type.SUCCESSFUL

    worker = SimpleWorker(queue)
    worker.start()
    running = queue.enqueue(calls.spin)
    until(lambda: running.is_started, 5, "the job to run")
    send_stop_job_command(place, running.id)
    until(lambda: running.is_canceled, 5, "the job to stop")
    worker.stop()


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
