"""What the store's configuration says of queues, as a worker knows it."""

from __future__ import annotations

import asyncio

from rrqd.exc import StoreError
from rrqd.model.queue_config import QueueRules, rules_of
from rrqd.store import Store

#: A worker that was not told of a change, because its connection was just lost, learns of it after so long.
READ_SECONDS = 30.0
NO_RULES = QueueRules()


class Rules:
    """One worker's. A job that begins is under the rules of that moment."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._stored: dict[str, str] = {}
        self._by_queue: dict[str, QueueRules] = {}
        self._stale = asyncio.Event()

    def of(self, queue: str) -> QueueRules:
        """The rules of a queue."""
        if not self._stored:
            return NO_RULES
        found = self._by_queue.get(queue)
        if found is None:
            found = self._by_queue[queue] = rules_of(self._stored, queue)
        return found

    def changed(self) -> None:
        """Somebody says that there is something new."""
        self._stale.set()

    async def read(self) -> None:
        """Learn what stands there now. Raises StoreError; what was known stays then."""
        stored = await self._store.config()
        if stored != self._stored:
            self._stored, self._by_queue = stored, {}

    async def keep_reading(self) -> None:
        """For ever: when told, and now and then."""
        while True:
            try:
                async with asyncio.timeout(READ_SECONDS):
                    await self._stale.wait()
            except TimeoutError:
                pass
            self._stale.clear()
            try:
                await self.read()
            except StoreError:
                pass  # the server's state, and the next turn's business
