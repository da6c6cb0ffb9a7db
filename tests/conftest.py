"""Fixtures only: a server, an empty database, a store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from rrqd.store import Store, StorePolicy
from tests.support.server import any_server


@pytest.fixture(scope="session")
def dsn() -> Iterator[str]:
    """A server for the whole run."""
    with any_server() as where:
        yield where


@pytest.fixture
async def store(dsn: str) -> AsyncIterator[Store]:
    """A store on an empty database."""
    store = await Store.open(dsn, StorePolicy(), client_name="rrqd:test")
    await (await store.link()).call("FLUSHALL")
    yield store
    await store.close()
