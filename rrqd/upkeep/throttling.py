"""Throttles at which something waits though it could run: a limit has expired, or a holder's record is gone."""

from __future__ import annotations

from typing import Any

from rrqd.store import Store


class Throttling:
    """Once a second; with nothing waiting at any throttle that is one look at an empty set."""

    name = "throttling"
    interval_seconds = 1.0

    def __init__(self, store: Store, log: Any) -> None:
        self._store = store
        self._log = log

    async def run_once(self, now: float) -> None:
        """Let go of all that may run."""
        moved = await self._store.tend_throttles()
        if moved:
            self._log.debug("throttles.tended", jobs=moved)
