"""What the store's configuration says of queues, as a worker knows it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from rrqd.exc import StoreError
from rrqd.model.queue_buckets import KEY, Bucket, read_buckets
from rrqd.model.queue_config import QueueRules, rules_of
from rrqd.model.queue_patterns import is_pattern, resolve
from rrqd.store import Store

#: A worker that was not told of a change, because its connection was just lost, learns of it after so long.
READ_SECONDS = 30.0
#: How often a worker of a pool with patterns asks whether there are new queues.
LOOK_SECONDS = 1.0
NO_RULES = QueueRules()


class Rules:
    """One worker's. A job that begins is under the rules of that moment."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._stored: dict[str, str] = {}
        self._by_queue: dict[str, QueueRules] = {}
        self._stale = asyncio.Event()
        self.when_changed: Callable[[], Awaitable[None]] | None = None

    def of(self, queue: str) -> QueueRules:
        """The rules of a queue."""
        if not self._stored:
            return NO_RULES
        found = self._by_queue.get(queue)
        if found is None:
            found = self._by_queue[queue] = rules_of(self._stored, queue)
        return found

    @property
    def stored(self) -> Mapping[str, str]:
        """All that stands there, by field."""
        return self._stored

    def changed(self) -> None:
        """Somebody says that there is something new."""
        self._stale.set()

    async def read(self) -> None:
        """Learn what stands there now. Raises StoreError; what was known stays then."""
        stored = await self._store.config()
        if stored != self._stored:
            self._stored, self._by_queue = stored, {}
            if self.when_changed is not None:
                await self.when_changed()

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


class Served:
    """The queues that a worker serves: its pool's list, or what the patterns in it come to by now. ``bucketed``: their
    order is the buckets' that lie in the store."""

    def __init__(
        self,
        store: Store,
        elements: Sequence[str],
        rules: Rules,
        changed: Callable[[list[str]], None],
        *,
        bucketed: bool = False,
    ) -> None:
        self._store = store
        self._elements = list(elements)
        self._rules = rules
        self._changed = changed
        self._bucketed = bucketed
        self.buckets: list[Bucket] = []
        self._size = -1
        self._looks = 0
        self.open = any(is_pattern(one) for one in elements)
        self.queues = resolve(elements, (), {}) if self.open else list(elements)

    async def read(self) -> None:
        """Look which queues there are, and how they are ordered. Raises StoreError; what was known stays then."""
        stored, queues = self._rules.stored, self.queues
        if self.open:
            queues = resolve(self._elements, await self._store.queues(), stored)
        buckets = read_buckets(stored.get(KEY)) if self._bucketed else []
        if (queues, buckets) != (self.queues, self.buckets):
            self.queues, self.buckets = queues, buckets
            self._changed(queues)

    async def keep_reading(self) -> None:
        """For ever, once a second: one cheap question, and more only when there are more queues, or fewer. (One that
        came as another went, is seen within half a minute.)"""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                size = await self._store.queue_count()
                self._looks += 1
                if size != self._size or self._looks % round(READ_SECONDS / LOOK_SECONDS) == 0:
                    await self.read()
                    self._size = size
            except StoreError:
                pass
