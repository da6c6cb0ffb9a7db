"""Defects of RRQ 0.11.1 (numbered as in docs/migrating-from-rrq.md) that show in a running worker: how it is here.

The others stand in ``test_w_store.py``, and with the runners and the clock.
"""

from __future__ import annotations

import asyncio
import json
import os
import urllib.request
from collections.abc import AsyncIterator, Iterator
from signal import SIGKILL, SIGTERM
from typing import Any

import psutil
import pytest

from rrqd.client import RRQClient
from rrqd.store import Store, StorePolicy
from tests.support.app import App, app, whole
from tests.support.daemon import Daemon
from tests.support.moves import raw
from tests.support.server import Server
from tests.support.wait import BUSY_SECONDS, until, until_async

NOW = "2026-01-01T00:00:00+00:00"
ONCE = {"max_retries": 1}


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Daemon, Server]]:
    """One daemon on a server of its own, for all whom nobody needs to stop."""
    server = Server()
    try:
        daemon = whole(http=True, embedded="never", rrq={"redis_dsn": server.dsn})
        daemon.pools["default"]["queues"] = ["default", "mail"]
        daemon.write_config()
        with daemon:
            daemon.expect_log("rrqd.ready")
            yield daemon, server
    finally:
        server.remove()


@pytest.fixture
async def a(shared: tuple[Daemon, Server]) -> AsyncIterator[App]:
    async with app(shared[0], shared[1].dsn) as found:
        yield found


@pytest.fixture
async def behind(shared: tuple[Daemon, Server]) -> AsyncIterator[Store]:
    """The store behind the daemon."""
    store = await Store.open(shared[1].dsn, StorePolicy(), client_name="rrqd:test")
    yield store
    await store.close()


async def plant(store: Store, job_id: str, *queues: str, **fields: Any) -> None:
    """A job as a real producer writes one, in these queues."""
    base = {
        "id": job_id, "function_name": "told", "enqueue_time": NOW, "status": "PENDING",
        "queue_name": f"rrq:queue:{queues[0]}", **fields,
    }  # fmt: skip
    await raw(store, "HSET", f"rrq:job:{job_id}", *[str(word) for pair in base.items() for word in pair])
    for queue in queues:
        await raw(store, "ZADD", f"rrq:queue:{queue}", 1, job_id)


async def test_w01_lost_connections_stop_nobody(a: App, behind: Store) -> None:
    """There: one lost connection ends the worker, silently, with exit code 0."""
    runs = await a.tell("sleep", seconds=0.5)
    await a.running([runs])
    before = {pid for name, pid in a.daemon.children().items() if name.startswith("worker")}

    await raw(behind, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    ids = [runs, *[await a.tell() for _ in range(5)]]
    assert await a.ends(ids) == {"COMPLETED": 6}
    assert {pid for name, pid in a.daemon.children().items() if name.startswith("worker")} == before


async def test_w02_jobs_of_a_killed_worker_run_again_at_once_and_a_killer_does_not_kill_for_ever(a: App) -> None:
    """There: they wait for the job's timeout and a minute, and a job that kills its worker does so for ever."""
    job_id = await a.tell("sleep", seconds=1, options={"job_timeout_seconds": 3600})
    (running,) = await a.running([job_id])
    name, pid = next(
        (name, pid)
        for name, pid in a.daemon.workers().items()
        if f"_{name.split()[1].replace('/', '.')}_" in running.fields["worker_id"]
    )
    until(lambda: a.starts().get(job_id) == 1, 10, "its handler to have begun")
    os.kill(pid, SIGKILL)
    assert (await a.end(job_id, 10)).status == "COMPLETED"
    assert a.starts()[job_id] == 2
    killer = await a.tell("kill")
    assert (await a.end(killer, 40)).status == "FAILED"
    assert "Poison" in ((await a.job(killer)).last_error or "")
    until(lambda: name.rpartition(" ")[0] in " ".join(a.daemon.workers()), 10, "somebody in its place")


async def test_w03_a_job_that_no_script_can_handle_costs_only_itself(a: App, behind: Store) -> None:
    """There: each worker that meets it dies, with all jobs of the same call."""
    await raw(behind, "SET", "rrq:job:wrong type", "not a hash")
    await raw(behind, "ZADD", "rrq:queue:default", 1, "wrong type")
    await plant(behind, "endless", "default", job_timeout_seconds=10**15)

    assert await a.ends([await a.tell() for _ in range(5)]) == {"COMPLETED": 5}
    assert "max_job_timeout_seconds" in ((await a.end("endless")).last_error or "")
    a.daemon.expect_log("job.set_aside", job_id="wrong type")


async def test_w05_many_waits_on_one_client_and_an_enqueue_beside_them(a: App) -> None:
    """There: four waits at a time all time out, and an enqueue meanwhile fails though the job was made."""
    loop = asyncio.get_running_loop()
    a.close()
    ids = await a.held(20)
    waits = [asyncio.create_task(a.client.wait_for_completion(i, block_interval_seconds=5.0)) for i in ids]
    began = loop.time()
    beside = await a.tell(options={"queue_name": "elsewhere"})
    assert loop.time() - began < 1.0 + BUSY_SECONDS
    assert not any(wait.done() for wait in waits)
    a.let_go()
    assert {end.status for end in await asyncio.gather(*waits) if end} == {"COMPLETED"}
    status = await a.client.get_job_status(beside)
    assert status is not None
    assert status.status == "PENDING"


async def test_w06_timeouts_are_retried_and_waiting_for_a_slot_is_no_part_of_one(a: App) -> None:
    """There: a timeout is final, also a TimeoutError of the handler's own; a job that waited too long never runs."""
    own = await a.tell("timeout error", options={"max_retries": 2})
    slow = await a.tell("sleep", seconds=60, options={"job_timeout_seconds": 1, "max_retries": 2})
    await a.ends([own, slow])
    assert (a.starts()[own], a.starts()[slow]) == (2, 2)
    busy = [await a.tell("sleep", seconds=1.5) for _ in range(20)]  # every slot
    await a.running(busy)
    starved = await a.tell(options={"job_timeout_seconds": 1, **ONCE})
    assert await a.ends([*busy, starved]) == {"COMPLETED": 21}


async def test_w10_a_result_that_is_no_json_is_an_error_with_its_type_and_place(a: App) -> None:
    """There: no answer at all until the job's timeout; errors have no type and no traceback."""
    strange, broken = await a.tell("object", options=ONCE), await a.tell("fail", options=ONCE)
    await a.ends([strange, broken])
    assert "object" in ((await a.job(strange)).last_error or "")
    error = (await a.job(broken)).error or {}
    assert (error["type"], "told.py" in error["traceback"]) == ("ValueError", True)


async def test_w11_running_and_retrying_jobs_can_be_cancelled_and_waiters_hear_of_it(a: App, behind: Store) -> None:
    """There: only waiting ones, by command only; the hash stays for ever, and whoever waits does so in vain."""
    running = await a.tell("sleep", seconds=60)
    retrying = await a.tell("retry until", attempt=9, seconds=600)
    await a.running([running])

    async def retries() -> bool:
        return (await a.job(retrying)).status == "RETRYING"

    await until_async(retries, 10, "the retry")
    waits = [asyncio.create_task(a.end(job_id, 10)) for job_id in (running, retrying)]
    assert [await a.client.cancel(job_id) for job_id in (running, retrying)] == ["asked", "cancelled"]
    assert [end.status for end in await asyncio.gather(*waits)] == ["CANCELLED", "CANCELLED"]
    assert all([await raw(behind, "TTL", f"rrq:job:{job_id}") > 0 for job_id in (running, retrying)])


async def test_w12_a_unique_key_is_one_and_can_be_freed_by_the_end_of_its_job(a: App) -> None:
    """There: two kinds of keys that do not see each other, held for six hours, or freed by whoever ends first."""
    options = {"unique_key": "invoice", "unique_until": "finished"}
    first = await a.tell("sleep", seconds=0.3, options=options)
    assert await a.tell(options=options) == first
    await a.end(first)
    second = await a.tell(options=options)
    assert second != first
    assert (await a.end(second)).status == "COMPLETED"


async def test_w13_a_job_in_two_queues_runs_once(a: App, behind: Store) -> None:
    """There: a debounce that names another queue leaves the job in both, and it runs in both."""
    window = {"debounce_key": "doc", "debounce_seconds": 600}
    first = await a.tell(options=window)
    assert await a.tell(options={**window, "queue_name": "mail"}) == first
    assert await raw(behind, "ZSCORE", "rrq:queue:default", first) is None
    assert await raw(behind, "ZSCORE", "rrq:queue:mail", first) is not None

    params = json.dumps({"ledger": str(a.ledger)})
    await plant(behind, "twice", "mail", "default", job_params=params)  # as the real producer leaves one
    await a.end("twice")

    async def gone() -> bool:
        places = [await raw(behind, "ZSCORE", f"rrq:queue:{queue}", "twice") for queue in ("mail", "default")]
        return places == [None, None]

    await until_async(gone, 10, "both entries to be gone")
    assert a.starts()["twice"] == 1


async def calls(store: Store) -> int:
    """Scripts that were run so far."""
    text = (await raw(store, "INFO", "commandstats")).decode()
    return sum(int(line.split("calls=")[1].split(",")[0]) for line in text.splitlines() if "cmdstat_evalsha" in line)


async def test_w14_jobs_travel_in_batches_and_an_idle_worker_is_woken_instead_of_asking(a: App, behind: Store) -> None:
    """There: 2.2 calls a job, and ten a second while there is nothing to do."""
    await behind.pause_queues(["default"])
    ids = await a.client.enqueue_many([("told", {"params": {}})] * 200)
    before = await calls(behind)
    await behind.resume_queues(["default"])
    assert await a.ends(ids) == {"COMPLETED": 200}
    assert await calls(behind) - before < 200
    before = await calls(behind)
    await asyncio.sleep(2)
    assert await calls(behind) - before <= 10  # the lease, and a look now and then
    loop = asyncio.get_running_loop()
    waited = []
    for _ in range(5):
        began = loop.time()
        await a.end(await a.tell())
        waited.append(loop.time() - began)
    assert min(waited) < 0.5


async def test_w16_logs_speak_of_the_right_job_and_there_are_metrics(a: App) -> None:
    """There: with several jobs at a time the lines name others' ids and functions, and nothing can be scraped."""
    mark = a.daemon.mark()
    ids = {}
    for n in range(10):
        plain = n % 2 == 1
        job_id = await a.tell("fail", plain=plain, message=f"error {n}", options=ONCE)
        ids[job_id] = ("told_plain" if plain else "told", n)
    await a.ends(list(ids))
    for job_id, (function, n) in ids.items():
        line = a.daemon.expect_log("job.buried", since=mark, job_id=job_id)
        assert (line["function"], f"error {n}" in str(line)) == (function, True)
    url = f"http://{a.daemon.rrqd['http']}/metrics"
    text = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=10).read())
    assert b"rrqd_jobs_total{" in text


async def test_w21_handlers_of_a_pool_can_be_called_by_nobody_but_through_the_server(a: App) -> None:
    """There: every local user can run any handler through the runner's port."""
    for pid in a.daemon.workers().values():
        assert [one for one in psutil.Process(pid).net_connections("inet") if one.status == psutil.CONN_LISTEN] == []


async def test_w23_a_stop_keeps_the_lease_while_jobs_end_and_leaves_nobody_who_seems_alive(server: Server) -> None:
    """There: no heartbeat while it drains, and its health record outlives it by a minute."""
    with whole(processes=1, embedded="never", rrq={"redis_dsn": server.dsn}, lease_seconds=1.0) as daemon:
        async with app(daemon, server.dsn) as a:
            store = await Store.open(server.dsn, StorePolicy(), client_name="rrqd:test")
            ids = [await a.tell("sleep", seconds=3)]
            await a.running(ids)

            async def seen() -> bool:
                return bool(await store.health_reports())

            await until_async(seen, 10, "the health record")
            daemon.signal(SIGTERM)
            assert await a.ends(ids) == {"COMPLETED": 1}
            assert a.starts()[ids[0]] == 1
            assert daemon.wait() == 0
            assert await store.health_reports() == []
            await store.close()


def test_w22_a_client_is_made_at_once_and_asks_nobody() -> None:
    """There: up to ten seconds, during which the event loop stands still."""
    loop = asyncio.new_event_loop()
    try:
        began = loop.time()
        RRQClient(config={"redis_dsn": "redis://192.0.2.1:6379/0"})
        assert loop.time() - began < 1.0 + BUSY_SECONDS
    finally:
        loop.close()
