"""A worker alone, without a daemon: what it does at the seams between a claim, a run and a cancel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from rrqd.config.settings import PoolSettings, Settings
from rrqd.handlers import LoadedHandlers
from rrqd.registry import Registry
from rrqd.runtime.worker import Worker
from rrqd.store import Store, StorePolicy
from tests.support.moves import job, known
from tests.support.wait import until_async

registry = Registry()


@registry.handler("wait")
async def wait(request: Any) -> None:
    await asyncio.sleep(60)


@registry.handler("sync")
def plain(request: Any) -> str:
    return "done"


@pytest.fixture
async def worker(store: Store, dsn: str) -> AsyncIterator[Worker]:
    """A standalone worker that runs."""
    its_own = await Store.open(dsn, StorePolicy(), client_name="rrqd:test:worker")
    worker = Worker(
        settings=Settings(),
        pool_name="default",
        pool=PoolSettings(handlers="tests:registry"),
        worker_id="w",
        node_id="n",
        handlers=LoadedHandlers(registry=registry),
        store=its_own,
        standalone=True,
    )
    task = asyncio.create_task(worker.run())
    yield worker
    worker.drain(0)
    await task
    await its_own.close()


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
