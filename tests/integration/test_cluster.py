"""A namespace with a hash tag on a cluster: whichever node is named, the one with its slot does the work."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from rrqd.client import RRQClient
from rrqd.exc import StoreUnavailable, StoreUnsupported
from rrqd.job import JobStatus
from rrqd.store import Store, StorePolicy, listening
from rrqd.store.finding import slot_of
from tests.support.cluster import Cluster, cluster
from tests.support.daemon import Daemon
from tests.support.wait import until_async

JOBS = """
import asyncio
from rrqd.registry import Registry

registry = Registry()

@registry.handler("work")
async def work(request):
    return request.params["n"]

@registry.handler("long")
async def long(request):
    await asyncio.sleep(60)
"""
TAG = "{billing}"
OTHER_TAG = "{mail}"
SLOT = slot_of(TAG) or 0


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    with cluster() as formed:
        yield formed


@pytest.fixture(scope="module")
def daemon(nodes: Cluster) -> Iterator[Daemon]:
    """A daemon that was told of a node without the slot. It would look at its queues by itself only once a minute."""
    with Daemon(
        {"default": {"processes": 1}}, stand_ins=False, jobs=JOBS, embedded="never", idle_poll_seconds=60.0,
        rrq={"redis_dsn": wrong_door(nodes)}, namespace=TAG,
    ) as daemon:  # fmt: skip
        daemon.expect_log("rrqd.ready", 40)
        yield daemon


def wrong_door(nodes: Cluster) -> str:
    owner = nodes.owner(SLOT)
    return next(node.dsn for node in nodes.nodes if node is not owner)


def asking(nodes: Cluster, **more: object) -> RRQClient:
    return RRQClient(config={"redis_dsn": wrong_door(nodes), "namespace": TAG, **more}, timeout_seconds=30.0)


def test_all_keys_of_a_namespace_have_the_slot_of_its_hash_tag() -> None:
    assert slot_of("{user1000}.a:") == 3443  # CLUSTER KEYSLOT's own answer
    assert slot_of(TAG) == slot_of(f"a:{TAG}:b")
    assert slot_of("") is slot_of("billing:") is None


async def test_a_namespace_without_a_hash_tag_is_refused_with_what_to_write(nodes: Cluster) -> None:
    with pytest.raises(StoreUnsupported, match=r'needs a hash tag.*: \[rrqd\] namespace = "\{name\}"'):
        await Store.open(nodes.nodes[0].dsn, StorePolicy(), client_name="x")


async def test_every_node_may_be_named_and_dead_places_too(nodes: Cluster) -> None:
    owner = nodes.owner(SLOT).port
    for dsn in [node.dsn for node in nodes.nodes] + [f"redis://127.0.0.1:1,127.0.0.1:{nodes.nodes[0].port}/0"]:
        store = await Store.open(dsn, StorePolicy(namespace=TAG), client_name="x")
        assert (await store.info())["tcp_port"] == str(owner)
        await store.close()


async def test_jobs_are_heard_of_run_waited_for_and_cancelled(nodes: Cluster, daemon: Daemon) -> None:
    async with asking(nodes) as client:
        ids = await client.enqueue_many([("work", {"params": {"n": n}}) for n in range(20)])
        for n, job_id in enumerate(ids):
            end = await client.wait_for_completion(job_id, timeout_seconds=10)
            assert end is not None
            assert (end.status, end.result) == (JobStatus.COMPLETED, n)
        long = await client.enqueue("long")

        async def runs() -> bool:
            job = await client.get_job(long)
            return job is not None and job.status is JobStatus.ACTIVE

        await until_async(runs, 10, "the long job to run")
        assert await client.cancel(long) == "asked"
        end = await client.wait_for_completion(long, timeout_seconds=5)
        assert end is not None
        assert end.status is JobStatus.CANCELLED


async def test_a_listener_follows_the_slot_whose_queues_it_hears_of(
    nodes: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old node stays up, and would let it wait for ever; it was found by asking another one."""
    monkeypatch.setattr(listening, "LOOK_SECONDS", 0.1)
    slot = slot_of(OTHER_TAG) or 0
    old = nodes.owner(slot)
    wrong = next(node for node in nodes.nodes if node is not old)
    store = await Store.open(wrong.dsn, StorePolicy(namespace=OTHER_TAG), client_name="x")
    ear = listening.Ear(store.finder, store.keys, "x", lambda _: None)
    ready = asyncio.Event()
    task = asyncio.create_task(ear.listen(ready.set))
    await asyncio.wait_for(ready.wait(), 5)

    await asyncio.to_thread(nodes.move, slot, wrong)

    with pytest.raises(StoreUnavailable, match="MOVED"):
        await asyncio.wait_for(task, 5)
    await store.close()


async def test_a_slot_that_moves_under_load_is_followed_and_no_job_is_lost(nodes: Cluster, daemon: Daemon) -> None:
    moved = asyncio.Event()
    ids: list[str] = []

    async def enqueue(client: RRQClient) -> None:
        while not moved.is_set():
            ids.append(await client.enqueue("work", {"params": {"n": len(ids)}}))

    async with asking(nodes) as client:
        load = [asyncio.create_task(enqueue(client)) for _ in range(2)]
        old = nodes.owner(SLOT)
        new = next(node for node in nodes.nodes if node is not old)
        await asyncio.to_thread(nodes.move, SLOT, new)
        before = len(ids)

        async def goes_on() -> bool:
            return len(ids) > before + 50

        await until_async(goes_on, 20, "fifty jobs after the move")
        moved.set()
        await asyncio.gather(*load)
        ends = [await client.wait_for_completion(job_id, timeout_seconds=20) for job_id in ids]
    assert {None if end is None else end.status for end in ends} == {JobStatus.COMPLETED}
    assert not daemon.count_log("worker.died")
    assert daemon.stop() == 0
