"""RQ's face: queues, jobs, results, retries, callbacks and workers, as programs for RQ use them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial

import pytest

from rrqd.exc import JobExists
from rrqd.rq import (
    Callback,
    DeferredJobRegistry,
    Dependency,
    FailedJobRegistry,
    FinishedJobRegistry,
    InvalidJobOperation,
    Job,
    JobStatus,
    NoSuchJobError,
    Queue,
    Repeat,
    Retry,
    ScheduledJobRegistry,
    StartedJobRegistry,
    Worker,
)
from rrqd.rq.codec import CodecError
from rrqd.rq.connection import Connection
from rrqd.rq.decorators import job as job_of
from rrqd.rq.exceptions import TimeoutFormatError
from rrqd.rq.stopping import __name__ as STOPPING
from rrqd.store import Store
from tests.support import calls
from tests.support.calls import Account, Money
from tests.support.wait import until


@pytest.fixture(scope="module")
def place(dsn: str) -> Iterator[Connection]:
    connection = Connection(dsn, signing_key="secret")
    yield connection
    connection.close()


@pytest.fixture
def queue(place: Connection) -> Queue:
    """A queue of the test's own."""
    return Queue(f"q-{uuid.uuid4()}", place)


def burst(*queues: Queue) -> None:
    Worker(queues).work(burst=True)


# -- jobs and results --------------------------------------------------------------------------------------


def test_a_job_goes_from_queued_to_finished(queue: Queue) -> None:
    job = queue.enqueue(calls.add, 2, right=3, description="a sum", meta={"who": "me"})
    assert (job.get_status(), job.is_queued, queue.count, queue.count()) == ("queued", True, 1, 1)
    assert (job.result, job.ended_at, queue.is_empty(), queue.empty()) == (None, None, False, False)

    burst(queue)

    assert job.get_status() == JobStatus.FINISHED
    assert (job.is_finished(), job.is_finished == True, job.is_failed()) == (True, True, False)  # noqa: E712
    assert (job.result, job.return_value(), job.get_result(timeout=0)) == (5, 5, 5)
    assert job.started_at is not None
    assert job.ended_at is not None
    assert job.started_at <= job.ended_at
    again = Job.fetch(job.id, queue.connection)
    assert (again.func, again.func_name, again.args, again.kwargs) == (
        calls.add, "tests.support.calls.add", (2,), {"right": 3},
    )  # fmt: skip
    assert (again.description, again.meta, again.origin, again.timeout) == ("a sum", {"who": "me"}, queue.name, 180)
    assert again.to_dict()["result"] == 5
    assert again == job


def test_values_arrive_and_come_back_as_they_were(queue: Queue) -> None:
    value = {"when": datetime(2026, 1, 2), "who": {1, 2}, "price": Money(Decimal("1.5"))}
    plain, awaited = queue.enqueue(calls.give, value), queue.enqueue(calls.add_async, 1, 2)

    burst(queue)

    assert (plain.result, awaited.result) == (value, 3)


def test_a_failure_keeps_its_traceback_and_can_be_queued_again(queue: Queue) -> None:
    job = queue.enqueue(calls.boom, "no paper")
    burst(queue)

    assert (job.get_status(), job.result) == ("failed", None)
    assert job.exc_info is not None
    lines = job.exc_info.splitlines()
    assert lines[-1] == "ValueError: no paper"
    assert "calls.py" in lines[1]  # no frame of ours stands before the function's
    result = job.latest_result()
    assert result is not None
    assert result.exc_string == job.exc_info
    assert job.id in FailedJobRegistry(queue=queue)

    again = Job.fetch(job.id, queue.connection).requeue()
    assert again.get_status() == "queued"
    with pytest.raises(InvalidJobOperation):
        again.requeue()


def test_what_is_no_call_is_refused_before_anything_is_stored(queue: Queue) -> None:
    with pytest.raises(ValueError, match="a lambda"):
        queue.enqueue(lambda: 1)
    with pytest.raises(CodecError, match=r"argument 1 is a tests\.support\.calls\.Account"):
        queue.enqueue(calls.give, Account(1))
    with pytest.raises(ValueError, match="'3 parsecs'"):
        queue.enqueue(calls.add, 1, 2, job_timeout="3 parsecs")
    with pytest.raises(ValueError, match="enqueue_in takes a timedelta first, not '1h'"):
        queue.enqueue_in("1h", calls.add, 1, 2)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no option 'prio'"):
        queue.enqueue_call(calls.add, (1, 2), prio=3)
    assert queue.is_empty()


def test_what_is_not_data_can_be_pickled_when_asked_for(queue: Queue) -> None:
    signed = Queue(queue.name, queue.connection, serializer="pickle")
    job = signed.enqueue(calls.give, Account(3))
    burst(queue)

    assert job.result.balance == 3
    with Connection_with_other_key(queue) as stranger, pytest.raises(CodecError, match="signature"):
        _ = Job.fetch(job.id, stranger).result


def Connection_with_other_key(queue: Queue):  # type: ignore[no-untyped-def]
    import contextlib

    return contextlib.closing(Connection(queue.connection.dsn, signing_key="another"))


def test_arguments_can_be_given_apart(queue: Queue) -> None:
    jobs = [
        queue.enqueue(calls.echo, args=(1,), kwargs={"timeout": 2}, timeout=30),
        queue.enqueue_call(calls.echo, (1,), {"timeout": 2}, timeout=30),
        *queue.enqueue_many([Queue.prepare_data(calls.echo, (1,), {"timeout": 2}, timeout=30)]),
    ]
    burst(queue)

    assert [(job.result, job.timeout) for job in jobs] == [([[1], {"timeout": 2}], 30)] * 3


def test_an_id_is_taken_once(queue: Queue) -> None:
    job_id = f"id-{uuid.uuid4()}"
    queue.enqueue(calls.add, 1, 2, job_id=job_id)

    with pytest.raises(JobExists):
        queue.enqueue(calls.add, 3, 4, job_id=job_id)
    assert Job.exists(job_id, queue.connection)


def test_a_job_can_be_made_by_hand(queue: Queue) -> None:
    job = Job(calls.add, (1,), {"right": 2}, 60, "2m", f"id-{uuid.uuid4()}", "x")
    assert (job.timeout, job.result_ttl, job.description) == (120, 60, "x")
    queue.enqueue_job(job)
    burst(queue)

    assert job.result == 3


# -- when --------------------------------------------------------------------------------------------------


def test_jobs_for_later_wait_in_their_registry(queue: Queue) -> None:
    later = queue.enqueue_in(timedelta(hours=1), calls.add, 1, 2)
    at = queue.enqueue_at(datetime.now() + timedelta(minutes=30), calls.add, 1, 2)
    now = queue.enqueue_at(datetime.now() - timedelta(seconds=1), calls.add, 1, 2)
    burst(queue)

    assert (later.get_status(), at.is_scheduled, now.get_status()) == ("scheduled", True, "finished")
    assert ScheduledJobRegistry(queue=queue).get_job_ids() == [at.id, later.id]
    assert queue.count == 0


def test_at_front_comes_first(queue: Queue) -> None:
    first = queue.enqueue(calls.add, 1, 1)
    urgent = queue.enqueue(calls.add, 2, 2, at_front=True)
    most_urgent = queue.enqueue(calls.add, 3, 3, at_front=True)

    assert queue.job_ids == [most_urgent.id, urgent.id, first.id]


def test_earlier_queues_come_first_always(queue: Queue) -> None:
    low, order = Queue(f"{queue.name}-low", queue.connection), []
    for number in range(3):
        order += [low.enqueue(calls.add, number, 0), queue.enqueue(calls.add, number, 1)]
    burst(queue, low)

    for job in order:
        job.refresh()
    ran = sorted(order, key=lambda job: job.started_at or datetime.min)
    assert [job.origin for job in ran] == [queue.name] * 3 + [low.name] * 3


def test_a_retry_is_made_as_often_and_as_late_as_was_asked(queue: Queue) -> None:
    at_once = queue.enqueue(calls.fail_until, 2, retry=Retry(max=2))
    too_few = queue.enqueue(calls.fail_until, 2, retry=Retry(max=1))
    spaced = queue.enqueue(calls.boom, retry=Retry(max=2, interval=[3600, 1]))
    burst(queue)

    assert (at_once.get_status(), at_once.result) == ("finished", 2)
    assert (too_few.get_status(), too_few.retries_made) == ("failed", 2)
    assert (spaced.get_status(), spaced.retries_made, spaced.retries_left) == ("scheduled", 1, 1)
    assert spaced.exc_info is not None
    due = spaced.stored.moment("next_scheduled_run_time")
    assert due is not None
    assert spaced.started_at is not None
    assert 3590 < (due - spaced.started_at).total_seconds() < 3610


def test_a_job_repeats_itself_under_ids_of_its_own(queue: Queue) -> None:
    job = queue.enqueue(calls.add, 1, 2, repeat=Repeat(times=2))
    burst(queue)

    ids = [job.id, f"{job.id}:repeat:1", f"{job.id}:repeat:2"]
    assert [one and one.result for one in Job.fetch_many(ids, queue.connection)] == [3, 3, 3]
    assert not Job.exists(f"{job.id}:repeat:3", queue.connection)
    assert set(FinishedJobRegistry(queue=queue).get_job_ids()) == set(ids)


def test_a_job_that_waited_longer_than_its_ttl_does_not_run(queue: Queue) -> None:
    job = queue.enqueue(calls.add, 1, 2, ttl=0)
    burst(queue)

    assert job.get_status() == "failed"
    assert "longer than its ttl" in (job.exc_info or "")


def test_a_job_waits_for_those_it_depends_on(queue: Queue) -> None:
    first, bad = queue.enqueue(calls.add, 1, 2), queue.enqueue(calls.boom)
    second = queue.enqueue(calls.add, 3, 4, depends_on=[first, first.id])
    stuck = queue.enqueue(calls.add, 5, 6, depends_on=bad)
    all_the_same = queue.enqueue(calls.add, 7, 8, depends_on=Dependency(jobs=[bad], allow_failure=True))
    assert (second.get_status(), second.is_deferred(), second.dependency_ids) == ("deferred", True, [first.id])
    assert set(DeferredJobRegistry(queue=queue).get_job_ids()) == {second.id, stuck.id, all_the_same.id}
    burst(queue)

    assert second.dependency == first
    assert (second.result, stuck.get_status(), all_the_same.result) == (7, "deferred", 15)


# -- from inside -------------------------------------------------------------------------------------------


def test_a_function_finds_its_own_job_and_writes_to_its_meta(queue: Queue) -> None:
    job = queue.enqueue(calls.write_meta, "half way", meta={"old": True})
    burst(queue)

    assert job.result == job.id
    assert job.get_meta() == {"old": True, "step": "half way"}


def test_a_failed_job_is_kept_as_long_as_it_wished(queue: Queue) -> None:
    short, ever, usual = (queue.enqueue(calls.boom, failure_ttl=ttl) for ttl in ("1h", -1, None))
    burst(queue)

    def left_ms(job: Job) -> int:
        return int(queue.connection.ask(partial(_pttl, job_id=job.id)))

    assert 3_500_000 < left_ms(short) <= 3_600_000
    assert left_ms(ever) == -1
    assert left_ms(usual) > 86_400_000
    assert Job.fetch(short.id, queue.connection).failure_ttl == 3600


async def _pttl(store: Store, job_id: str) -> int:
    return int(await (await store.link()).call("PTTL", store.keys.job(job_id)))


def test_a_callback_is_stopped_at_the_end_of_its_own_time(queue: Queue) -> None:
    jobs = [queue.enqueue(f, 1, 2, on_success=Callback(calls.spin_after, "1")) for f in (calls.add, calls.add_async)]
    burst(queue)

    for job in jobs:
        assert (job.get_status(), (job.exc_info or "").splitlines()[-1]) == (
            "failed",
            f"{STOPPING}.JobTimeoutException: the function's time is over",
        )
        assert Job.fetch(job.id, queue.connection).callbacks["on_success"].timeout == 1


def test_callbacks_are_called_with_the_job_and_what_came_of_it(queue: Queue) -> None:
    good = queue.enqueue(calls.add, 1, 2, on_success=calls.note, on_failure=calls.boom)
    bad = queue.enqueue(calls.boom, "alas", on_success=calls.boom, on_failure=Callback(calls.note))
    spoilt = queue.enqueue(calls.add, 1, 2, on_success=calls.boom)
    burst(queue)

    assert good.get_meta() == {"noted": ["3"]}
    assert bad.get_meta() == {"noted": ["ValueError", "alas"]}
    assert spoilt.get_status() == "failed"


# -- stopping ----------------------------------------------------------------------------------------------


def test_a_canceled_job_never_starts(queue: Queue) -> None:
    job = queue.enqueue(calls.add, 1, 2)
    job.cancel()
    burst(queue)

    assert (job.get_status(), job.result) == ("canceled", None)
    with pytest.raises(InvalidJobOperation):
        queue.enqueue(calls.add, 1, 2, job_id=f"id-{uuid.uuid4()}").requeue()


def test_a_plain_function_is_stopped_by_a_cancel_and_by_its_timeout(queue: Queue) -> None:
    worker = Worker([queue], concurrency=3)
    worker.start()
    try:
        job = queue.enqueue(calls.spin, on_stopped=calls.note)
        late = queue.enqueue(calls.spin, timeout=1)
        until(lambda: job.is_started and late.is_started, 5, "both to run")
        assert set(StartedJobRegistry(queue=queue).get_job_ids()) == {job.id, late.id}
        job.cancel()
        until(lambda: job.is_canceled, 5, "the function to be stopped")
        until(lambda: late.is_failed, 5, "the other one to time out")
    finally:
        worker.stop()
    assert late.exc_info == "Job timed out after 1s."
    assert Job.fetch(job.id, queue.connection).meta == {"noted": []}


def test_a_background_worker_finishes_what_runs_and_can_be_stopped_twice(queue: Queue) -> None:
    worker = Worker(queue)
    worker.stop()  # one that never began
    worker.start()
    assert worker.is_running
    assert queue.enqueue(calls.add, 1, 2).get_result(timeout=5) == 3
    worker.stop()
    worker.stop()
    assert not worker.is_running
    last = queue.enqueue(calls.add, 3, 4)
    worker.start(burst=True)
    worker.join()
    assert (last.result, worker.is_running) == (7, False)


# -- housekeeping ------------------------------------------------------------------------------------------


def test_clear_removes_what_waits_and_nothing_else(queue: Queue) -> None:
    done = queue.enqueue(calls.add, 1, 2)
    burst(queue)
    waiting, later = queue.enqueue(calls.add, 1, 2), queue.enqueue_in(timedelta(days=1), calls.add, 1, 2)
    assert queue.clear() == 2

    assert queue.empty()
    assert not Job.exists(waiting.id, queue.connection)
    assert queue.fetch_job(later.id) is None
    found = queue.fetch_job(done.id)
    assert found is not None
    assert found.is_finished
    done.delete()
    with pytest.raises(NoSuchJobError):
        Job.fetch(done.id, queue.connection)


def test_a_queue_without_a_worker_runs_at_once() -> None:
    here = Queue("here", "redis://127.0.0.1:1/0", is_async=False)
    good, bad = here.enqueue(calls.give, (1, {2})), here.enqueue(calls.boom, "no")

    assert (good.result, good.is_finished()) == ((1, {2}), True)
    assert (bad.get_status(), bad.exc_info and bad.exc_info.splitlines()[-1]) == ("failed", "ValueError: no")
    assert here.enqueue(calls.add_async, 1, 2).result == 3
    with pytest.raises(CodecError):
        here.enqueue(calls.give, Account(1))


def test_a_decorated_function_can_be_called_and_delayed(queue: Queue) -> None:
    delayed = job_of(queue, timeout=20)(calls.add)

    assert delayed(1, 2) == 3
    job = delayed.delay(3, 4)
    burst(queue)
    assert (job.result, job.timeout) == (7, 20)


def test_a_redis_client_is_taken_as_a_connection(queue: Queue) -> None:
    from redis import Redis

    with Redis.from_url(queue.connection.dsn) as client:
        same = Queue(queue.name, client)
        job = same.enqueue(calls.add, 1, 2)
        assert queue.fetch_job(job.id) == job
        same.connection.close()


# -- what RQ's programs may also say -------------------------------------------------------------------------


@pytest.mark.parametrize("function", [calls.leave, calls.leave_later])
def test_a_function_that_exits_has_failed_and_its_callback_hears_of_it(queue: Queue, function: object) -> None:
    job = queue.enqueue(function, 3, on_failure=calls.note)
    after = queue.enqueue(calls.add, 1, 2)
    burst(queue)
    assert (job.is_failed, job.get_meta(), after.result) == (True, {"noted": ["SystemExit", "3"]}, 3)


def test_a_result_that_cannot_be_stored_and_a_callback_that_fails_are_failures(queue: Queue) -> None:
    odd = queue.enqueue(calls.nothing_to_store, on_failure=calls.note)
    spoilt = queue.enqueue(calls.add, 1, 2, on_success=calls.boom, on_failure=calls.note)
    burst(queue)
    assert odd.get_meta()["noted"][0] == "CodecError"
    assert (spoilt.is_failed, spoilt.get_meta()["noted"][0]) == (True, "TypeError")  # boom takes no three arguments


def test_options_that_are_not_there_are_refused_and_not_given_to_the_function(queue: Queue) -> None:
    for name, value in (("pipeline", object()), ("rate_limit", 3), ("webhooks", ["https://example.org"])):
        with pytest.raises(ValueError, match=f"has no {name} here"):
            queue.enqueue(calls.echo, **{name: value})
    with pytest.raises(ValueError, match="meta must be a dict"):
        queue.enqueue(calls.echo, meta=["a"])
    job = queue.enqueue(calls.echo, unique=True, pipeline=None, webhooks=None)
    Worker([queue], exception_handlers=None).work(burst=True)
    assert job.result == [[], {}]


@pytest.mark.parametrize("span", [float("inf"), float("nan"), "1.5h", -2, True])
def test_a_span_that_is_none_is_refused_by_rqs_name(queue: Queue, span: object) -> None:
    with pytest.raises(TimeoutFormatError, match="timeout must"):
        queue.enqueue(calls.add, 1, 2, job_timeout=span)


def test_a_delay_that_is_over_is_none(queue: Queue) -> None:
    assert queue.enqueue_in(timedelta(seconds=-5), calls.add, 1, 2).is_queued
    assert queue.enqueue_at(datetime(2020, 1, 1), calls.add, 1, 2).is_queued


def test_who_waits_for_a_job_that_is_canceled_or_deleted(queue: Queue) -> None:
    first, other = queue.enqueue(calls.add, 1, 2), queue.enqueue_in(timedelta(hours=1), calls.add, 2, 2)
    waiting = queue.enqueue(calls.add, 3, 4, depends_on=first)
    both = queue.enqueue(calls.add, 5, 6, depends_on=[first, other])
    assert first.dependent_ids == [waiting.id, both.id]
    assert (first.get_position(), waiting.get_position()) == (0, None)

    first.cancel(enqueue_dependents=True)
    assert (waiting.get_status(), both.get_status(), first.is_stopped) == ("queued", "deferred", False)

    last = queue.enqueue(calls.add, 7, 8, depends_on=both)
    other.delete(delete_dependents=True)
    assert [Job.exists(job.id, queue.connection) for job in (first, waiting, other, both, last)] == [
        True, True, False, False, False,
    ]  # fmt: skip


def test_results_are_a_list_of_the_one_that_is_kept(queue: Queue) -> None:
    job = queue.enqueue(calls.add, 1, 2)
    assert job.results() == []
    burst(queue)
    assert [one.return_value for one in job.results()] == [3]


def test_a_worker_of_so_many_jobs_ends_after_them(queue: Queue) -> None:
    jobs = [queue.enqueue(calls.add, number, 1) for number in range(4)]
    assert Worker([queue]).work(max_jobs=2)
    assert [job.result for job in jobs] == [1, 2, None, None]
    assert Worker([queue]).work(burst=True, max_jobs=3)
    assert [job.result for job in jobs] == [1, 2, 3, 4]
    with pytest.raises(ValueError, match="max_jobs must be"):
        Worker([queue]).work(max_jobs=0)


def test_a_callback_is_told_why_a_job_was_stopped(queue: Queue) -> None:
    job = queue.enqueue(calls.spin, job_timeout=1, on_failure=calls.note)
    burst(queue)
    assert job.get_meta() == {"noted": ["JobTimeoutException", "the function's time is over"]}
