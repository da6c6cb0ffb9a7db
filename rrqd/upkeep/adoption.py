"""Jobs of dead real RRQ workers on the same queues go back, also when no other real worker is there to recover them."""

from __future__ import annotations

from typing import Any

from rrqd.events import Event
from rrqd.store import Store

#: Foreign workers looked at in one turn, and steps of a thousand keys with which unknown ones are looked for.
WORKERS_MOST = 50
SCAN_STEPS = 5


class Adoption:
    """Looks at the foreign workers that are known, and for unknown ones on a part of the key space.

    Whoever claims while we listen is told to us at once (``heard``); the walk finds those that died before. Its cost a
    turn is the same with a thousand keys and with a hundred million.
    """

    name = "adoption"
    interval_seconds = 3.0

    def __init__(self, store: Store, log: Any) -> None:
        self._store = store
        self._log = log
        self._cursor = b"0"
        self._heard: set[str] = set()

    def heard(self, workers: set[str]) -> None:
        """Foreign workers that have just claimed or ended jobs; noted at the next turn."""
        self._heard |= workers

    async def run_once(self, now: float) -> None:
        """Put back what the dead ones held. In a namespace there can be none: real RRQ knows of none."""
        if self._store.keys.namespace:
            return
        self._cursor, found = await self._store.scan_foreign(self._cursor, SCAN_STEPS)
        fresh = {*found, *self._heard}
        await self._store.note_foreign(fresh)
        self._heard -= fresh
        for worker in await self._store.foreign_workers(WORKERS_MOST):
            adopted = await self._store.adopt(worker)
            for job_id in adopted.buried:
                self._log.error(Event.JOB_BURIED, job=job_id, worker=worker, reason="poison")
            if adopted.queued:
                self._log.warning(
                    Event.JOBS_ADOPTED, worker=worker, jobs=adopted.queued[:20], number=len(adopted.queued)
                )
