"""How a client's connections live: a store that ends with its event loop, and a loop in a thread for code without one.

Rule: nothing outlives what it belongs to, neither a connection its loop nor a call its client.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeVar

from rrqd.exc import StoreUnavailable
from rrqd.store import Store
from rrqd.store.connection import Link

T = TypeVar("T")

CLOSED = "the client was closed before the answer came"


class LoopStore(Store):
    """The store of one event loop. It ends when it is closed, or else with its loop, and does not begin again."""

    closed = False

    async def begin(self) -> None:
        """Tie it to the running loop: ``asyncio.run`` and its like end suspended generators before they close it."""
        self._life = self._live()
        await anext(self._life)

    async def _live(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self.closed = True
            await super().close()

    async def link(self) -> Link:
        if self.closed:
            raise StoreUnavailable(CLOSED)
        return await super().link()

    async def close(self) -> None:
        await self._life.aclose()


class LoopThread:
    """An event loop in a thread, for code that has none. It begins with a ``run``, and anew after a ``stop``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: tuple[asyncio.AbstractEventLoop, threading.Thread] | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Its result. Raises CancelledError when the thread is stopped first."""
        with self._lock:
            if self._live is None:
                loop = asyncio.new_event_loop()
                thread = threading.Thread(target=_serve, args=[loop], name="rrqd-client", daemon=True)
                thread.start()
                self._live = loop, thread
            result = asyncio.run_coroutine_threadsafe(work, self._live[0])
        try:
            return result.result()
        finally:
            result.cancel()  # whoever was interrupted while waiting wants it no more

    def stop(self) -> None:
        """Cancel what is under way and end the thread."""
        with self._lock:
            live, self._live = self._live, None
        if live is not None:
            live[0].call_soon_threadsafe(live[0].stop)
            live[1].join()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.run_until_complete(_end())
    loop.close()


async def _end() -> None:
    """Leave nothing behind: no call that waits, no connection."""
    calls = asyncio.all_tasks() - {asyncio.current_task()}
    for call in calls:
        call.cancel()
    if calls:
        await asyncio.wait(calls)
    await asyncio.get_running_loop().shutdown_asyncgens()
