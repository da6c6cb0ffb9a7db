"""Nodes whose lease has ended: their jobs go back to the queues, once, by whichever steward comes first."""

from __future__ import annotations

from typing import Any

from rrqd.events import Event
from rrqd.store import Charge, Store


class Reaper:
    """Looks for lapsed nodes.

    After a (re)connection it waits one lease first. The scenario: the server was away for a minute, so every lease in
    it has lapsed although all nodes live; whoever reaps at once would run everybody's jobs a second time.
    """

    name = "reaper"

    def __init__(self, store: Store, node_id: str, lease_seconds: float, log: Any) -> None:
        self._store = store
        self._node_id = node_id
        self._lease_seconds = lease_seconds
        self._log = log
        self._patient_until: float | None = None
        self.interval_seconds = max(0.2, lease_seconds / 3)

    def connected(self, now: float) -> None:
        """The server answers (again) since ``now``."""
        self._patient_until = now + self._lease_seconds

    async def run_once(self, now: float) -> None:
        """Release what lapsed nodes hold, and forget them."""
        lapsed = await self._store.lapsed_nodes()
        if self._node_id in lapsed:
            self.connected(now)  # so has our own: it is the server that was away, or its clock that jumped
        if self._patient_until is None or now < self._patient_until:
            return
        for node_id in lapsed:
            if node_id != self._node_id:
                await self._reap(node_id)

    async def resume(self, node_id: str) -> None:
        """Put back at once what a node held whose processes are known to be gone; nothing to do when it left well."""
        if node_id in await self._store.nodes():
            await self._store.leave(node_id)
            await self._reap(node_id)

    async def _reap(self, node_id: str) -> None:
        released = 0
        for worker_id in await self._store.workers_of(node_id):
            report = await self._store.close_worker(
                worker_id, reason=f"node {node_id} is gone", charge=Charge.NODE, only_if_lapsed_node=node_id
            )
            released += len(report.queued) + len(report.buried) + len(report.cancelled)
        await self._store.forget_node(node_id)
        self._log.warning(Event.NODE_REAPED, node=node_id, jobs=released)
