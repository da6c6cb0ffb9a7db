"""The server goes away and comes back: the daemon waits, goes on, and exits never."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.support.app import App, app, whole
from tests.support.daemon import Daemon, alive
from tests.support.server import Server
from tests.support.wait import until

LEASE_SECONDS = 1.5


def beside(server: Server, **settings: Any) -> Daemon:
    """The whole rrqd on that server, with a short lease."""
    return whole(embedded="never", rrq={"redis_dsn": server.dsn}, lease_seconds=LEASE_SECONDS, **settings)


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[Daemon, Server]]:
    """A server to which things happen, and a daemon that bears them all, one after the other."""
    server = Server()
    try:
        with beside(server) as daemon:
            daemon.expect_log("rrqd.ready")
            yield daemon, server
            assert daemon.stop() == 0
    finally:
        server.remove()


@pytest.fixture
async def a(place: tuple[Daemon, Server]) -> AsyncIterator[App]:
    daemon, server = place
    async with app(daemon, server.dsn) as found:
        found.close()
        found.ledger.unlink(missing_ok=True)
        yield found


async def away(a: App, seconds: float, since: int) -> None:
    """Time passes with no server: until the daemon has said so, and then longer than a lease."""
    a.daemon.expect_log("store.lost", since=since)
    await asyncio.sleep(seconds)
    assert a.daemon.process is not None
    assert a.daemon.process.poll() is None


async def works_again(a: App, ids: list[str], since: int = 0) -> None:
    """Everything enqueued ends well, and ran once."""
    a.daemon.expect_log("store.back", since=since)
    a.let_go()
    ids = [*ids, *[await a.tell() for _ in range(10)]]
    assert await a.ends(ids) == {"COMPLETED": len(ids)}
    assert set(a.starts().values()) == {1}
    assert not a.daemon.count_log("worker.died", since=since)


async def test_a_server_that_restarts_with_its_data_costs_nothing(a: App, place: tuple[Daemon, Server]) -> None:
    server, mark = place[1], a.daemon.mark()
    gate = str(a.daemon.folder / "late")
    ids = [await a.tell("wait", gate=gate) for _ in range(10)] + await a.held(5)
    await a.running(ids)
    server.stop()
    a.let_go("late")  # these end while there is nobody to tell
    await away(a, 2 * LEASE_SECONDS, mark)
    server.start()
    await works_again(a, ids, mark)


async def test_a_server_that_hangs_longer_than_the_lease_has_no_job_run_twice(
    a: App, place: tuple[Daemon, Server]
) -> None:
    server, mark = place[1], a.daemon.mark()
    ids = await a.held(10)
    server.pause()
    a.let_go()
    await away(a, LEASE_SECONDS, mark)
    server.resume()
    await works_again(a, ids, mark)


async def test_connections_killed_by_an_administrator_are_made_anew(a: App, place: tuple[Daemon, Server]) -> None:
    ids = []
    for _ in range(20):
        ids += [await a.tell("sleep", seconds=0.05) for _ in range(5)]
        place[1].ask("CLIENT", "KILL", "TYPE", "normal")
    assert await a.ends(ids) == {"COMPLETED": 100}
    assert set(a.starts().values()) == {1}


async def test_a_server_that_comes_back_empty_gets_new_workers(a: App, place: tuple[Daemon, Server]) -> None:
    mark = a.daemon.mark()
    await a.held(1)
    place[1].ask("FLUSHALL")
    a.daemon.expect_log("lease.lost", since=mark)
    ids = [await a.tell() for _ in range(10)]
    assert await a.ends(ids) == {"COMPLETED": 10}
    a.let_go()


async def test_a_daemon_that_is_started_first_waits_for_its_server(server: Server) -> None:
    server.stop()
    with beside(server) as daemon:
        daemon.expect_log("store.lost", server=server.dsn)
        server.start()
        async with app(daemon, server.dsn) as a:
            await works_again(a, [])
        assert daemon.stop() == 0


async def test_a_stop_without_a_server_ends_in_time(server: Server) -> None:
    with beside(server) as daemon:
        async with app(daemon, server.dsn) as a:
            await a.running([await a.tell("sleep", seconds=60)])
            server.stop()
            daemon.expect_log("store.lost")
            daemon.signal(signal.SIGTERM)
            daemon.expect_log("stop.begin")
            daemon.signal(signal.SIGTERM)
            assert daemon.wait(8) == 0


async def test_a_worker_without_room_hears_of_a_cancel_although_its_connection_was_lost(server: Server) -> None:
    with beside(server, processes=1, concurrency=1, idle_poll_seconds=0.5) as daemon:
        async with app(daemon, server.dsn) as a:
            job_id = await a.tell("sleep", seconds=60)
            await a.running([job_id])
            for kind in ("normal", "pubsub"):
                server.ask("CLIENT", "KILL", "TYPE", kind)
            assert await a.client.cancel(job_id) == "asked"
            assert (await a.end(job_id, 5)).status == "CANCELLED"
        assert daemon.stop() == 0


async def test_a_steward_left_behind_by_its_master_does_not_end_the_next_ones_server() -> None:
    with whole(stop_timeout_seconds=2.0, lease_seconds=2.0) as daemon:
        daemon.expect_log("rrqd.ready")
        family = daemon.children()
        server = next(pid for title, pid in family.items() if title.startswith("valkey"))
        daemon.signal(signal.SIGKILL)
        os.kill(server, signal.SIGKILL)
        daemon.wait()
        since = daemon.mark()
        daemon.start()
        daemon.expect_log("rrqd.ready", seconds=20, since=since)
        until(lambda: not any(map(alive, family.values())), 10, "the old steward to leave")
        async with app(daemon) as a:
            assert (await a.end(await a.tell())).status == "COMPLETED"
        assert not daemon.count_log("valkey.died", since=since)
        assert daemon.stop() == 0
