"""pause: nobody claims from a paused queue, from the next claim on, and that costs a claim no command."""

from __future__ import annotations

import asyncio
from typing import Any

from rrqd.config.settings import Settings
from rrqd.store import Store, StorePolicy
from rrqd.store.listening import Ear
from rrqd.upkeep.backlog import Backlog
from tests.support.moves import Hand, hand, job, place_of, raw


async def test_a_paused_queue_is_left_alone_and_its_neighbour_served(store: Store) -> None:
    worker = await hand(store, queues=["default", "mail"])
    await store.enqueue_many([job("a"), job("b", queue="mail")])

    assert await store.pause_queues(["default"]) == ["default"]

    assert [one.id for one in await worker.take()] == ["b"]
    assert await worker.take() == []
    assert await place_of(store, "a") == ["queue:default"]
    assert await store.resume_queues(["default"]) == ["default"]
    assert [one.id for one in await worker.take()] == ["a"]


async def test_jobs_with_wishes_wait_too(store: Store) -> None:
    """They lie in places of their own."""
    worker = await hand(store)
    await store.pause_queues(["default"])
    await store.enqueue_many(
        [job("prio", priority=5), job("later", priority=5, delay_ms=1), job("parent", queue="mail")]
    )
    await store.enqueue_many([job("child", parents=("parent",)), job("held", throttles=("t",))])
    assert await worker.take() == []

    mail = await hand(store, "worker-2", queues=["mail", "default"])
    (parent,) = await mail.take()
    await mail.settle(parent)

    assert await mail.take() == []
    await store.resume_queues(["default"])
    assert {one.id for one in await worker.take()} == {"prio", "later", "child", "held"}


async def test_whoever_opens_while_it_is_paused_leaves_it_alone_too(store: Store) -> None:
    await store.enqueue_many([job("a")])
    await store.pause_queues(["default"])

    worker = await hand(store, "latecomer")

    assert await worker.take() == []
    await store.resume_queues(["default"])
    assert len(await worker.take()) == 1


async def test_what_runs_goes_on_and_may_be_retried_into_the_paused_queue(store: Store) -> None:
    worker = await hand(store)
    await store.enqueue_many([job("a")])
    (a,) = await worker.take()

    await store.pause_queues(["default"])

    assert await worker.settle(a) == "ok"


async def test_pausing_twice_is_pausing_once_and_it_is_known_since_when(store: Store) -> None:
    await store.pause_queues(["default"])
    since = await store.paused_queues()

    assert await store.pause_queues(["default", "mail"]) == ["mail"]

    assert (await store.paused_queues())["default"] == since["default"]
    assert {one.name: one.paused for one in await store.queue_depths(["default", "mail", "other"])} == {
        "default": True, "mail": True, "other": False,
    }  # fmt: skip
    assert await store.resume_queues(["other"]) == []


async def test_a_paused_queue_has_no_next_due_time(store: Store) -> None:
    """Or an idle worker would ask again and again at that time."""
    worker = await hand(store)
    await store.enqueue_many([job("a", delay_ms=50)])
    await store.pause_queues(["default"])

    claim = await worker.claim()

    assert (claim.next_due_ms, claim.full) == (None, False)


async def test_a_claim_pays_no_command_for_it(store: Store) -> None:
    async def commands(worker: Hand) -> int:
        before = (await store.info())["total_commands_processed"]
        await worker.claim()
        return int((await store.info())["total_commands_processed"]) - int(before)

    worker = await hand(store)
    plain = await commands(worker)
    await store.pause_queues(["elsewhere"])

    assert await commands(worker) == plain
    assert await raw(store, "HGET", store.keys.worker("worker-1"), "paused") == b'{"elsewhere":1}'
    await store.resume_queues(["elsewhere"])
    assert await raw(store, "HEXISTS", store.keys.worker("worker-1"), "paused") == 0


async def test_idle_workers_hear_of_it_at_once(store: Store) -> None:
    """A resumed queue's jobs wait for no poll."""
    heard = asyncio.Event()
    ready = asyncio.Event()
    ear = Ear(store.finder, store.keys, "rrqd:test-ear", lambda _: None, heard.set)
    listening = asyncio.create_task(ear.listen(ready.set))
    try:
        await asyncio.wait_for(ready.wait(), 5)
        await store.pause_queues(["default"])
        await asyncio.wait_for(heard.wait(), 5)
        heard.clear()
        await store.resume_queues(["default"])
        await asyncio.wait_for(heard.wait(), 5)
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_jobs_that_wait_because_somebody_wants_it_call_for_no_more_workers(store: Store) -> None:
    told: list[dict[str, Any]] = []
    pools = {"default": {"queues": ["default"], "handlers": "x:y", "max_processes": 3}}
    backlog = Backlog(store, Settings.model_validate({"rrqd": {"pools": pools}}), told.append)
    await store.enqueue_many([job("a")])
    await raw(store, "ZADD", "rrq:queue:default", 1, "a")

    await backlog.run_once(0.0)
    await store.pause_queues(["default"])
    await backlog.run_once(1.0)

    assert [one["oldest_seconds"]["default"] > 0 for one in told] == [True, False]


async def test_a_namespace_pauses_its_own_queues_only(store: Store, dsn: str) -> None:
    other = await Store.open(dsn, StorePolicy(namespace="{other}"), client_name="rrqd:test")
    worker = await hand(store)
    await store.enqueue_many([job("a")])

    await other.pause_queues(["default"])

    assert len(await worker.take()) == 1
    await other.close()
