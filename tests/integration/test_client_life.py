"""A client's life: shared by threads, tasks and loops, closed under their calls, forked; it leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest

import rrqd.client
from rrqd import clock
from rrqd.asking.life import LoopStore
from rrqd.client import MOST_JOBS, RRQClient, SyncRRQClient
from rrqd.exc import EnqueueFailed, JobExists
from rrqd.job import EnqueueReport
from rrqd.model.job import NewJob
from rrqd.store import Store
from tests.support.moves import raw
from tests.support.server import Server, free_port
from tests.support.wait import BUSY_SECONDS, until, until_async


@pytest.fixture
async def client(server: Server) -> AsyncIterator[RRQClient]:
    async with RRQClient(config={"redis_dsn": server.dsn}) as client:
        yield client


class Mute:
    """A server that takes connections and never says a word, or (``rude``) hangs up at once."""

    def __init__(self, *, rude: bool = False) -> None:
        self.connections = 0
        self._rude = rude
        self._ends: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Mute:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.client = RRQClient(config={"redis_dsn": f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"})
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.client.close()
        self._server.close()
        for end in self._ends:
            end.close()

    async def _take(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._ends.append(writer)
        if self._rude:
            writer.close()

    async def connected(self, count: int) -> None:
        async def heard() -> bool:
            return self.connections >= count

        await until_async(heard, 5, f"{count} connections")


def clients(server: Server) -> int:
    """Connections of clients, as the server sees them."""
    return server.ask("CLIENT", "LIST").count(b"name=rrqd:client:")


def no_clients(server: Server) -> None:
    until(lambda: clients(server) == 0, 5, "the connections to go")


def sync(server: Server, **options: Any) -> SyncRRQClient:
    return SyncRRQClient(config={"redis_dsn": server.dsn}, **options)


def talks_to(server: Server) -> bool:
    """Whether this process has a connection to it; for a paused one, which can't be asked."""
    links = psutil.Process().net_connections("tcp4")
    return any(link.raddr and link.raddr.port == server.port and link.status == "ESTABLISHED" for link in links)


async def ended(*calls: asyncio.Task[Any]) -> list[Any]:
    async with asyncio.timeout(5):
        return await asyncio.gather(*calls, return_exceptions=True)


def all_closed(ends: Iterable[Any]) -> bool:
    return all(isinstance(end, EnqueueFailed) and "closed" in str(end) for end in ends)


# Plain calls from many threads.


def test_a_close_ends_every_call_of_every_other_thread(server: Server) -> None:
    client = sync(server)
    calls, faults, over = [0] * 8, list[EnqueueFailed](), threading.Event()

    def call(thread: int) -> None:
        while not over.is_set():
            try:
                client.get_job_status("a")
            except EnqueueFailed as fault:
                faults.append(fault)
            calls[thread] += 1

    with ThreadPoolExecutor(8) as pool:
        ends = [pool.submit(call, thread) for thread in range(8)]
        for _ in range(30):
            goal = sum(calls) + 20
            until(lambda goal=goal: sum(calls) >= goal, 10, "the threads to go on")  # type: ignore[misc]
            client.close()
        over.set()
        for end in ends:
            end.result(10)

    assert all_closed(faults)
    client.close()
    no_clients(server)


def test_a_close_on_a_silent_server_ends_an_enqueue_and_tells_its_ids(server: Server) -> None:
    client = sync(server)
    server.pause()

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(client.enqueue, "send", {"job_id": "a"})
        many = pool.submit(client.enqueue_many, [("send", {"job_id": "b"}), ("send", {"job_id": "c"})])
        until(lambda: talks_to(server), 5, "a connection")
        began = clock.monotonic()
        client.close()
        faults = one.exception(5), many.exception(5)

    assert clock.monotonic() - began < 2 + BUSY_SECONDS
    assert all_closed(faults)
    assert [fault.job_ids for fault in faults if isinstance(fault, EnqueueFailed)] == [["a"], ["b", "c"]]


def test_what_yields_the_jobs_may_itself_use_the_client(server: Server) -> None:
    with sync(server) as client:

        def jobs() -> Iterator[tuple[str, Any]]:
            first = client.enqueue("send")
            for _ in range(3):
                yield "send", {"params": {"after": client.get_job(first) is not None}}

        with ThreadPoolExecutor(1) as pool:
            assert len(pool.submit(client.enqueue_many, jobs()).result(5)) == 3


def test_opening_and_closing_again_and_again_leaves_nothing_open(server: Server) -> None:
    def cycle() -> None:
        with sync(server) as client:
            client.enqueue("send", {"job_id": "a", "unique_key": "a"})
            client.wait_for_completion("a", timeout_seconds=0)

    cycle()
    process = psutil.Process()
    before = process.num_fds(), threading.active_count()

    for _ in range(20):
        cycle()

    assert (process.num_fds(), threading.active_count()) == before
    no_clients(server)


def test_a_close_while_connecting_leaves_nothing_open(server: Server) -> None:
    process = psutil.Process()
    server.pause()
    before = process.num_fds()

    client = sync(server)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.wait_for_completion, "a")
        until(lambda: talks_to(server), 5, "a connection")
        client.close()
        assert call.exception(5) is not None

    assert process.num_fds() == before


PROGRAM = """
import os, sys, threading
from rrqd.client import SyncRRQClient

client = SyncRRQClient(config={"redis_dsn": sys.argv[1]}, timeout_seconds=600)
"""
FORKING = """
over = threading.Event()

def call():
    while not over.is_set():
        client.get_job_status("a")

threads = [threading.Thread(target=call) for _ in range(4)]
for thread in threads:
    thread.start()
for child in range(20):
    pid = os.fork()
    if pid == 0:
        client.enqueue("send", {"job_id": f"child {child}"})
        client.close()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
over.set()
for thread in threads:
    thread.join()
"""
SILENT = """
threading.Thread(target=client.enqueue, args=["send"], daemon=True).start()
threading.Thread(target=client.wait_for_completion, args=["a"], daemon=True).start()
"""


def run_program(server: Server, rest: str) -> float:
    """How long a program took that uses a client, never closes it, and has nothing to complain of."""
    began = clock.monotonic()
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", PROGRAM + rest, server.dsn]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return clock.monotonic() - began


def test_children_forked_amid_the_calls_of_other_threads_have_a_client_that_works(server: Server) -> None:
    run_program(server, FORKING)

    assert server.ask("ZCARD", "rrq:queue:default") == b":20\r\n"
    no_clients(server)


def test_a_program_ends_at_once_though_its_client_still_waits_for_a_silent_server(server: Server) -> None:
    server.pause()

    assert run_program(server, SILENT) < 15  # the wait would last 30


# Waits keep their time.


@pytest.mark.parametrize("connected", [False, True])
async def test_many_waits_for_a_silent_server_end_in_time_together(
    client: RRQClient, server: Server, connected: bool
) -> None:
    if connected:
        assert await client.wait_for_completion("a", timeout_seconds=0) is None
    server.pause()
    began = clock.monotonic()

    async def wait(number: int) -> float:
        assert await client.wait_for_completion(f"{number}", timeout_seconds=1) is None
        return clock.monotonic() - began

    assert all(
        1 <= seconds < 1 + BUSY_SECONDS for seconds in await asyncio.gather(*(wait(number) for number in range(20)))
    )


async def test_waits_share_one_attempt_to_connect() -> None:
    async with Mute() as mute:
        waits = [mute.client.wait_for_completion(f"{number}", timeout_seconds=1) for number in range(20)]

        assert await asyncio.gather(*waits) == [None] * 20

        assert mute.connections == 1


async def test_a_wait_for_a_server_that_hangs_up_knocks_at_a_measured_pace() -> None:
    async with Mute(rude=True) as mute:
        assert await mute.client.wait_for_completion("a", timeout_seconds=1) is None

        assert 2 <= mute.connections < 20


# Close under the calls.


@pytest.mark.parametrize("connections", [1, 2])
async def test_a_close_while_connecting_ends_every_call_with_a_clear_word(connections: int) -> None:
    async with Mute() as mute:
        client = mute.client
        calls = [asyncio.create_task(client.wait_for_completion("a"))]
        if connections == 2:
            calls += [asyncio.create_task(call) for call in (client.get_job_status("a"), client.get_job_status("b"))]
            calls.append(asyncio.create_task(client.enqueue("send")))  # type: ignore[arg-type]
        await mute.connected(connections)

        await client.close()

        assert all_closed(await ended(*calls))
        assert mute.connections == connections


async def test_a_close_while_a_wait_looks_ends_it_with_a_clear_word(client: RRQClient, server: Server) -> None:
    assert await client.wait_for_completion("a", timeout_seconds=0) is None
    server.pause()
    wait = asyncio.create_task(client.wait_for_completion("a"))
    await asyncio.sleep(0)

    await client.close()

    assert all_closed(await ended(wait))


async def test_whoever_gives_up_while_connecting_leaves_the_attempt_to_the_others(
    client: RRQClient, server: Server
) -> None:
    server.pause()
    impatient = asyncio.create_task(client.get_job("a"))
    patient = asyncio.create_task(client.get_job("a"))
    await until_async(lambda: asyncio.to_thread(talks_to, server), 5, "a connection")
    impatient.cancel()
    server.resume()

    gave_up, answer = await ended(impatient, patient)

    assert isinstance(gave_up, asyncio.CancelledError)
    assert answer is None
    assert clients(server) == 1


async def test_a_call_that_was_about_to_try_again_does_not_connect_after_the_close() -> None:
    port = free_port()
    client = RRQClient(config={"redis_dsn": f"redis://127.0.0.1:{port}/0"})
    call = asyncio.create_task(client.enqueue("send"))
    await asyncio.sleep(0)
    await client.close()
    server = await asyncio.to_thread(Server, port=port)

    try:
        assert all_closed(await ended(call))
        assert clients(server) == 0
        assert server.ask("DBSIZE") == b":0\r\n"
    finally:
        server.remove()


# One client, many loops.


def test_a_loop_that_ends_takes_its_connections_with_it(server: Server) -> None:
    client = RRQClient(config={"redis_dsn": server.dsn})

    async def call() -> None:
        await client.enqueue("send", {"job_id": "a", "unique_key": "a"})
        await client.wait_for_completion("a", timeout_seconds=0)

    for _ in range(40):
        asyncio.run(call())
        no_clients(server)


def test_threads_with_loops_of_their_own_share_a_client(server: Server) -> None:
    client = RRQClient(config={"redis_dsn": server.dsn})

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: asyncio.run(client.enqueue("send")), range(80)))

    assert len(set(ids)) == 80
    no_clients(server)


def test_two_loops_in_turn_have_one_connection_each(server: Server) -> None:
    client = RRQClient(config={"redis_dsn": server.dsn})

    with asyncio.Runner() as one, asyncio.Runner() as other:
        for _ in range(20):
            one.run(client.enqueue("send"))
            other.run(client.enqueue("send"))
        assert clients(server) == 2

        one.run(client.close())
        until(lambda: clients(server) == 1, 5, "the closed connection to go")
        other.run(client.enqueue("send"))
    no_clients(server)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_loop_closed_without_a_word_is_forgotten(server: Server) -> None:
    client = RRQClient(config={"redis_dsn": server.dsn})

    for _ in range(10):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(client.enqueue("send"))
        loop.close()
    del loop
    asyncio.run(client.enqueue("send"))
    gc.collect()

    no_clients(server)


# What a failed enqueue tells.


async def test_a_failed_enqueue_tells_the_ids_it_made_up_and_may_be_repeated_with_them() -> None:
    port = free_port()
    client = RRQClient(config={"redis_dsn": f"redis://127.0.0.1:{port}/0"}, timeout_seconds=0.3)
    with pytest.raises(EnqueueFailed) as one:
        await client.enqueue("send")
    with pytest.raises(EnqueueFailed) as many:
        await client.enqueue_many([("send", None)] * 3)
    with pytest.raises(EnqueueFailed) as look:
        await client.get_job("a")

    assert look.value.job_ids == []
    assert len(set(one.value.job_ids + many.value.job_ids)) == 4
    assert f"job_id {one.value.job_ids[0]}; repeating" in str(one.value)
    assert f"job_id {many.value.job_ids[0]} and 2 more; repeating" in str(many.value)

    server = await asyncio.to_thread(Server, port=port)
    try:
        again = [("send", {"job_id": job_id}) for job_id in many.value.job_ids]
        assert await RRQClient(config={"redis_dsn": server.dsn}).enqueue_many(again) == many.value.job_ids
    finally:
        server.remove()


async def test_a_refused_enqueue_tells_its_ids(client: RRQClient, server: Server) -> None:
    server.ask("CONFIG", "SET", "maxmemory", "1")

    with pytest.raises(EnqueueFailed, match=r"OOM.* \(job_id a; ") as refused:
        await client.enqueue("send", {"job_id": "a"})

    assert refused.value.job_ids == ["a"]


# A great many jobs.


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many jobs were handed to the store together."""
    sizes: list[int] = []
    whole = Store.enqueue_many

    async def enqueue_many(store: Store, jobs: list[NewJob], *, repeated: bool = False) -> list[EnqueueReport]:
        sizes.append(len(jobs))
        return await whole(store, jobs, repeated=repeated)

    monkeypatch.setattr(LoopStore, "enqueue_many", enqueue_many)
    return sizes


async def test_a_great_many_jobs_go_part_by_part_and_keep_their_order(
    client: RRQClient, server: Server, parts: list[int]
) -> None:
    ids = await client.enqueue_many(("send", {"job_id": f"{n % 7}-{n}"}) for n in range(20_001))

    assert parts == [MOST_JOBS] * (20_000 // MOST_JOBS) + [1]
    assert ids == [f"{n % 7}-{n}" for n in range(20_001)]
    store = await Store.open(server.dsn, client._policy, client_name="rrqd:test")
    assert await raw(store, "ZRANGE", "rrq:queue:default", "0", "-1") == [job_id.encode() for job_id in ids]
    await store.close()


async def test_large_jobs_go_in_smaller_parts(
    client: RRQClient, parts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rrqd.client, "MOST_BYTES", 100)

    await client.enqueue_many(("send", {"params": {"text": "x" * size}}) for size in (30, 30, 30, 200, 1, 1, 60))

    assert parts == [2, 1, 1, 3]


async def test_an_id_that_is_taken_in_one_part_keeps_no_other_part_from_being_written(
    client: RRQClient, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rrqd.client, "MOST_JOBS", 2)
    await client.enqueue("other", {"job_id": "2"})

    with pytest.raises(JobExists, match="already exists: 2"):
        await client.enqueue_many(("send", {"job_id": f"{n}"}) for n in range(7))

    assert server.ask("ZCARD", "rrq:queue:default") == b":7\r\n"
