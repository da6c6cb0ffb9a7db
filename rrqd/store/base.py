"""The store's connection: opened when first needed, opened again after a loss, the same preparations each time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from rrqd.exc import StoreUnsupported
from rrqd.store.connection import Endpoint, Link
from rrqd.store.keys import Keys
from rrqd.store.records import ServerInfo, StorePolicy

#: Lowest servers whose Lua (``#!lua`` flags) and RESP3 rrqd relies on.
LOWEST = {"redis": (7, 0), "valkey": (7, 2)}


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
        self.server: ServerInfo | None = None
        self._client_name = client_name
        self._timeout_seconds = timeout_seconds
        self._channel = channel
        self._on_message = on_message
        self._link: Link | None = None
        self._opening: asyncio.Task[Link] | None = None

    @property
    def connected(self) -> bool:
        """Whether the last thing known of the connection is that it lives."""
        return self._link is not None and self._link.lost is None

    async def link(self) -> Link:
        """The live connection, opened now if there is none. One attempt, shared by all who ask meanwhile."""
        if self._link is not None and self._link.lost is None:
            return self._link
        if self._opening is None or self._opening.done():
            self._opening = asyncio.ensure_future(self._open())
            self._opening.add_done_callback(_look_at)
        return await asyncio.shield(self._opening)

    async def _open(self) -> Link:
        link = await Link.open(
            self.endpoint, name=self._client_name, timeout_seconds=self._timeout_seconds, on_push=self._pushed
        )
        try:
            if self.server is None:
                self.server = await check_server(link, self.endpoint)
            if self._channel is not None:
                await link.call("SUBSCRIBE", self.keys.channel(self._channel))
        except BaseException:
            link.close()
            raise
        self._link = link
        return link

    def _pushed(self, push: list[Any]) -> None:
        if self._on_message is not None and len(push) == 3 and push[0] == b"message":
            self._on_message(push[2])

    async def close(self) -> None:
        """Drop the connection. A later call opens it again."""
        if self._opening is not None and not self._opening.done():
            self._opening.cancel()
        if self._link is not None:
            self._link.close()
            self._link = None


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
