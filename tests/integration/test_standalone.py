"""A worker that runs alone: bursts, stops, a killed process, a handler that blocks, a server that goes away."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from rrqd.config.settings import PoolSettings, Settings
from rrqd.handlers import LoadedHandlers
from rrqd.registry import Registry
from rrqd.standalone import Attendant, Background
from rrqd.store import Charge, Store, policy_of
from tests.support.moves import job, known
from tests.support.server import Server
from tests.support.wait import until, until_async

ROOT = Path(__file__).resolve().parents[2]


def attendant(dsn: str, registry: Registry, *, lease_seconds: float = 15.0, **pool: Any) -> Attendant:
    settings = Settings.model_validate(
        {"rrq": {"redis_dsn": dsn, "base_retry_delay_seconds": 0.1}, "rrqd": {"lease_seconds": lease_seconds}}
    )
    return Attendant(settings, PoolSettings(handlers="tests:registry", **pool), LoadedHandlers(registry))


async def test_a_burst_runs_what_is_due_and_its_retries_and_leaves_nothing_behind(store: Store, dsn: str) -> None:
    registry = Registry()
    tries: list[str] = []

    @registry.handler("flaky")
    async def flaky(request: Any) -> int:
        tries.append(request.job_id)
        if tries.count(request.job_id) == 1:
            raise OSError("not yet")
        return len(tries)

    await store.enqueue_many([job("a", function="flaky"), job("later", function="flaky", delay_ms=60_000)])
    reason = await asyncio.wait_for(attendant(dsn, registry).run(horizon_seconds=5), 20)
    assert reason == "dry"
    assert tries == ["a", "a"]
    assert (await known(store, "a")).status == "COMPLETED"
    assert (await known(store, "later")).status == "PENDING"
    assert await store.nodes() == {}
    assert await store.workers() == []
    assert await store.health_reports() == []


async def test_without_a_horizon_a_burst_leaves_what_is_not_due(store: Store, dsn: str) -> None:
    await store.enqueue_many([job("soon", delay_ms=60_000)])
    assert await asyncio.wait_for(attendant(dsn, Registry()).run(horizon_seconds=0), 20) == "dry"


async def test_a_job_of_a_foreign_producer_wakes_it(store: Store, dsn: str) -> None:
    registry = Registry()
    done = asyncio.Event()

    @registry.handler("noop")
    async def noop(request: Any) -> None:
        done.set()

    alone = attendant(dsn, registry)
    ready = asyncio.Event()
    alone.on_ready(ready.set)
    task = asyncio.create_task(alone.run(until=done.wait()))
    await asyncio.wait_for(ready.wait(), 10)
    await store.enqueue_many([job("a")])
    began = time.monotonic()
    assert await asyncio.wait_for(task, 10) == "drained"
    assert time.monotonic() - began < 4  # the safety poll comes after 2.5 s to 7.5 s
    assert (await known(store, "a")).status == "COMPLETED"


async def test_a_handler_that_blocks_the_loop_longer_than_the_lease_keeps_its_job(store: Store, dsn: str) -> None:
    registry = Registry()

    @registry.handler("block")
    async def block(request: Any) -> str:
        threading.Event().wait(1.6)
        return "mine"

    await store.enqueue_many([job("a", function="block")])
    task = asyncio.create_task(asyncio.to_thread(_in_a_loop_of_its_own, dsn, registry))
    seen: set[str] = set()

    async def ended() -> bool:
        seen.update(await store.lapsed_nodes())
        return task.done()

    await until_async(ended, 15, "the burst to end")
    assert seen == set()
    assert (await known(store, "a")).result == "mine"


def _in_a_loop_of_its_own(dsn: str, registry: Registry) -> None:
    asyncio.run(attendant(dsn, registry, lease_seconds=0.6).run(horizon_seconds=0))


async def test_a_cancelled_run_gives_its_jobs_back(store: Store, dsn: str) -> None:
    registry = Registry()
    running = asyncio.Event()

    @registry.handler("noop")
    async def noop(request: Any) -> None:
        running.set()
        await asyncio.sleep(60)

    await store.enqueue_many([job("a")])
    task = asyncio.create_task(attendant(dsn, registry).run())
    await asyncio.wait_for(running.wait(), 10)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert (await known(store, "a")).status == "PENDING"
    assert await store.queue_page("default", 0, 9) == ["a"]
    assert await store.nodes() == {}


async def test_a_worker_taken_for_dead_begins_anew(store: Store, dsn: str) -> None:
    registry = Registry()

    @registry.handler("noop")
    async def noop(request: Any) -> None:
        return None

    alone = attendant(dsn, registry)
    task = asyncio.create_task(alone.run())

    async def open_workers() -> list[Any]:
        return await store.workers()

    (first,) = await until_async(open_workers, 10, "the worker")
    await store.close_worker(first.worker_id, reason="taken for dead", charge=Charge.NOBODY)
    await store.enqueue_many([job("a")])

    async def completed() -> bool:
        return (await known(store, "a")).status == "COMPLETED"

    await until_async(completed, 15, "its next incarnation to run the job")
    alone.stop()
    assert await task == "drained"


def test_in_a_thread_of_a_program_without_a_loop(dsn: str) -> None:
    ran = threading.Event()
    registry = Registry()

    @registry.handler("noop")
    def noop(request: Any) -> None:
        ran.set()

    async def ask() -> None:
        store = await Store.open(dsn, policy_of(Settings()), client_name="rrqd:test")
        await (await store.link()).call("FLUSHALL")
        await store.enqueue_many([job("a")])
        await store.close()

    asyncio.run(ask())
    background = Background(lambda: attendant(dsn, registry))
    assert background.start(timeout_seconds=10)
    assert ran.wait(10)
    background.stop()
    background.stop()
    assert background.join() == "drained"
    assert not background.is_alive


def test_a_stopped_burst_in_a_thread_says_what_went_wrong(dsn: str) -> None:
    def refuse() -> None:
        raise RuntimeError("no database")

    def make() -> Attendant:
        one = attendant(dsn, Registry())
        one._handlers = LoadedHandlers(Registry(), on_startup=refuse)
        return one

    background = Background(make)
    assert background.start(timeout_seconds=10)
    with pytest.raises(RuntimeError, match="no database"):
        background.join(10)


PROGRAM = """
import asyncio, sys
sys.path.insert(0, {root!r})
from tests.integration.test_standalone import attendant
from rrqd.registry import Registry
registry = Registry()
@registry.handler("noop")
async def noop(request):
    await asyncio.sleep(60)
asyncio.run(attendant({dsn!r}, registry, lease_seconds=1.0).run())
"""


async def test_a_killed_process_loses_nothing(store: Store, dsn: str) -> None:
    await store.enqueue_many([job("a")])
    program = PROGRAM.format(root=str(ROOT), dsn=dsn)
    process = subprocess.Popen(  # noqa: ASYNC220 -- it is killed, and outlives no await that matters
        [sys.executable, "-c", program], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:

        async def runs() -> bool:
            return (await known(store, "a")).status == "ACTIVE"

        await until_async(runs, 20, "the job to run")
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    registry = Registry()

    @registry.handler("noop")
    async def noop(request: Any) -> str:
        return "second"

    alone = attendant(dsn, registry, lease_seconds=1.0)
    task = asyncio.create_task(alone.run())

    async def completed() -> bool:
        return (await known(store, "a")).status == "COMPLETED"

    await until_async(completed, 15, "the job to run again")
    assert (await known(store, "a")).result == "second"
    alone.stop()
    await task


def test_it_waits_for_a_server_that_goes_away_and_comes_back(server: Server) -> None:
    registry = Registry()
    ran = threading.Event()

    @registry.handler("noop")
    def noop(request: Any) -> None:
        ran.set()

    background = Background(lambda: attendant(server.dsn, registry))
    assert background.start(timeout_seconds=10)
    server.stop()
    server.start()
    until(lambda: b"1" in server.ask("EXISTS", "rrqd:nodes"), 10, "the lease to be renewed")

    async def ask() -> None:
        store = await Store.open(server.dsn, policy_of(Settings()), client_name="rrqd:test")
        await store.enqueue_many([job("a")])
        await store.close()

    asyncio.run(ask())
    assert ran.wait(10)
    background.stop()
