"""Fixtures only: a server, an empty database, a store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from rrqd.store import Store, StorePolicy
from tests.support.server import Server, any_server


@pytest.fixture(scope="session")
def dsn() -> Iterator[str]:
    """A server for the whole run."""
    with any_server() as where:
        yield where


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
