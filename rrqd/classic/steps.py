"""What stands under ``JobStore``: its connection, the locks, and what workers say of themselves."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from rrqd import clock
from rrqd.classic import constants
from rrqd.client import RRQClient as Client
from rrqd.job import EnqueueReport
from rrqd.model.job import NewJob
from rrqd.store import Store
from rrqd.store.firstapi import LAST_TIME, LOCK, UNIQUE_LOCK, HandMade

if TYPE_CHECKING:
    from rrqd.classic.settings import RRQSettings

T = TypeVar("T")

MONITOR_EVENTS = 1000


class _Door(Client):
    """The present client, with the jobs it writes and the store it asks in the hands of this room."""

    async def write(self, job: NewJob) -> EnqueueReport:
        return (await self._write([job]))[0]

    async def ask(self, call: Callable[[Store], Awaitable[T]]) -> T:
        return await self._ask(call)


class Steps:
    """A connection, made when first used, and one for each event loop."""

    def __init__(self, settings: RRQSettings) -> None:
        self.settings = settings
        self._door = _Door(config={"redis_dsn": settings.redis_dsn})

    async def aclose(self) -> None:
        """Drop this loop's connection."""
        await self._door.close()

    async def write(self, job: NewJob) -> EnqueueReport:
        """Enqueue, as one move."""
        return await self._door.write(job)

    async def _by_hand(self, step: Callable[[HandMade], Awaitable[T]]) -> T:
        async def call(store: Store) -> T:
            return await step(HandMade(store))

        return await self._door.ask(call)

    async def remove_job_from_queue(self, queue_name: str, job_id: str) -> int:
        """Take an id out; answers 1, or 0 when it was not there."""
        return await self._by_hand(lambda hand: hand.unqueue(queue_name, job_id))


class Locks(Steps):
    """Locks of jobs and of unique keys. rrqd's workers respect a job's lock and take none themselves."""

    async def acquire_job_lock(self, job_id: str, worker_id: str, lock_timeout_ms: int) -> bool:
        """Lock a job: while the lock lasts no worker takes it."""
        return await self._by_hand(lambda hand: hand.lock(LOCK, job_id, worker_id, lock_timeout_ms))

    async def release_job_lock(self, job_id: str) -> None:
        """Drop the lock, whoever has it."""
        await self._by_hand(lambda hand: hand.unlock(LOCK, job_id))

    async def get_job_lock_owner(self, job_id: str) -> str | None:
        """Who has locked a job."""
        return await self._by_hand(lambda hand: hand.owner(LOCK, job_id))

    async def atomic_lock_and_remove_job(
        self, job_id: str, queue_name: str, worker_id: str, lock_timeout_ms: int
    ) -> tuple[bool, int]:
        """Lock a job and take it out of its queue; answers (locked, how many were taken out)."""
        if not await self.acquire_job_lock(job_id, worker_id, lock_timeout_ms):
            return False, 0
        removed = await self.remove_job_from_queue(queue_name, job_id)
        if not removed:
            await self.release_job_lock(job_id)
        return bool(removed), removed

    async def acquire_unique_job_lock(self, unique_key: str, job_id: str, lock_ttl_seconds: int) -> bool:
        """Lock a unique key for a job."""
        return await self._by_hand(lambda hand: hand.lock(UNIQUE_LOCK, unique_key, job_id, lock_ttl_seconds * 1000))

    async def release_unique_job_lock(self, unique_key: str) -> None:
        """Drop such a lock, whoever has it."""
        await self._by_hand(lambda hand: hand.unlock(UNIQUE_LOCK, unique_key))

    async def get_unique_lock_holder(self, unique_key: str) -> str | None:
        """The id of the job that has a unique key, by a lock or because it was enqueued with it."""
        return (await self._by_hand(lambda hand: hand.unique_holder(unique_key)))[0]

    async def get_lock_ttl(self, unique_key: str) -> int:
        """How many seconds it has it still; 0 when nobody has."""
        return (await self._by_hand(lambda hand: hand.unique_holder(unique_key)))[1]


class Presence(Steps):
    """Health records, and what the first API kept for a dashboard."""

    async def set_worker_health(self, worker_id: str, data: dict[str, Any], ttl_seconds: int) -> None:
        """Write a worker's health record."""
        report = json.dumps(data, default=str).encode()
        await self._door.ask(lambda store: store.write_health([(worker_id, report)], ttl_seconds))

    async def get_worker_health(self, worker_id: str) -> tuple[dict[str, Any] | None, int | None]:
        """A worker's health record and the seconds it has left; (``None``, ``None``) when there is none."""
        text, left = await self._by_hand(lambda hand: hand.read_health(worker_id))
        return (None, None) if text is None else (json.loads(text), left)

    async def register_active_queue(self, queue_name: str) -> None:
        """Note that a queue is in use."""
        await self._by_hand(lambda hand: hand.note(constants.ACTIVE_QUEUES_SET, queue_name, clock.wall_ms() / 1000))

    async def register_active_worker(self, worker_id: str) -> None:
        """Note that a worker lives."""
        await self._by_hand(lambda hand: hand.note(constants.ACTIVE_WORKERS_SET, worker_id, clock.wall_ms() / 1000))

    async def get_active_queues(self, max_age_seconds: int = 300) -> list[str]:
        """Queues noted lately."""
        least = clock.wall_ms() / 1000 - max_age_seconds
        return await self._by_hand(lambda hand: hand.noted(constants.ACTIVE_QUEUES_SET, least))

    async def get_active_workers(self, max_age_seconds: int = 60) -> list[str]:
        """Workers noted lately."""
        least = clock.wall_ms() / 1000 - max_age_seconds
        return await self._by_hand(lambda hand: hand.noted(constants.ACTIVE_WORKERS_SET, least))

    async def publish_monitor_event(self, event_type: str, data: dict[str, Any]) -> None:
        """Tell whoever reads the monitor's stream; about a thousand entries are kept."""
        fields = {
            "event_type": event_type,
            "timestamp": str(clock.wall_ms() / 1000),
            "data": json.dumps(data, default=str),
        }
        await self._by_hand(lambda hand: hand.tell(constants.MONITOR_EVENTS_STREAM, fields, MONITOR_EVENTS))

    async def consume_monitor_events(
        self, last_id: str = "0", count: int = 100, block: int = 50
    ) -> list[tuple[str, list[tuple[str, dict[str, str]]]]]:
        """Entries of that stream after ``last_id``: [(stream, [(id, fields), …])]. ``block`` is accepted and not waited
        for."""
        del block
        found = await self._by_hand(lambda hand: hand.told(constants.MONITOR_EVENTS_STREAM, last_id, count))
        return [(constants.MONITOR_EVENTS_STREAM, found)] if found else []

    async def get_last_process_time(self, unique_key: str) -> datetime | None:
        """The time that was noted for a key."""
        text = await self._by_hand(lambda hand: hand.read_text(LAST_TIME, unique_key))
        return None if text is None else datetime.fromtimestamp(float(text), UTC)

    async def set_last_process_time(self, unique_key: str, timestamp: datetime) -> None:
        """Note a time for a key."""
        await self._by_hand(lambda hand: hand.write_text(LAST_TIME, unique_key, str(timestamp.timestamp())))
