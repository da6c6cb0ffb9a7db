"""Hearing of work: the server says when a queue's key was touched, by whomever (a real RRQ producer, ours, a hand), and
when a queue was paused or resumed; and which real RRQ workers are about.

Broadcast tracking on the prefixes of what the queues consist of, RRQ's keys and ours. It also tells of claims; the
listener only wakes idle workers, so that costs little. Where it is not allowed (permissions, proxies) ``listen`` says
so and the slow polling carries on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from rrqd.store.connection import Link
from rrqd.store.finding import Finder
from rrqd.store.keys import Keys

LOOK_SECONDS = 10.0


class Ear:
    """One connection that only listens."""

    def __init__(
        self,
        finder: Finder,
        keys: Keys,
        client_name: str,
        on_queue: Callable[[set[str]], None],
        on_pause: Callable[[], None] = lambda: None,
        on_foreign: Callable[[set[str]], None] = lambda _: None,
    ) -> None:
        self._finder = finder
        self._heard = (keys.queue(""), keys.work, keys.active(""))
        self._prefixes = (keys.queue(""), keys.prio(""), keys.fair(""), keys.later(""), keys.alone(""), keys.poke(""))
        self._client_name = client_name
        self._paused = keys.paused
        self._anchor = keys.token
        self._on_queue = on_queue
        self._on_pause = on_pause
        self._active = keys.active("")
        self._on_foreign = on_foreign
        self._lost = asyncio.Event()
        self._link: Link | None = None

    async def listen(self, on_ready: Callable[[], None]) -> None:
        """Listen until the connection is lost; then raises StoreUnavailable. ServerSaid or StoreRefused at once when
        the server does not allow tracking."""
        self._lost.clear()
        self._link = link = await self._finder.open(name=self._client_name, on_push=self._pushed)
        try:
            prefixes = [word for prefix in self._heard for word in ("PREFIX", prefix)]
            await link.call("CLIENT", "TRACKING", "ON", "BCAST", *prefixes)
            on_ready()
            while link.lost is None:
                try:
                    await asyncio.wait_for(self._lost.wait(), LOOK_SECONDS)
                except TimeoutError:
                    # A look at a key of ours tells a quiet night from a dead path, and from a cluster node that gave
                    # our slot away: it would never tell us anything again.
                    await link.call("EXISTS", self._anchor)
            raise link.lost
        finally:
            link.close()

    def _pushed(self, push: list[Any]) -> None:
        if not push:
            self._lost.set()
        elif push[0] == b"invalidate":
            keys = {key.decode(errors="replace") for key in push[1] or ()}
            if self._paused in keys:
                self._on_pause()
            foreign = {key.removeprefix(self._active) for key in keys if key.startswith(self._active)}
            if foreign:
                self._on_foreign(foreign)
            queues = {key.removeprefix(prefix) for key in keys for prefix in self._prefixes if key.startswith(prefix)}
            if queues or not keys:  # no keys: everything, the database was flushed
                self._on_queue(queues)
