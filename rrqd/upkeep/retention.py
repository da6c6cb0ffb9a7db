"""Leftovers: entries of DLQs and indexes whose job has expired, and queues that nobody told us of."""

from __future__ import annotations

from typing import Any

from rrqd.store import Store

#: At most this many DLQ entries are removed in one turn; the rest waits for the next.
TRIM_MOST = 5_000


class Retention:
    """Trims DLQs, and the indexes of tags, tracked jobs, groups of failures and ended jobs, from their old end. Jobs
    expire more or less in the order in which they came there, so the walk stops after some that are still there:
    its cost is what it removes, not the length of the list."""

    name = "retention"
    interval_seconds = 600.0

    def __init__(self, store: Store, log: Any) -> None:
        self._store = store
        self._log = log

    async def run_once(self, now: float) -> None:
        """Trim all of them."""
        for dlq in await self._store.dlqs():
            removed = await self._store.trim_dlq(dlq, most=TRIM_MOST)
            if removed:
                self._log.info("dlq.trimmed", dlq=dlq, entries=removed)
        await self._store.trim_index("tracked")
        for tag in await self._store.tags():
            await self._store.trim_index("tag", tag)
        for group in await self._store.groups():
            await self._store.trim_index("group", group)
        for name in await self._store.lists():
            await self._store.trim_index("ended", name)


class Census:
    """Finds queues that foreign producers made before anybody listened. Walks the whole key space, so seldom."""

    name = "census"
    interval_seconds = 3600.0

    def __init__(self, store: Store) -> None:
        self._store = store

    async def run_once(self, now: float) -> None:
        """Remember every queue that has jobs."""
        await self._store.note_queues(await self._store.scan_queues())
