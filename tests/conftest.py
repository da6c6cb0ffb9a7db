"""Fixtures only: a server, an empty database, a store."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from rrqd.store import Store, StorePolicy
from tests.support.server import Server, any_server


@pytest.fixture(scope="session")
def dsn() -> Iterator[str]:
    """A server for the whole run."""
    with any_server() as where:
        yield where


@pytest.fixture(scope="module", autouse=True)
def no_client_is_left() -> Iterator[None]:
    """Whoever makes a client closes it: no thread of one outlives the tests of its module."""

    def clients() -> set[threading.Thread]:
        return {one for one in threading.enumerate() if one.name == "rrqd-client"}

    before = clients()
    yield
    assert not clients() - before, "a SyncRRQClient or a Connection of rrqd.rq was not closed by a test of this module"


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of the test's own, which may be stopped, paused and killed."""
    server = Server()
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture
async def store(dsn: str) -> AsyncIterator[Store]:
    """A store on an empty database."""
    store = await Store.open(dsn, StorePolicy(), client_name="rrqd:test")
    await (await store.link()).call("FLUSHALL")
    yield store
    await store.close()
