"""Following tracked jobs: every move of theirs, as the server tells it.

Events are published, and the last thousand or so are kept in a stream; whoever was away is given what it missed from
there. The channel's name has the namespace in it but no database number: a server has one set of channels.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from rrqd.exc import StoreUnavailable
from rrqd.store.connection import Link
from rrqd.store.finding import Finder
from rrqd.store.keys import Keys

#: Pause before a lost connection is made anew, and how long silence is believed.
RETRY_SECONDS = 0.3
PING_SECONDS = 10.0


class JobEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One move of a tracked job. ``event``: ``enqueued``, ``claimed``, ``completed``, ``advanced``, ``retrying``,
    ``snoozed``, ``diverted``, ``buried``, ``cancelled``, ``cancel-asked``, ``released``, ``revived``, ``tracked``,
    ``untracked``, ``moved``, ``taken``, ``progress`` (there may be more some day). ``at``: RFC 3339, the server's
    clock."""

    event: str
    job_id: str
    at: str
    queue: str | None = None
    worker: str | None = None
    error: str | None = None
    progress: dict[str, Any] | None = None


class Follower:
    """``async for event in follower``: without end. A lost connection is made anew, and what was missed is told from
    the stream; only more than it keeps is lost. ``last``: begin with so many events of before. ``close`` ends it."""

    def __init__(self, finder: Finder, keys: Keys, client_name: str, *, last: int = 0) -> None:
        self._finder = finder
        self._key = keys.job_events
        self._client_name = client_name
        self._last = last
        self._seen: bytes | None = None
        self._bell = asyncio.Event()
        self._link: Link | None = None
        self.closed = False

    def __aiter__(self) -> AsyncIterator[JobEvent]:
        return self._events()

    async def before(self) -> list[JobEvent]:
        """The ``last`` events of before, and no more."""
        link = await self._finder.open(name=self._client_name)
        try:
            return await self._begin(link)
        finally:
            link.close()

    async def rest(self) -> list[JobEvent]:
        """What has happened since the last event that was told; for who is told nothing more."""
        link = await self._finder.open(name=self._client_name)
        try:
            return [event for _, event in await self._news(link)]
        finally:
            link.close()

    async def _events(self) -> AsyncIterator[JobEvent]:
        while not self.closed:
            try:
                link = self._link = await self._finder.open(name=self._client_name, on_push=self._pushed)
                await link.call("SUBSCRIBE", self._key)
                if self._seen is None:
                    for event in await self._begin(link):
                        yield event
                while not self.closed:
                    self._bell.clear()
                    for place, event in await self._news(link):
                        self._seen = place
                        yield event
                    await self._wait()
            except StoreUnavailable:
                await asyncio.sleep(RETRY_SECONDS)
            finally:
                if self._link is not None:
                    self._link.close()

    async def _begin(self, link: Link) -> list[JobEvent]:
        """The events before, and where the new ones begin."""
        entries = await link.call("XREVRANGE", self._key, "+", "-", "COUNT", max(1, self._last))
        self._seen = entries[0][0] if entries else b"0-0"
        return [_event(fields) for _, fields in reversed(entries[: self._last])]

    async def _news(self, link: Link) -> list[tuple[bytes, JobEvent]]:
        """What came after the last one seen, each with its place in the stream."""
        assert self._seen is not None
        entries = await link.call("XRANGE", self._key, b"(" + self._seen, "+")
        return [(place, _event(fields)) for place, fields in entries]

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(PING_SECONDS):
                await self._bell.wait()
        except TimeoutError:
            pass  # looks again, which also tells a quiet night from a dead path

    def _pushed(self, push: list[Any]) -> None:
        self._bell.set()

    def close(self) -> None:
        """End it, also while it waits."""
        self.closed = True
        self._bell.set()
        if self._link is not None:
            self._link.close()


def _event(fields: list[bytes]) -> JobEvent:
    return msgspec.json.decode(fields[1], type=JobEvent)
