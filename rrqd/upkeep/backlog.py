"""How long the oldest due job of each self-scaling pool has waited: what the master's autoscaling goes by."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rrqd.boot import Message
from rrqd.model.queue_patterns import is_pattern, resolve
from rrqd.store import Store

if TYPE_CHECKING:
    from rrqd.config.settings import Settings


class Backlog:
    """Tells the master once a second, in one round trip; with no pool that scales itself it asks for nothing."""

    name = "backlog"
    interval_seconds = 1.0

    def __init__(self, store: Store, settings: Settings, tell: Callable[[Message], object]) -> None:
        self._store = store
        self._tell = tell
        self.settings = settings

    async def run_once(self, now: float) -> None:
        """Look at the queues of pools with ``max_processes``."""
        pools = {name: pool.queues for name, pool in self.settings.rrqd.pools.items() if pool.max_processes is not None}
        if not pools:
            return
        if any(is_pattern(queue) for queues in pools.values() for queue in queues):
            known, stored = await self._store.queues(), await self._store.config()
            pools = {name: resolve(queues, known, stored) for name, queues in pools.items()}
        names = sorted({queue for queues in pools.values() for queue in queues})
        # Jobs of a paused queue wait because somebody wants them to; more workers would not help them.
        ages = {
            depth.name: 0.0 if depth.paused else depth.oldest_due_age_seconds
            for depth in await self._store.queue_depths(names)
        }
        oldest = {pool: max((ages[queue] for queue in queues), default=0.0) for pool, queues in pools.items()}
        self._tell({"type": "backlog", "oldest_seconds": oldest})
