"""How a desk asks: through its client, which knows the server, waits out an outage and gives up in time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

from rrqd.store import Store

T = TypeVar("T")


class Ask(Protocol):
    """``RRQClient``'s way of asking: one call of the store, made again while nothing answers."""

    async def __call__(self, call: Callable[[Store], Awaitable[T]]) -> T: ...


class Run(Protocol):
    """``SyncRRQClient``'s way: a coroutine, run in its loop, waited for here."""

    def __call__(self, work: Coroutine[Any, Any, T]) -> T: ...
