"""Django's tasks on rrqd: enqueued on commit, run by a pool, their results read back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from importlib import import_module

import django
import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.utils import timezone

from rrqd.exc import ConfigError
from rrqd.handlers import load_handlers
from rrqd.integrations import django as backend
from rrqd.integrations.django import RrqdBackend, TaskResultDoesNotExist
from rrqd.testing import Engine
from tests.support import django_jobs as jobs

HANDLERS = "rrqd.integrations.django:registry"


@pytest.fixture(scope="module")
def running() -> Iterator[Engine]:
    engine = Engine(HANDLERS)
    yield engine
    engine.close()


@pytest.fixture
def engine(running: Engine) -> Iterator[Engine]:
    running.clear()
    jobs.heard.clear()
    with running.in_charge():
        yield running


def test_a_task_is_enqueued_run_and_its_result_is_there(engine: Engine) -> None:
    result = jobs.send.enqueue("a@example.org", subject="welcome")
    engine.assert_enqueued(jobs.send, "a@example.org", subject="welcome", queue="mail")
    assert (result.status, result.enqueued_at is not None, result.attempts) == ("READY", True, 0)
    engine.run_all()

    result.refresh()
    assert (result.status, result.return_value, result.attempts) == ("SUCCESSFUL", "welcome to a@example.org", 1)
    assert result.started_at <= result.finished_at
    again = jobs.send.get_result(result.id)
    assert (again.task.queue_name, again.task.priority, again.args) == ("mail", 7, ["a@example.org"])
    assert jobs.heard == [("task_enqueued", "READY"), ("task_started", "RUNNING"), ("task_finished", "SUCCESSFUL")]
    with pytest.raises(TaskResultDoesNotExist):
        jobs.send.get_result("unknown")


def test_async_tasks_and_async_callers(engine: Engine) -> None:
    result = async_to_sync(jobs.add.aenqueue)(2, 3)
    later = jobs.add.using(run_after=timezone.now() + timedelta(hours=1)).enqueue(4, 5)
    engine.run_all()

    assert async_to_sync(jobs.add.aget_result)(result.id).return_value == 5
    assert jobs.add.get_result(later.id).status == "READY"
    engine.advance("1h")
    assert jobs.add.get_result(later.id).return_value == 9


def test_a_task_knows_its_attempt_and_a_failed_one_its_exception(engine: Engine) -> None:
    twice, never = jobs.second_time.enqueue(), jobs.refuse.enqueue()
    engine.run_all()
    twice.refresh()
    never.refresh()

    assert (twice.status, twice.return_value, twice.attempts, twice.errors) == ("SUCCESSFUL", 2, 2, [])
    assert (never.status, never.attempts) == ("FAILED", 1)
    (error,) = never.errors
    assert error.exception_class is jobs.Refused
    assert "in refuse" in error.traceback
    assert "integrations" not in error.traceback
    assert jobs.heard.count(("task_finished", "FAILED")) == 1


def test_inside_a_transaction_nothing_is_enqueued_before_its_commit(engine: Engine) -> None:
    with transaction.atomic():
        kept = jobs.add.enqueue(1, 1)
        at_once = jobs.second_time.enqueue()
        assert [job.id for job in engine.enqueued()] == [at_once.id]
    with transaction.atomic():
        jobs.add.enqueue(2, 2)
        transaction.set_rollback(True)

    assert {job.id for job in engine.enqueued()} == {kept.id, at_once.id}


def test_only_tasks_are_called(engine: Engine) -> None:
    client = engine.place.client
    for name in ("no_task", "not_there"):
        job_id = client.enqueue(f"django:tests.support.django_jobs.{name}", {"job_id": name})
        engine.run_all()
        ended = client.get_job(job_id)
        assert ended is not None
        assert f"{name} is no task of this project" in (ended.last_error or "")


def test_a_project_that_cannot_be_set_up_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(django, "setup", lambda: import_module("no_such_settings"))
    monkeypatch.delitem(vars(backend), "registry", raising=False)
    with pytest.raises(ConfigError, match=r"No module named 'no_such_settings'\); set DJANGO_SETTINGS_MODULE"):
        load_handlers(HANDLERS)


def test_options_that_nobody_knows_are_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"OPTIONS has 'retries'.* there are dsn, enqueue_on_commit"):
        RrqdBackend("default", {"OPTIONS": {"retries": 3}})
    assert load_handlers(HANDLERS).registry is load_handlers(HANDLERS).registry
