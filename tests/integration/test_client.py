"""The client, from asking to the answer, against a real server and a worker moved by hand."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from rrqd import clock
from rrqd.client import RRQClient
from rrqd.dsn import Endpoint
from rrqd.exc import ClientError, EnqueueFailed, InvalidRequest, JobExists
from rrqd.job import JobResult
from rrqd.model.lifecycle import End
from rrqd.store import Store, StorePolicy
from tests.support.moves import Hand, hand, known, place_of, raw
from tests.support.server import Server, free_port
from tests.support.wait import BUSY_SECONDS, until_async


@pytest.fixture
async def client(store: Store, dsn: str) -> AsyncIterator[RRQClient]:
    """A client of the empty server."""
    async with RRQClient(config={"redis_dsn": dsn}) as client:
        yield client


class Watch:
    """How long something took."""

    def __enter__(self) -> Watch:
        self.began = clock.monotonic()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.seconds = clock.monotonic() - self.began


async def finish(worker: Hand, end: End = End.COMPLETE, **words: Any) -> list[str]:
    """The worker ends everything that is due."""
    jobs = await worker.take(1000)
    for claimed in jobs:
        assert await worker.settle(claimed, end, **words) == "ok"
    return [claimed.id for claimed in jobs]


async def waiting_for(store: Store, count: int) -> None:
    """Until the server knows that so many waits listen."""

    async def heard() -> bool:
        stats = await store.info()
        return int(stats["tracking_total_keys"]) >= count

    await until_async(heard, 5, f"{count} waits to listen")


# Enqueue.


async def test_a_job_goes_from_the_client_to_a_worker_and_its_result_back(client: RRQClient, store: Store) -> None:
    job_id = await client.enqueue("send", {"params": {"to": "ada"}, "max_retries": 2, "job_timeout_seconds": 9})

    (claimed,) = await (worker := await hand(store)).take()
    assert (claimed.id, claimed.function, claimed.params) == (job_id, "send", {"to": "ada"})
    assert (claimed.max_retries, claimed.timeout_seconds) == (2, 9)
    await worker.settle(claimed, result=b'{"sent":1}')

    assert await client.wait_for_completion(job_id) == JobResult(status="COMPLETED", result={"sent": 1})


async def test_a_unique_key_gives_the_first_jobs_id(client: RRQClient, store: Store) -> None:
    first = await client.enqueue_with_unique_key("send", "key", {"params": {"n": 1}})

    assert await client.enqueue_with_unique_key("send", "key", {"params": {"n": 2}}) == first
    assert await client.enqueue("send", {"unique_key": "key", "job_id": "mine"}) == first
    assert await client.enqueue_with_unique_key("send", "other key") != first
    assert len(await store.queue_page("default", 0, 10)) == 2


async def test_deferred_jobs_come_in_the_order_in_which_they_are_due(client: RRQClient, store: Store) -> None:
    await client.enqueue_deferred("send", {"job_id": "third", "defer_by_seconds": 3600})
    await client.enqueue_deferred("send", {"job_id": "second", "defer_until": clock.wall() + timedelta(minutes=30)})
    await client.enqueue("send", {"job_id": "first"})
    await client.enqueue_deferred("send", {"job_id": "long due", "defer_until": "2020-01-01T00:00:00Z"})

    assert await store.queue_page("default", 0, 10) == ["long due", "first", "second", "third"]
    assert await finish(await hand(store)) == ["long due", "first"]


async def test_many_jobs_keep_their_order_and_their_ids(client: RRQClient, store: Store) -> None:
    named: list[tuple[str, Any]] = [("send", {"job_id": f"{n % 3}-{n}"}) for n in range(1200)]

    ids = await client.enqueue_many([*named, ("load", None)])

    assert ids[:-1] == [options["job_id"] for _, options in named]
    assert await store.queue_page("default", 0, 2000) == ids


async def test_calls_made_together_keep_their_order(client: RRQClient, store: Store) -> None:
    ids = await asyncio.gather(*(client.enqueue("send") for _ in range(300)))

    assert await store.queue_page("default", 0, 500) == ids


async def test_of_many_jobs_none_is_written_when_one_is_wrong(client: RRQClient, store: Store) -> None:
    with pytest.raises(InvalidRequest, match="unknown option 'parms'; did you mean 'params'"):
        await client.enqueue_many([("send", None), ("send", {"parms": {}})])

    assert await store.queue_page("default", 0, 10) == []
    assert await client.enqueue_many([]) == []


async def test_an_id_that_is_taken_is_refused_and_its_job_stays_as_it_is(client: RRQClient, store: Store) -> None:
    await client.enqueue("send", {"job_id": "a", "params": {"n": 1}})

    with pytest.raises(JobExists, match="job_id already exists: a"):
        await client.enqueue("send", {"job_id": "a", "params": {"n": 2}})
    assert (await known(store, "a")).params == {"n": 1}


async def test_the_clients_own_settings_are_written_into_its_jobs(store: Store, dsn: str) -> None:
    config = {
        "redis_dsn": dsn, "queue_name": "mail", "max_retries": 2, "job_timeout_seconds": 9, "result_ttl_seconds": 8,
        "idempotency_ttl_seconds": 77, "correlation_mappings": {"user": "params.user.id"},
    }  # fmt: skip
    async with RRQClient(config=config) as client:
        job_id = await client.enqueue("send", {"unique_key": "k", "params": {"user": {"id": 7}}})

    fields = (await known(store, job_id)).fields
    assert [fields[name] for name in ("max_retries", "job_timeout_seconds", "result_ttl_seconds")] == ["2", "9", "8"]
    assert fields["correlation_context"] == '{"user":"7"}'
    assert await place_of(store, job_id) == ["queue:mail"]
    assert 70 < await raw(store, "TTL", "rrq:idempotency:k") <= 77


# Look.


async def test_a_status_tells_where_a_job_stands(client: RRQClient, store: Store) -> None:
    job_id = await client.enqueue("send")
    assert await client.get_job_status(job_id) == JobResult(status="PENDING")

    (claimed,) = await (worker := await hand(store)).take()
    assert await client.get_job_status(job_id) == JobResult(status="ACTIVE")

    await worker.settle(claimed, End.BURY, error="boom")
    assert await client.get_job_status(job_id) == JobResult(status="FAILED", last_error="boom")
    assert await client.get_job_status("nobody") is None
    assert await client.get_job("nobody") is None


# Wait.


async def test_three_hundred_waits_on_one_client_all_end(client: RRQClient, store: Store) -> None:
    ids = await client.enqueue_many([("send", None)] * 300)
    waits = [asyncio.create_task(client.wait_for_completion(job_id, timeout_seconds=20)) for job_id in ids]
    await waiting_for(store, 300)

    with Watch() as watch:
        await finish(await hand(store), result=b"7")
        ends = await asyncio.gather(*waits)

    assert ends == [JobResult(status="COMPLETED", result=7)] * 300
    assert watch.seconds < 5 + BUSY_SECONDS
    assert (await raw(store, "CLIENT", "LIST")).count(b"rrqd:client:") == 2


async def test_a_wait_is_woken_by_whoever_settles(client: RRQClient, store: Store) -> None:
    job_id = await client.enqueue("send")
    wait = asyncio.create_task(client.wait_for_completion(job_id))
    await waiting_for(store, 1)

    with Watch() as watch:  # as a real RRQ worker does it
        await raw(store, "HSET", f"rrq:job:{job_id}", "result", '"foreign"', "status", "COMPLETED")
        await raw(store, "XADD", f"rrq:events:job:{job_id}", "*", "event", "completed")
        assert await wait == JobResult(status="COMPLETED", result="foreign")

    assert watch.seconds < BUSY_SECONDS


async def test_a_job_that_is_not_there_yet_is_waited_for(client: RRQClient, store: Store) -> None:
    wait = asyncio.create_task(client.wait_for_completion("later"))
    await waiting_for(store, 1)

    await client.enqueue("send", {"job_id": "later"})
    await finish(await hand(store))

    assert (await wait or JobResult(status="UNKNOWN")).status == "COMPLETED"


@pytest.mark.parametrize(("end", "status"), [(End.BURY, "FAILED"), (End.CANCEL, "CANCELLED")])
async def test_a_wait_ends_with_every_end_of_a_job(client: RRQClient, store: Store, end: End, status: str) -> None:
    job_id = await client.enqueue("send")
    await finish(await hand(store), end, error="boom")

    assert await client.wait_for_completion(job_id) == JobResult(status=status, last_error="boom")


async def test_a_retry_does_not_end_a_wait(client: RRQClient, store: Store) -> None:
    job_id = await client.enqueue("send")
    wait = asyncio.create_task(client.wait_for_completion(job_id))
    worker = await hand(store)
    await finish(worker, End.RETRY)
    await waiting_for(store, 1)
    assert not wait.done()

    await finish(worker)

    assert (await wait or JobResult(status="UNKNOWN")).status == "COMPLETED"


@pytest.mark.parametrize("seconds", [0.0, 0.3])
async def test_a_wait_lasts_as_long_as_it_was_told(client: RRQClient, store: Store, seconds: float) -> None:
    job_id = await client.enqueue("send")

    with Watch() as watch:
        assert await client.wait_for_completion(job_id, timeout_seconds=seconds) is None

    assert seconds <= watch.seconds < seconds + BUSY_SECONDS
    await finish(await hand(store))
    assert await client.wait_for_completion(job_id, timeout_seconds=0) is not None


async def test_waits_live_through_a_restart_of_the_server(server: Server) -> None:
    store = Store(Endpoint.parse(server.dsn), StorePolicy(), client_name="rrqd:test")
    async with RRQClient(config={"redis_dsn": server.dsn}) as client:
        ids = await client.enqueue_many([("send", None)] * 20)
        waits = [asyncio.create_task(client.wait_for_completion(job_id, timeout_seconds=20)) for job_id in ids]
        await waiting_for(store, 20)
        await store.close()

        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        await finish(await hand(store))

        assert [(await wait or JobResult(status="UNKNOWN")).status for wait in waits] == ["COMPLETED"] * 20
    await store.close()


async def test_a_wait_for_a_silent_server_ends_in_time(server: Server) -> None:
    async with RRQClient(config={"redis_dsn": server.dsn}) as client:
        job_id = await client.enqueue("send")
        server.pause()

        with Watch() as watch:
            assert await client.wait_for_completion(job_id, timeout_seconds=1.5) is None

        assert 1.5 <= watch.seconds < 1.5 + BUSY_SECONDS


# Cancel.


async def test_a_waiting_job_is_cancelled_and_a_running_one_is_asked(client: RRQClient, store: Store) -> None:
    job_id = await client.enqueue("send")
    assert await client.cancel(job_id) == "cancelled"
    assert await client.wait_for_completion(job_id) == JobResult(status="CANCELLED")

    job_id = await client.enqueue("send")
    (claimed,) = await (worker := await hand(store)).take()
    assert await client.cancel(job_id) == "asked"
    await worker.settle(claimed, End.CANCEL)
    assert await client.cancel(job_id) == "cancelled"
    assert await client.cancel("nobody") == "unknown"


# The server goes away.


async def test_a_job_asked_for_while_the_server_is_away_is_written_once(server: Server) -> None:
    async with RRQClient(config={"redis_dsn": server.dsn}, timeout_seconds=20) as client:
        await client.enqueue("send", {"job_id": "before"})
        await asyncio.to_thread(server.stop)
        asked = [asyncio.create_task(client.enqueue("send", {"job_id": n, "unique_key": n})) for n in "01234"]

        await asyncio.to_thread(server.start)

        assert await asyncio.gather(*asked) == list("01234")
        store = await Store.open(server.dsn, StorePolicy(), client_name="rrqd:test")
        assert sorted(await store.queue_page("default", 0, 10)) == ["0", "1", "2", "3", "4", "before"]
        await store.close()


async def test_connections_that_are_cut_again_and_again_lose_and_double_no_job(client: RRQClient, store: Store) -> None:
    ids: list[str] = []
    for _ in range(30):
        calls = [asyncio.create_task(client.enqueue("send", {"unique_key": f"{len(ids) + n}"})) for n in range(10)]
        await raw(store, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        ids += await asyncio.gather(*calls)

    assert len(set(ids)) == 300
    assert sorted(await store.queue_page("default", 0, 1000)) == sorted(ids)


async def test_a_server_that_is_not_there_is_given_up_in_time_and_not_before() -> None:
    client = RRQClient(config={"redis_dsn": f"redis://:secret@127.0.0.1:{free_port()}/0"}, timeout_seconds=1.5)

    with Watch() as watch, pytest.raises(EnqueueFailed, match=r"gave up after 1\.5 s: Cannot reach redis://:\*\*\*@"):
        await client.enqueue("send")

    assert 1.5 <= watch.seconds < 1.5 + BUSY_SECONDS


@pytest.mark.parametrize("error", [InvalidRequest, JobExists, EnqueueFailed])
def test_every_error_of_a_call_is_a_value_error(error: type[Exception]) -> None:
    assert issubclass(error, ClientError)
    assert issubclass(error, ValueError)


@pytest.mark.parametrize("connected", [True, False])
async def test_a_silent_server_is_given_up_in_time_and_not_before(server: Server, connected: bool) -> None:
    async with RRQClient(config={"redis_dsn": server.dsn}, timeout_seconds=1.5) as client:
        if connected:
            await client.enqueue("send")
        server.pause()

        with Watch() as watch, pytest.raises(EnqueueFailed, match=r"gave up after 1\.5 s: "):
            await client.enqueue("send")

        assert 1.5 <= watch.seconds < 1.5 + BUSY_SECONDS


async def test_a_full_server_is_no_reason_to_go_on_asking(client: RRQClient, store: Store) -> None:
    await raw(store, "CONFIG", "SET", "maxmemory", "1")
    try:
        with Watch() as watch, pytest.raises(EnqueueFailed, match="OOM"):
            await client.enqueue("send")
    finally:
        await raw(store, "CONFIG", "SET", "maxmemory", "0")

    assert watch.seconds < BUSY_SECONDS


# Loops, processes, the end.


async def test_a_closed_client_connects_anew_when_it_is_used(client: RRQClient, store: Store) -> None:
    await client.enqueue("send", {"job_id": "a"})
    await client.close()
    await client.close()

    await client.enqueue("send", {"job_id": "b"})

    assert await store.queue_page("default", 0, 10) == ["a", "b"]
    assert (await raw(store, "CLIENT", "LIST")).count(b"rrqd:client:") == 1


async def test_a_close_ends_the_waits_that_are_under_way(client: RRQClient, store: Store) -> None:
    job_id = await client.enqueue("send")
    wait = asyncio.create_task(client.wait_for_completion(job_id))
    await waiting_for(store, 1)

    await client.close()

    with pytest.raises(ClientError, match="closed"):
        await wait


async def test_a_close_ends_calls_that_are_under_way(server: Server) -> None:
    client = RRQClient(config={"redis_dsn": server.dsn})
    await client.enqueue("send")
    server.pause()
    call = asyncio.create_task(client.enqueue("send"))
    await asyncio.sleep(0)

    await client.close()

    with pytest.raises(ClientError, match="the client was closed before the answer came"):
        await call


def test_one_client_serves_two_event_loops_one_after_the_other(dsn: str) -> None:
    client = RRQClient(config={"redis_dsn": dsn})

    async def both() -> str | None:
        job_id = await client.enqueue("send")
        wait = await client.wait_for_completion(job_id, timeout_seconds=0)
        return job_id if wait is None else None

    assert asyncio.run(both()) != asyncio.run(both())
    asyncio.run(client.close())


FORKING = """
import asyncio, os, sys
from rrqd.client import RRQClient

client = RRQClient(config={"redis_dsn": sys.argv[1]})

def enqueue(job_id):
    asyncio.run(client.enqueue("send", {"job_id": job_id}))

enqueue("parent")
pid = os.fork()
if pid == 0:
    enqueue("child")
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
enqueue("parent again")
"""


async def test_a_forked_child_may_use_its_parents_client(store: Store, dsn: str) -> None:
    program = [sys.executable, "-W", "ignore", "-c", FORKING, dsn]
    done = await asyncio.to_thread(subprocess.run, program, capture_output=True, text=True, timeout=30)

    assert (done.returncode, done.stderr) == (0, "")
    assert await store.queue_page("default", 0, 10) == ["parent", "child", "parent again"]


# Where the server is.


def test_a_configuration_that_cannot_be_right_is_refused_before_anything_is_sent() -> None:
    place = {"redis_dsn": "redis://h"}
    for config, sentence in (
        ({}, "config needs a redis_dsn"),
        ({"redis_dsn": 5}, "config needs a redis_dsn"),
        ({"redis_dsn": "http://u:secret@h"}, "redis_dsn http://u:\\*\\*\\*@h must start with redis://"),
        ({**place, "max_retrys": 3}, "unknown config key 'max_retrys'; known are redis_dsn, "),
        ({**place, "max_retries": "3"}, "config: Expected `int | null`, got `str` - at `\\$.max_retries`"),
        ({**place, "correlation_mappings": {"a": 1}}, "config: Expected `str`, got `int`"),
        ({**place, "namespace": None}, "config: Expected `str`, got `null`"),
        ({**place, "queue_name": " "}, "queue_name cannot be blank"),
    ):
        with pytest.raises(ValueError, match=sentence) as caught:
            RRQClient(config=config)
        assert "secret" not in str(caught.value)
    with pytest.raises(ValueError, match="either config or config_path, not both"):
        RRQClient(config=place, config_path="rrq.toml")


async def test_the_file_of_the_daemon_is_the_clients_too(
    store: Store, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "rrq.toml"
    file.write_text(f'[rrq]\nredis_dsn = "{dsn}"\ndefault_queue_name = "mail"\n[rrqd]\nmax_params_bytes = 20\n')
    monkeypatch.setenv("RRQ_CONFIG", str(file))

    for number, client in enumerate((RRQClient(config_path=str(file)), RRQClient())):
        await client.enqueue("send", {"job_id": f"{number}"})
        with pytest.raises(InvalidRequest, match="the limit is 20"):
            await client.enqueue("send", {"params": {"text": "x" * 20}})
        await client.close()

    assert await store.queue_page("mail", 0, 10) == ["0", "1"]


async def test_a_namespace_keeps_its_jobs_to_itself(client: RRQClient, store: Store, dsn: str) -> None:
    async with RRQClient(config={"redis_dsn": dsn, "namespace": "{billing}:"}) as other:
        job_id = await other.enqueue("send")
        assert await other.get_job(job_id) is not None

    assert await client.get_job(job_id) is None
    assert await raw(store, "EXISTS", f"{{billing}}:rrq:job:{job_id}") == 1
