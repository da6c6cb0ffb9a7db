"""Waiting for jobs to end: any number of waits over one connection, and no polling.

The server is asked to remember which event streams this connection has looked at (client-side caching) and says when
one changes, whoever wrote it: a real RRQ worker's settlement wakes us as ours does. A slow look now and then covers
what has no event (a cancel by the real CLI) and servers where tracking is not allowed.
"""

from __future__ import annotations

import asyncio
from typing import Any

from rrqd.exc import StoreError, StoreUnavailable
from rrqd.model.job import Job
from rrqd.store.base import Door
from rrqd.store.connection import Link
from rrqd.store.finding import Finder
from rrqd.store.keys import Keys
from rrqd.store.queues import Readings

#: With tracking: how often a wait looks although nothing was said. Without it: how often at first.
LOOK_SECONDS = 2.0
POLL_SECONDS = 0.05
POLL_CEILING_SECONDS = 0.5
#: Time for the first look, however short the wait: one of no time at all still tells how things are.
FIRST_LOOK_SECONDS = 1.0


class WaitingRoom:
    """One tracking connection, shared by all waits of a client; opened by the first wait."""

    def __init__(self, finder: Finder, keys: Keys, client_name: str) -> None:
        self._finder = finder
        self._keys = keys
        self._client_name = client_name
        self._door = Door(self._open)
        self._waits: dict[bytes, set[asyncio.Event]] = {}
        self._tracking = True
        self.closed = False

    async def watch(self, job_id: str, bell: asyncio.Event) -> bool:
        """Ring ``bell`` at the next change of the job's event stream; false when this server does not say."""
        key = self._keys.events(job_id)
        self._waits.setdefault(key.encode(), set()).add(bell)
        if self._tracking:
            link = await self._door.link()
            await link.call("XLEN", key)
        return self._tracking

    def leave(self, job_id: str, bell: asyncio.Event) -> None:
        """Forget a bell."""
        key = self._keys.events(job_id).encode()
        bells = self._waits.get(key)
        if bells is not None:
            bells.discard(bell)
            if not bells:
                del self._waits[key]

    async def _open(self) -> Link:
        link = await self._finder.open(name=self._client_name, on_push=self._pushed)
        try:
            await link.call("CLIENT", "TRACKING", "ON")
        except (StoreUnavailable, asyncio.CancelledError):
            link.close()
            raise
        except StoreError:
            self._tracking = False  # not allowed, or a proxy that does not know it
        return link

    def _pushed(self, push: list[Any]) -> None:
        if push and push[0] == b"invalidate" and push[1] is not None:
            for key in push[1]:
                for bell in self._waits.get(key, ()):
                    bell.set()
        elif self._door.current is not None:
            self._ring_all()  # the connection that told us is lost, or all keys were flushed: look again

    def _ring_all(self) -> None:
        for bells in self._waits.values():
            for bell in bells:
                bell.set()

    def close(self) -> None:
        """Drop the connection and end every wait."""
        self.closed = True
        self._door.close()
        self._ring_all()


class Waits(Readings):
    """``wait`` for any store."""

    _room: WaitingRoom | None = None

    async def wait(self, job_id: str, timeout_seconds: float, *, must_exist: bool = True) -> Job | None:
        """The job once it is final; ``None`` when it is not within ``timeout_seconds``.

        No such job: ``None`` at once, or with ``must_exist=False`` it is waited for. An outage of the server is
        waited out, up to the timeout (up to ``FIRST_LOOK_SECONDS`` if that is longer). Raises StoreUnavailable when
        the store is closed meanwhile.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        look_until = max(deadline, loop.time() + FIRST_LOOK_SECONDS)
        if self._room is None:
            self._room = WaitingRoom(self.finder, self.keys, f"{self._client_name}:wait")
        room, bell = self._room, asyncio.Event()
        pause = POLL_SECONDS
        try:
            while not room.closed:
                bell.clear()
                try:
                    async with asyncio.timeout_at(look_until):
                        told = await room.watch(job_id, bell)
                        job = await self.get(job_id)
                    if (job is None and must_exist) or (job is not None and job.status.is_final):
                        return job
                except (StoreUnavailable, TimeoutError):
                    told = False
                left = deadline - loop.time()
                if left <= 0:
                    return None
                await _rung(bell, min(left, LOOK_SECONDS if told else pause))
                pause = min(pause * 1.5, POLL_CEILING_SECONDS)
        finally:
            room.leave(job_id, bell)
        raise StoreUnavailable("The connection was closed while the job was waited for.")

    async def close(self) -> None:
        if self._room is not None:
            self._room.close()
            self._room = None
        await super().close()


async def _rung(bell: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await bell.wait()
    except TimeoutError:
        pass
