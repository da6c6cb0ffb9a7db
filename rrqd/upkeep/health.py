"""RRQ's health keys, one for each worker, so that the real ``rrq check`` and its kin see who is alive."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

import msgspec

from rrqd import clock
from rrqd.flight import FlightDeck, FlightState, PageSnapshot
from rrqd.model.job import QUEUE_PREFIX
from rrqd.store import Store

if TYPE_CHECKING:
    from rrqd.config.settings import Settings

#: RRQ sleeps at most this long between two reports, whatever is configured.
LONGEST_INTERVAL_SECONDS = 60.0


class Health:
    """Writes what the flight pages say, in RRQ's six fields. New workers are written at the next look (2 s), the rest
    at RRQ's interval."""

    name = "health"
    interval_seconds = 2.0

    def __init__(self, store: Store, deck: FlightDeck, settings: Settings, alive: Container[str]) -> None:
        self._store = store
        self._deck = deck
        self.settings = settings
        self._alive = alive
        self._written: dict[str, float] = {}

    async def run_once(self, now: float) -> None:
        """Write the keys that are due."""
        interval, ttl = health_seconds(self.settings)
        reports: list[tuple[str, bytes]] = []
        living = set()
        for page in self._deck.begun():
            seen = page.snapshot()
            if seen.state not in (FlightState.READY, FlightState.DRAINING, FlightState.PAUSED):
                continue
            if seen.worker_id not in self._alive:
                continue
            living.add(seen.worker_id)
            if now - self._written.get(seen.worker_id, -interval) >= interval:
                reports.append((seen.worker_id, self._report(seen)))
        if reports:
            await self._store.write_health(reports, ttl)
        for worker_id, _ in reports:
            self._written[worker_id] = now
        self._written = {worker: at for worker, at in self._written.items() if worker in living}

    def _report(self, seen: PageSnapshot) -> bytes:
        pool = self.settings.rrqd.pools.get(seen.pool)
        return report_of(
            Status(
                worker_id=seen.worker_id,
                running=seen.running,
                concurrency=pool.concurrency if pool is not None else 0,
                queues=pool.queues if pool is not None else [],
                draining=seen.state == FlightState.DRAINING,
            )
        )


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What a health record says of a worker. ``queues``: short names."""

    worker_id: str
    running: int
    concurrency: int
    queues: list[str]
    draining: bool = False


def health_seconds(settings: Settings) -> tuple[float, int]:
    """(time between two records, their time to live), in seconds."""
    rrq = settings.rrq
    interval = min(rrq.worker_health_check_interval_seconds, LONGEST_INTERVAL_SECONDS)
    return interval, int(interval + rrq.worker_health_check_ttl_buffer_seconds)


def report_of(worker: Status) -> bytes:
    """The record, as JSON."""
    if worker.draining:
        status = "draining"
    elif worker.running >= worker.concurrency > 0:
        status = "idle (concurrency limit)"
    else:
        status = "running" if worker.running else "idle (no jobs)"
    return msgspec.json.encode(
        {
            "active_jobs": worker.running,
            "concurrency_limit": worker.concurrency,
            "queues": [QUEUE_PREFIX + name for name in worker.queues],
            "status": status,
            "timestamp": clock.wall().isoformat(),
            "worker_id": worker.worker_id,
        }
    )
