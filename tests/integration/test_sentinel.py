"""Sentinel: the master is asked for by name, and a fail-over under load loses no job that was acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from rrqd.client import RRQClient
from rrqd.exc import EnqueueFailed, NotLetIn, StoreRefused, StoreUnavailable, StoreUnsupported
from rrqd.store import Store, StorePolicy
from tests.support.daemon import Daemon
from tests.support.sentinel import PASSWORD, Watched, watched
from tests.support.server import free_port
from tests.support.wait import until, until_async

JOBS = """
from rrqd.registry import Registry

registry = Registry()

@registry.handler("work")
async def work(request):
    return request.params["n"]
"""


@pytest.fixture(scope="module")
def family() -> Iterator[Watched]:
    with watched() as family:
        yield family


async def test_a_name_that_no_sentinel_knows_is_refused(family: Watched) -> None:
    dsn = f"redis+sentinel://127.0.0.1:{family.port}/other/0?sentinel_password={PASSWORD}"
    with pytest.raises(StoreRefused, match=rf"the Sentinel at 127.0.0.1:{family.port} knows no master named other"):
        await Store.open(dsn, StorePolicy(), client_name="x")


async def test_a_wrong_password_for_the_sentinel_is_said_of_the_sentinel(family: Watched) -> None:
    for word in ("", "?sentinel_password=guess"):
        with pytest.raises(NotLetIn, match=rf"Cannot log in at the Sentinel at 127.0.0.1:{family.port}") as caught:
            await Store.open(f"redis+sentinel://127.0.0.1:{family.port}/main/0{word}", StorePolicy(), client_name="x")
        assert "guess" not in str(caught.value)


async def test_no_sentinel_that_answers_is_said_with_all_places() -> None:
    first, second = free_port(), free_port()
    dsn = f"redis+sentinel://:secret@127.0.0.1:{first},127.0.0.1:{second}/main"
    with pytest.raises(StoreUnavailable, match=f"No Sentinel can tell where main is: .*{first}.*{second}") as caught:
        await Store.open(dsn, StorePolicy(), client_name="x")
    assert "secret" not in str(caught.value)


async def test_a_sentinel_taken_for_the_server_says_what_to_write(family: Watched) -> None:
    with pytest.raises(StoreUnsupported, match=r"is a Sentinel; write redis\+sentinel://127"):
        await Store.open(f"redis://:{PASSWORD}@127.0.0.1:{family.port}", StorePolicy(), client_name="x")


async def test_of_several_places_the_one_that_is_no_replica_is_taken(family: Watched) -> None:
    for ports in ((family.replica.port, family.master.port), (family.master.port, family.replica.port)):
        dsn = "redis://" + ",".join(f"127.0.0.1:{port}" for port in ports)
        store = await Store.open(dsn, StorePolicy(), client_name="x")
        assert (await store.info())["role"] == "master"
        await store.close()


async def test_an_enqueue_waits_for_its_replicas_and_fails_without_them(family: Watched) -> None:
    place = {"redis_dsn": family.dsn}
    async with RRQClient(config={**place, "enqueue_replicas": 1}) as client:
        assert await client.enqueue("work", {"queue_name": "aside", "params": {"n": 0}})
    async with RRQClient(config={**place, "enqueue_replicas": 2}, timeout_seconds=1.5) as client:
        with pytest.raises(EnqueueFailed, match="1 of 2 replicas have confirmed") as caught:
            await client.enqueue("work", {"queue_name": "aside", "params": {"n": 0}})
        assert len(caught.value.job_ids) == 1
        assert await client.get_job(caught.value.job_ids[0]) is not None


async def test_a_fail_over_under_load_loses_no_acknowledged_job(family: Watched) -> None:
    """The master is killed while jobs are enqueued and run; its replica takes over; it comes back as a replica."""
    config = {"redis_dsn": family.dsn, "enqueue_replicas": 1}
    done: list[str] = []
    enough = asyncio.Event()

    async def enqueue(client: RRQClient) -> None:
        while not enough.is_set():
            done.append(await client.enqueue("work", {"params": {"n": len(done)}}))

    with Daemon(
        {"default": {"processes": 2}}, stand_ins=False, jobs=JOBS, embedded="never", rrq={"redis_dsn": family.dsn}
    ) as daemon:
        daemon.expect_log("rrqd.ready", 40)
        async with RRQClient(config=config, timeout_seconds=30.0) as client:
            load = [asyncio.create_task(enqueue(client)) for _ in range(4)]
            await _more(done, 100)
            await asyncio.to_thread(family.master.stop, 9)
            await asyncio.to_thread(until, family.has_failed_over, 20, "the replica to take over")
            family.comes_back_as_replica()
            await _more(done, 200)
            enough.set()
            await asyncio.gather(*load)
            ends = [await client.wait_for_completion(job_id, timeout_seconds=20) for job_id in done]
        assert {end.status for end in ends if end is not None} == {"COMPLETED"}
        assert None not in ends
        assert not daemon.count_log("worker.died")
        assert daemon.stop() == 0


async def _more(done: list[str], number: int) -> None:
    """Wait for so many acknowledgements more."""
    wanted = len(done) + number

    async def there() -> bool:
        return len(done) >= wanted

    await until_async(there, 30, f"{number} acknowledgements more")
