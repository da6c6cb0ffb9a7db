"""Tracking: every move of a tracked job is told, in order, to whoever listens; of others nothing is."""

from __future__ import annotations

import asyncio

import pytest

from rrqd.client import RRQClient, SyncRRQClient
from rrqd.model.lifecycle import End
from rrqd.store import Charge, Store
from rrqd.store.following import Follower, JobEvent
from tests.support.moves import hand, job, raw
from tests.support.server import Server


def follower(store: Store, last: int = 1000) -> Follower:
    return Follower(store.finder, store.keys, "rrqd:test", last=last)


async def told(store: Store, job_id: str) -> list[str]:
    return [event.event for event in await follower(store).before() if event.job_id == job_id]


@pytest.mark.parametrize(
    ("end", "word"),
    [
        (End.COMPLETE, "completed"), (End.RETRY, "retrying"), (End.SNOOZE, "snoozed"), (End.BURY, "buried"),
        (End.CANCEL, "cancelled"), (End.DIVERT, "diverted"),
    ],
)  # fmt: skip
async def test_each_end_of_a_run_is_told_once(store: Store, end: End, word: str) -> None:
    await store.enqueue_many([job("a", track=True), job("b")])
    worker = await hand(store)
    a, b = await worker.take()
    await worker.settle(a, end, error="boom")
    await worker.settle(a, end, error="boom")
    await worker.settle(b, end)

    events = await follower(store).before()
    assert [(event.job_id, event.event) for event in events] == [("a", "enqueued"), ("a", "claimed"), ("a", word)]
    assert (events[1].queue, events[1].worker) == ("default", "worker-1")
    assert (events[2].error, events[2].worker) == ("boom", "worker-1")


async def test_side_doors_are_told_too(store: Store) -> None:
    await store.enqueue_many([job(name, track=True) for name in "abcd"])
    worker = await hand(store)
    assert await store.cancel("d") == "cancelled"
    a, b, _ = await worker.take()
    await worker.settle(b, End.BURY)
    await store.revive(["b"])
    await store.cancel("a")
    await store.release("worker-1", [("a", a.token)], "drain")
    await store.close_worker("worker-1", reason="died", charge=Charge.NOBODY)

    assert await told(store, "a") == ["enqueued", "claimed", "cancel-asked", "cancelled"]
    assert await told(store, "b") == ["enqueued", "claimed", "buried", "revived"]
    assert await told(store, "c") == ["enqueued", "claimed", "released"]
    assert await told(store, "d") == ["enqueued", "cancelled"]


async def test_tracking_begins_and_ends_when_asked(store: Store) -> None:
    await store.enqueue_many([job("a")])
    assert await store.track("a") is True
    assert await store.track("a") is False
    assert (await store.tracked()).ids == ["a"]
    worker = await hand(store)
    (claimed,) = await worker.take()
    assert await store.untrack("a") is True
    assert await store.untrack("a") is False
    await worker.settle(claimed)

    assert await told(store, "a") == ["tracked", "claimed", "untracked"]
    assert (await store.tracked()).ids == []
    assert await store.track("nobody") is None


async def test_a_tracked_job_that_is_gone_leaves_the_list(store: Store) -> None:
    await store.enqueue_many([job("a", track=True), job("b", track=True)])
    await raw(store, "DEL", "rrq:job:a")

    assert (await store.tracked()).ids == ["b"]
    assert await store.untrack("a") is None
    assert await raw(store, "ZCARD", "rrqd:tracked") == 1


async def test_a_follower_hears_at_once(store: Store, dsn: str) -> None:
    async with RRQClient(config={"redis_dsn": dsn}) as client, asyncio.timeout(10):
        await client.enqueue("noop", {"track": True, "job_id": "before"})
        events = client.tracking.events(last=1)
        heard: list[JobEvent] = []
        async for event in events:
            heard.append(event)
            if event.job_id == "before" and event.event == "enqueued":
                await client.enqueue("noop", {"job_id": "now"})
                await client.tracking.track("now")
            if event.event == "tracked":
                await client.cancel("now")
            if event.event == "cancelled":
                events.close()
        assert [event.event for event in heard] == ["enqueued", "tracked", "cancelled"]


async def test_a_follower_misses_nothing_while_its_connection_is_lost(server: Server) -> None:
    async with RRQClient(config={"redis_dsn": server.dsn}) as client, asyncio.timeout(20):
        await client.enqueue("noop", {"track": True, "job_id": "a"})
        events = client.tracking.events(last=5)
        heard: list[str] = []
        async for event in events:
            heard.append(event.event)
            if event.event == "enqueued":
                server.ask("CLIENT", "KILL", "TYPE", "pubsub")
                await client.tracking.untrack("a")
                await client.tracking.track("a")
            if event.event == "tracked":
                events.close()
        assert heard == ["enqueued", "untracked", "tracked"]


def test_the_sync_client_follows(dsn: str) -> None:
    with SyncRRQClient(config={"redis_dsn": dsn}) as client:
        job_id = client.enqueue("noop", {"track": True})
        events = client.tracking.events(last=1)
        assert next(events).job_id == job_id
        assert client.tracking.untrack(job_id) is True
        assert next(events).event == "untracked"
        events.close()
        assert job_id not in client.tracking.jobs().ids
        assert client.tracking.track(job_id) is True
