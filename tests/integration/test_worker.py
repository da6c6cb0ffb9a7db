"""A worker alone, without a daemon: what it does at the seams between a claim, a run and a cancel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from rrqd.config.settings import PoolSettings, Settings
from rrqd.exc import FailJob
from rrqd.handlers import LoadedHandlers
from rrqd.registry import Registry
from rrqd.runtime.worker import Worker
from rrqd.standalone import Attendant
from rrqd.store import Store
from tests.support.moves import job, known
from tests.support.wait import until_async

registry = Registry()


@registry.handler("wait")
async def wait(request: Any) -> None:
    await asyncio.sleep(60)


@registry.handler("sync")
def plain(request: Any) -> str:
    return "done"


@registry.handler("lines")
async def lines(request: Any) -> None:
    request.log("begun", rows=12)
    await asyncio.to_thread(request.log, "from a thread")
    request.log.info("for the log of the process")


stopped = list[str]()


@registry.handler("slow-once")
async def slow_once(request: Any) -> int:
    """Its first run ends only when it is stopped."""
    stopped.append(request.job_id)
    if stopped.count(request.job_id) == 1:
        await asyncio.sleep(60)
    return stopped.count(request.job_id)


@registry.handler("fails")
async def fails(request: Any) -> Any:
    if request.params["raises"]:
        raise FailJob("blocked", "not from here")
    return request.fail("bad-address", "it is no address")


@pytest.fixture
async def worker(store: Store, dsn: str) -> AsyncIterator[Worker]:
    """A worker that runs, with an attendant."""
    settings = Settings.model_validate({"rrq": {"redis_dsn": dsn}})
    attendant = Attendant(settings, PoolSettings(handlers="tests:registry"), LoadedHandlers(registry=registry))
    ready = asyncio.Event()
    attendant.on_ready(ready.set)
    task = asyncio.create_task(attendant.run())
    await asyncio.wait_for(ready.wait(), 10)
    assert attendant.worker is not None
    yield attendant.worker
    attendant.stop(0)
    await task


async def is_now(store: Store, job_id: str, status: str) -> None:
    async def so() -> bool:
        return (await known(store, job_id)).status == status

    await until_async(so, 5, f"{job_id} to be {status}")


async def test_a_cancel_between_the_claim_and_the_first_step_of_the_handler_counts(
    store: Store, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = worker._begin

    def begin_and_cancel(claimed: Any) -> None:
        begin(claimed)
        worker.cancel(claimed.id)

    monkeypatch.setattr(worker, "_begin", begin_and_cancel)
    await store.enqueue_many([job("a", function="wait")])
    await is_now(store, "a", "CANCELLED")


async def test_a_cancel_that_overtakes_the_answer_to_the_claim_counts(
    store: Store, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_in = worker._take_in

    def told_just_before(claim: Any, asked: int) -> None:
        for claimed in claim.jobs:
            worker._cancelled_early.add(claimed.id)
        take_in(claim, asked)

    monkeypatch.setattr(worker, "_take_in", told_just_before)
    await store.enqueue_many([job("a", function="wait")])
    await is_now(store, "a", "CANCELLED")


async def test_a_job_that_cannot_be_started_is_buried_and_its_neighbours_run(
    store: Store, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = worker._executor.start

    def start_unless_odd(claimed: Any) -> Any:
        if claimed.id == "odd":
            raise RuntimeError("something nobody thought of")
        return start(claimed)

    monkeypatch.setattr(worker._executor, "start", start_unless_odd)
    await store.enqueue_many([job("odd", function="sync"), job("good", function="sync")])
    await is_now(store, "good", "COMPLETED")
    await is_now(store, "odd", "FAILED")
    assert "something nobody thought of" in ((await known(store, "odd")).last_error or "")


async def test_a_drain_hands_back_what_has_not_taken_its_first_step(
    store: Store, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = worker._begin

    def begin_and_drain(claimed: Any) -> None:
        begin(claimed)
        worker.drain(0)

    monkeypatch.setattr(worker, "_begin", begin_and_drain)
    await store.enqueue_many([job("a", function="wait")])
    await is_now(store, "a", "PENDING")

    async def gone() -> bool:
        return await store.workers() == [] and await store.queue_page("default", 0, 9) == ["a"]

    await until_async(gone, 5, "the job to be back in its queue")


async def test_a_handlers_lines_and_figures_reach_the_store(store: Store, worker: Worker) -> None:
    await store.enqueue_many([*(job(function="sync") for _ in range(9)), job("a", function="lines")])
    await is_now(store, "a", "COMPLETED")

    async def told() -> bool:
        return len(await store.log_lines("a")) == 2

    await until_async(told, 5, "both lines")
    first, second = await store.log_lines("a")
    assert (first.message, first.fields, first.attempt) == ("begun", {"rows": 12}, 1)
    assert second.message == "from a thread"

    async def counted() -> bool:
        await worker.reports.send()
        (day,) = await store.figures("default")
        return (day.completed, day.wait.count, day.run.count) == (10, 10, 10)

    await until_async(counted, 5, "all ten to be counted")


async def test_a_job_taken_from_its_worker_is_stopped_there_and_runs_again(worker: Worker, store: Store) -> None:
    await store.enqueue_many([job("taken", function="slow-once")])

    async def began() -> bool:
        return stopped == ["taken"]

    await until_async(began, 5, "the first run")
    assert await store.move(["taken"], states=["running"]) == ["taken"]
    await is_now(store, "taken", "COMPLETED")
    assert (await known(store, "taken")).result == 2


async def test_a_handler_names_the_group_of_its_failure(worker: Worker, store: Store) -> None:
    for raises in ("true", "false"):
        await store.enqueue_many([job(f"fails-{raises}", function="fails", params=b'{"raises": %s}' % raises.encode())])
        await is_now(store, f"fails-{raises}", "FAILED")

    assert await store.groups() == {"blocked": 1, "bad-address": 1}
    assert (await known(store, "fails-false")).last_error == "it is no address"
    assert (await known(store, "fails-true")).number("current_retries") == 1, "no further attempt"
