"""Typed tasks: enqueued with the function's own arguments, checked at both ends, results of the function's type."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from rrqd import App, Depends
from rrqd.app import TaskFailed
from rrqd.exc import InvalidRequest
from rrqd.job import JobStatus
from rrqd.rq.connection import connect
from rrqd.testing import Engine
from tests.support import tasks
from tests.support.daemon import ROOT
from tests.support.tasks import Order, Receipt, app, happened


@pytest.fixture(scope="module")
def running() -> Iterator[Engine]:
    engine = Engine(app)
    yield engine
    engine.close()


@pytest.fixture
def engine(running: Engine) -> Iterator[Engine]:
    running.clear()
    happened.clear()
    with running.in_charge():
        yield running


def test_a_task_is_the_function_when_it_is_called() -> None:
    assert tasks.count([Order(number=2)], "f", "g") == 2
    assert tasks.count.__name__ == "count"


async def test_an_async_task_with_what_it_needs(engine: Engine) -> None:
    handle = await tasks.send.enqueue(7, day=date(2026, 5, 1))
    engine.assert_enqueued(tasks.send, user_id=7, queue="mail")
    with pytest.raises(TimeoutError, match="not ended within 0 s"):
        await handle.result(timeout_seconds=0)
    engine.run_all()

    assert await handle.result() == Receipt(7, date(2026, 5, 1))
    assert await handle.status() is JobStatus.COMPLETED
    name = "tests.support.tasks.send"
    assert happened == ["begin", f"before {name}", "open", f"db of {name}", "close", "after", "end"]
    assert tasks.send.name == name
    job = connect(engine.dsn).client.get_job(handle.id)
    assert job is not None
    assert job.params == {"user_id": 7, "day": "2026-05-01"}  # any language can read it


def test_a_plain_task_with_models_and_a_provider_that_is_asked_once(engine: Engine) -> None:
    handle = tasks.count.enqueue_sync([Order(number=2, tags={"a"}), Order(number=3)])
    engine.run_all()

    assert handle.result_sync() == 5
    assert happened == ["begin", "before count", "open file", "filefile", "close file", "after", "end"]


def test_many_at_once_and_other_options(engine: Engine) -> None:
    later = tasks.anything.options(defer_by_seconds=60, queue_name="slow")
    first, second = app.enqueue_many_sync([tasks.anything.call(1), later.call({"a": [None]}, other=2)])
    engine.assert_enqueued(tasks.anything, queue="slow", within="1m")
    engine.advance("1m")

    assert (first.result_sync(), second.result_sync()) == (1, {"a": [None]})


@pytest.mark.parametrize(
    ("enqueue", "why"),
    [
        (lambda: tasks.send.enqueue_sync("seven", date(2026, 1, 1)), r"user_id: Expected `int`, got `str`"),
        (lambda: tasks.send.enqueue_sync(7), "missing a required argument: 'day'"),
        (lambda: tasks.send.enqueue_sync(7, date(2026, 1, 1), db="mine"), "unexpected keyword argument 'db'"),
        (lambda: tasks.count.enqueue_sync([{"number": "x"}]), "orders: 1 validation error for Order"),
        (lambda: tasks.anything.enqueue_sync(object()), "value: object can't be written"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_before_anything_is_stored(engine: Engine, enqueue, why: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidRequest, match=why):
        enqueue()
    assert engine.enqueued() == []


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"orders": 3}, "orders: Expected `array`, got `int`"),
        ({}, "count needs orders"),
        ({"orders": [], "file": "x"}, "count has no parameter file"),
    ],
)
def test_parameters_of_another_producer_are_checked_where_they_arrive(engine: Engine, params: dict, why: str) -> None:  # type: ignore[type-arg]
    client = connect(engine.dsn).client
    job_id = client.enqueue("count", {"params": params, "max_retries": 5})
    engine.run_all()

    ended = client.get_job_status(job_id)
    assert ended is not None
    assert ended.status is JobStatus.FAILED
    assert why in (ended.last_error or "")


def test_a_failed_task_says_so_to_who_waits(engine: Engine) -> None:
    handle = tasks.fail.options(max_retries=1).enqueue_sync("no paper")
    engine.run_all()

    with pytest.raises(TaskFailed, match="no paper"):
        handle.result_sync()


def test_providers_can_be_replaced(engine: Engine) -> None:
    app.replaced[tasks.get_file] = lambda: "stand-in"
    try:
        tasks.count.enqueue_sync([])
        engine.run_all()
    finally:
        app.replaced.clear()
    assert "stand-instand-in" in happened


def test_a_plain_task_cannot_need_what_must_be_awaited() -> None:
    async def get() -> int:
        return 1

    own = App()
    with pytest.raises(TypeError, match="make the task async"):

        @own.task("needy")
        def needy(one: int = Depends(get)) -> None: ...


def test_parameters_without_names_are_refused() -> None:
    own = App()
    with pytest.raises(TypeError, match="parameters have names"):

        @own.task("stars")
        def stars(*args: int) -> None: ...


TYPED = """
    from datetime import date
    from typing import assert_type
    from rrqd.app import Handle
    from tests.support.tasks import Receipt, app, count, send

    async def use() -> None:
        handle = await send.enqueue(7, day=date.today())
        assert_type(handle, Handle[Receipt])
        assert_type(await handle.result(), Receipt)
        assert_type(count.enqueue_sync([]).result_sync(), int)
        assert_type(await send(7, date.today()), Receipt)
        await send.enqueue("seven", date.today())
        count.enqueue_sync()
        send.call(7, date.today(), colour="red")
"""


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_type_checkers_see_arguments_and_results_and_agree(checker: str, tmp_path: Path) -> None:
    file = tmp_path / "typed.py"
    file.write_text(textwrap.dedent(TYPED))
    (tmp_path / "pyrightconfig.json").write_text(
        json.dumps({"typeCheckingMode": "standard", "extraPaths": [str(ROOT)]})
    )
    words = {
        "mypy": ["mypy", "--no-error-summary", str(file)],
        "pyright": ["basedpyright", "--level", "error", "--project", str(tmp_path), "--pythonpath", sys.executable],
    }
    done = subprocess.run(
        [sys.executable, "-m", *words[checker]],
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    wrong = {int(line) for line in re.findall(r"typed\.py:(\d+):(?:\d+ -)? error", done.stdout)}
    assert wrong == {13, 14, 15}, done.stdout + done.stderr
