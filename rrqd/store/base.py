"""The store's connection: opened when first needed, opened again after a loss, the same preparations each time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from rrqd.exc import StoreUnavailable, StoreUnsupported
from rrqd.store.connection import Endpoint, Link
from rrqd.store.finding import Finder
from rrqd.store.keys import Keys
from rrqd.store.records import ServerInfo, StorePolicy

#: Lowest servers whose Lua (``#!lua`` flags) and RESP3 rrqd relies on.
LOWEST = {"redis": (7, 0), "valkey": (7, 2)}


class Door:
    """A connection, opened when first needed and again after a loss: one attempt, shared by all who ask meanwhile.

    Whoever is cancelled while it lasts leaves the attempt to the others. ``close`` ends it for all of them.
    """

    def __init__(self, opening: Callable[[], Coroutine[Any, Any, Link]]) -> None:
        self._open = opening
        self._opening: asyncio.Task[Link] | None = None
        #: The connection, perhaps lost; ``None`` while there is none.
        self.current: Link | None = None

    @property
    def connected(self) -> bool:
        """Whether the last thing known of the connection is that it lives."""
        return self.current is not None and self.current.lost is None

    async def link(self) -> Link:
        """The live connection. Raises StoreUnavailable when ``close`` is called first, and what opening it raises."""
        if self.current is not None and self.current.lost is None:
            return self.current
        if self._opening is None or self._opening.done():
            self.current = None
            self._opening = asyncio.create_task(self._attempt())
            self._opening.add_done_callback(_look_at)
        opening = self._opening
        await asyncio.wait([opening])
        if opening.cancelled():
            raise StoreUnavailable("The connection was closed while it was being opened.")
        return opening.result()

    async def _attempt(self) -> Link:
        self.current = link = await self._open()
        return link

    def close(self) -> None:
        """Drop the connection. It may be opened again."""
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        if self.current is not None:
            self.current.close()
            self.current = None


class Base:
    """What moves, readings and waits share. Safe for many tasks of one loop; never across a fork."""

    def __init__(
        self,
        endpoint: Endpoint,
        policy: StorePolicy,
        *,
        client_name: str,
        timeout_seconds: float = 5.0,
        channel: str | None = None,
        on_message: Callable[[bytes], None] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.policy = policy
        self.keys = Keys(policy.namespace)
        self.finder = Finder(endpoint, policy.namespace)
        self.server: ServerInfo | None = None
        self._client_name = client_name
        self._timeout_seconds = timeout_seconds
        self._channel = channel
        self._on_message = on_message
        self._door = Door(self._open)

    @property
    def connected(self) -> bool:
        """Whether the last thing known of the connection is that it lives."""
        return self._door.connected

    async def link(self) -> Link:
        """The live connection, opened now if there is none."""
        return await self._door.link()

    async def _open(self) -> Link:
        link = await self.finder.open(
            name=self._client_name, timeout_seconds=self._timeout_seconds, on_push=self._pushed
        )
        try:
            if self.server is None:
                self.server = await check_server(link, self.endpoint)
            if self._channel is not None:
                await link.call("SUBSCRIBE", self.keys.channel(self._channel))
        except BaseException:
            link.close()
            raise
        return link

    def _pushed(self, push: list[Any]) -> None:
        if self._on_message is not None and len(push) == 3 and push[0] == b"message":
            self._on_message(push[2])

    async def close(self) -> None:
        """Drop the connection. A later call opens it again."""
        self._door.close()


def _look_at(task: asyncio.Task[Link]) -> None:
    """An attempt nobody waited for to its end has still been looked at."""
    if not task.cancelled():
        task.exception()


async def check_server(link: Link, endpoint: Endpoint) -> ServerInfo:
    """Which server this is. Raises StoreUnsupported for one that is too old."""
    text = (await link.call("INFO", "server")).decode()
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line and not line.startswith("#"))
    flavour = "valkey" if "valkey_version" in lines else "redis"
    version = lines.get("valkey_version") or lines.get("redis_version") or "0"
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < LOWEST[flavour]:
        need = " or ".join(f"{name.title()} >= {low[0]}.{low[1]}" for name, low in LOWEST.items())
        raise StoreUnsupported(f"{endpoint.shown} is {flavour.title()} {version}; rrqd needs {need}")
    return ServerInfo(flavour=flavour, version=version, raw=lines)
