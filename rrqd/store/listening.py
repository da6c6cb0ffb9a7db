"""Hearing of work: the server says when a queue's key was touched, by whomever (a real RRQ producer, ours, a hand).

Broadcast tracking on the prefix of the queues' keys. It also tells of claims; the listener only wakes idle workers, so
that costs little. Where it is not allowed (permissions, proxies) ``listen`` says so and the slow polling carries on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from rrqd.store.connection import Endpoint, Link
from rrqd.store.keys import Keys

PING_SECONDS = 10.0


class Ear:
    """One connection that only listens."""

    def __init__(self, endpoint: Endpoint, keys: Keys, client_name: str, on_queue: Callable[[set[str]], None]) -> None:
        self._endpoint = endpoint
        self._prefix = keys.queue("")
        self._client_name = client_name
        self._on_queue = on_queue
        self._lost = asyncio.Event()
        self._link: Link | None = None

    async def listen(self, on_ready: Callable[[], None]) -> None:
        """Listen until the connection is lost; then raises StoreUnavailable. ServerSaid or StoreRefused at once when
        the server does not allow tracking."""
        self._lost.clear()
        self._link = link = await Link.open(self._endpoint, name=self._client_name, on_push=self._pushed)
        try:
            await link.call("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", self._prefix)
            on_ready()
            while link.lost is None:
                try:
                    await asyncio.wait_for(self._lost.wait(), PING_SECONDS)
                except TimeoutError:
                    await link.call("PING")  # nothing was said; this tells a quiet night from a dead path
            raise link.lost
        finally:
            link.close()

    def _pushed(self, push: list[Any]) -> None:
        if not push:
            self._lost.set()
        elif push[0] == b"invalidate":
            keys = push[1] or ()
            self._on_queue({key.decode(errors="replace").removeprefix(self._prefix) for key in keys})
