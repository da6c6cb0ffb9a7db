"""The client for code without an event loop: many threads, plain calls, and no trace of it when the program ends."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Collection
from concurrent.futures import ThreadPoolExecutor

import pytest

from rrqd import clock
from rrqd.client import RRQClient, SyncRRQClient
from rrqd.exc import ClientError, InvalidRequest
from rrqd.job import JobResult
from rrqd.store import Store
from tests.support.moves import hand, raw
from tests.support.wait import BUSY_SECONDS, until, until_async


@pytest.fixture
def others() -> list[threading.Thread]:
    """The threads of clients that were there before this test's own client."""
    return service_threads(())


@pytest.fixture
async def client(store: Store, dsn: str) -> AsyncIterator[SyncRRQClient]:
    """A client of the empty server. Its calls are made in threads, as the tests themselves run in a loop."""
    client = SyncRRQClient(config={"redis_dsn": dsn})
    yield client
    await asyncio.to_thread(client.close)


def service_threads(others: Collection[threading.Thread]) -> list[threading.Thread]:
    """Threads of clients, but for those of earlier tests' clients in this process: some live as long as it does."""
    return [one for one in threading.enumerate() if one.name == "rrqd-client" and one not in others]


async def test_every_call_of_the_client_has_its_plain_twin() -> None:
    calls = {name for name, value in vars(RRQClient).items() if asyncio.iscoroutinefunction(value) and name[0] != "_"}

    assert calls == {name for name in vars(SyncRRQClient) if name[0] != "_"} - {"for_loops"}


async def test_a_job_goes_there_and_its_result_comes_back(client: SyncRRQClient, store: Store) -> None:
    job_id = await asyncio.to_thread(client.enqueue, "send", {"params": {"to": "ada"}})
    (claimed,) = await (worker := await hand(store)).take()
    await worker.settle(claimed, result=b"7")

    done = JobResult(status="COMPLETED", result=7)
    assert await asyncio.to_thread(client.wait_for_completion, job_id) == done
    assert await asyncio.to_thread(client.get_job_status, job_id) == done
    assert await asyncio.to_thread(client.cancel, job_id) == "too-late"


async def test_all_forms_of_enqueueing_are_there(client: SyncRRQClient, store: Store) -> None:
    def ask() -> list[str]:
        first = client.enqueue_with_unique_key("send", "k")
        assert client.enqueue_with_unique_key("send", "k") == first
        later = client.enqueue_deferred("send", {"defer_by_seconds": 60})
        return [first, *client.enqueue_many([("send", None), ("load", None)]), later]

    ids = await asyncio.to_thread(ask)

    assert await store.queue_page("default", 0, 10) == ids


async def test_an_error_is_raised_where_the_call_was_made(client: SyncRRQClient) -> None:
    with pytest.raises(InvalidRequest, match="unknown option"):
        await asyncio.to_thread(client.enqueue, "send", {"parms": 1})


async def test_many_threads_share_one_client_and_one_connection(
    others: list[threading.Thread], client: SyncRRQClient, store: Store
) -> None:
    def ask(thread: int) -> list[str]:
        ids = [client.enqueue("send", {"job_id": f"{thread}-{n}"}) for n in range(50)]
        assert all(client.get_job_status(job_id) is not None for job_id in ids)
        return ids

    with ThreadPoolExecutor(16) as pool:
        loop = asyncio.get_running_loop()
        parts = await asyncio.gather(*(loop.run_in_executor(pool, ask, thread) for thread in range(16)))

    assert sorted(await store.queue_page("default", 0, 1000)) == sorted(job_id for part in parts for job_id in part)
    assert (await raw(store, "CLIENT", "LIST")).count(b"rrqd:client:") == 1
    assert len(service_threads(others)) == 1


async def test_a_closed_client_leaves_no_thread_and_begins_anew_when_it_is_used(
    others: list[threading.Thread], client: SyncRRQClient, store: Store
) -> None:
    await asyncio.to_thread(client.enqueue, "send", {"job_id": "a"})
    await asyncio.to_thread(client.close)
    await asyncio.to_thread(client.close)
    await asyncio.to_thread(until, lambda: not service_threads(others), 5, "the thread to end")

    await asyncio.to_thread(client.enqueue, "send", {"job_id": "b"})

    assert await store.queue_page("default", 0, 10) == ["a", "b"]


async def test_a_close_ends_the_calls_of_other_threads(client: SyncRRQClient, store: Store) -> None:
    job_id = await asyncio.to_thread(client.enqueue, "send")
    wait = asyncio.create_task(asyncio.to_thread(client.wait_for_completion, job_id))

    async def listens() -> bool:
        return int((await store.info())["tracking_total_keys"]) == 1

    await until_async(listens, 5, "the wait to listen")
    began = clock.monotonic()
    await asyncio.to_thread(client.close)

    with pytest.raises(ClientError, match="closed"):
        await wait
    assert clock.monotonic() - began < 2 + BUSY_SECONDS


PROGRAM = """
import sys, threading
from rrqd.client import SyncRRQClient

client = SyncRRQClient(config={"redis_dsn": sys.argv[1]})
client.enqueue("send", {"job_id": sys.argv[2]})
"""


async def run_program(dsn: str, job_id: str, rest: str = "") -> tuple[int, str, float]:
    """Exit code, complaints and duration of a program that uses a client and never closes it."""
    began = clock.monotonic()
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", PROGRAM + rest, dsn, job_id]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr, clock.monotonic() - began


async def test_a_program_that_never_closes_its_client_ends_at_once_and_in_peace(store: Store, dsn: str) -> None:
    code, complaints, seconds = await run_program(dsn, "a")

    assert (code, complaints) == (0, "")
    assert seconds < 10
    assert await store.queue_page("default", 0, 10) == ["a"]


async def test_a_program_ends_although_a_thread_still_waits(store: Store, dsn: str) -> None:
    rest = """
threading.Thread(target=client.wait_for_completion, args=["a"], kwargs={"timeout_seconds": 600}, daemon=True).start()
"""
    code, complaints, seconds = await run_program(dsn, "a", rest)

    assert (code, complaints) == (0, "")
    assert seconds < 10


async def test_a_forked_child_gets_a_thread_and_a_connection_of_its_own(store: Store, dsn: str) -> None:
    rest = """
import os
pid = os.fork()
if pid == 0:
    client.enqueue("send", {"job_id": "child"})
    client.close()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
client.enqueue("send", {"job_id": "parent again"})
client.close()
"""
    code, complaints, _ = await run_program(dsn, "parent", rest)

    assert (code, complaints) == (0, "")
    assert await store.queue_page("default", 0, 10) == ["parent", "child", "parent again"]


async def test_a_child_that_closes_its_parents_client_does_not_hang(store: Store, dsn: str) -> None:
    rest = """
import os
pid = os.fork()
if pid == 0:
    client.close()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
client.enqueue("send", {"job_id": "parent again"})
"""
    code, complaints, seconds = await run_program(dsn, "parent", rest)

    assert (code, complaints) == (0, "")
    assert seconds < 5
    assert await store.queue_page("default", 0, 10) == ["parent", "parent again"]
