"""What ``rrqd.classic.JobStore`` needs beside the moves: single steps on RRQ's keys, as its first API exposed them.

They are for programs that put jobs together by hand. Nothing of rrqd uses them: a step alone is not a move, and
promises nothing about the next one. Each raises StoreUnavailable and StoreRefused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rrqd.model.job import short_dlq_name, short_queue_name
from rrqd.store.base import Base

UNIQUE_LOCK = "rrq:lock:unique:"
LOCK = "rrq:lock:job:"
LAST_TIME = "last_process:"


class HandMade:
    """The steps on one store's keys. Queue and DLQ names may be short or whole."""

    def __init__(self, store: Base) -> None:
        self._store = store
        self._keys = store.keys

    async def _call(self, *words: Any) -> Any:
        return await (await self._store.link()).call(*words)

    # Hashes.

    async def write(self, job_id: str, fields: Mapping[str, str]) -> None:
        """Set fields of a job's hash."""
        await self._call("HSET", self._keys.job(job_id), *(word for pair in fields.items() for word in pair))

    async def count_attempt(self, job_id: str) -> int:
        """One more failed attempt; answers how many there are."""
        return int(await self._call("HINCRBY", self._keys.job(job_id), "current_retries", 1))

    async def expire(self, job_id: str, seconds: int) -> None:
        """Let the record go after so many seconds; 0 keeps it for ever."""
        key = self._keys.job(job_id)
        await (self._call("EXPIRE", key, seconds) if seconds > 0 else self._call("PERSIST", key))

    # Queues and DLQs.

    async def queue(self, name: str, job_id: str, score_ms: float) -> None:
        """Put an id into a queue, due at ``score_ms``."""
        await self._call("ZADD", self._keys.queue(short_queue_name(name)), f"{score_ms:.3f}", job_id)

    async def unqueue(self, name: str, job_id: str) -> int:
        """Take it out; answers how many there were."""
        return int(await self._call("ZREM", self._keys.queue(short_queue_name(name)), job_id))

    async def queued(self, name: str, start: int, end: int) -> list[str]:
        """Ids by rank."""
        return _texts(await self._call("ZRANGE", self._keys.queue(short_queue_name(name)), start, end))

    async def ready(self, name: str, count: int) -> list[str]:
        """Ids that are due by the server's clock, oldest first."""
        seconds, micros = await self._call("TIME")
        now = f"{int(seconds) * 1000 + int(micros) / 1000:.3f}"
        key = self._keys.queue(short_queue_name(name))
        return _texts(await self._call("ZRANGE", key, "-inf", now, "BYSCORE", "LIMIT", 0, count))

    async def sizes(self, names: Sequence[str]) -> dict[str, int]:
        """How many ids each queue has, under the names given."""
        return {name: int(await self._call("ZCARD", self._keys.queue(short_queue_name(name)))) for name in names}

    async def bury(self, name: str, job_id: str) -> None:
        """Put an id into a DLQ."""
        await self._call("LPUSH", self._keys.dlq(short_dlq_name(name)), job_id)
        await self._call("SADD", self._keys.dlqs, short_dlq_name(name))

    # Locks.

    async def lock(self, kind: str, name: str, owner: str, ttl_ms: int) -> bool:
        """Take a lock that nobody has, for so long."""
        return await self._call("SET", self._name(kind, name), owner, "NX", "PX", max(1, ttl_ms)) is not None

    async def unlock(self, kind: str, name: str) -> None:
        """Drop it, whoever has it."""
        await self._call("DEL", self._name(kind, name))

    async def owner(self, kind: str, name: str) -> str | None:
        """Who has it."""
        return _text(await self._call("GET", self._name(kind, name)))

    async def unique_holder(self, unique_key: str) -> tuple[str | None, int]:
        """Which job has a unique key, by a lock or by an enqueue, and for how many seconds more (0: unknown)."""
        for key in (self._name(UNIQUE_LOCK, unique_key), self._name("rrq:idempotency:", unique_key)):
            holder = _text(await self._call("GET", key))
            if holder is not None:
                return holder, max(0, int(await self._call("TTL", key)))
        return None, 0

    def _name(self, kind: str, name: str) -> str:
        return f"{self._keys.namespace}{kind}{name}"

    # Presence, and what the first API kept for a dashboard.

    async def read_health(self, worker_id: str) -> tuple[str | None, int | None]:
        """A worker's record and the seconds it has left."""
        text = _text(await self._call("GET", self._keys.health(worker_id)))
        left = int(await self._call("TTL", self._keys.health(worker_id)))
        return text, left if left >= 0 else None

    async def note(self, key: str, member: str, score: float) -> None:
        """Remember a name under a score."""
        await self._call("ZADD", self._keys.namespace + key, score, member)

    async def noted(self, key: str, least: float) -> list[str]:
        """Names whose score is at least so much."""
        return _texts(await self._call("ZRANGE", self._keys.namespace + key, least, "+inf", "BYSCORE"))

    async def read_text(self, kind: str, name: str) -> str | None:
        """A plain key."""
        return _text(await self._call("GET", self._name(kind, name)))

    async def write_text(self, kind: str, name: str, text: str) -> None:
        """Set a plain key."""
        await self._call("SET", self._name(kind, name), text)

    async def tell(self, stream: str, fields: Mapping[str, str], most: int) -> None:
        """Add an entry to a stream of about ``most``."""
        words = [word for pair in fields.items() for word in pair]
        await self._call("XADD", self._keys.namespace + stream, "MAXLEN", "~", most, "*", *words)

    async def told(self, stream: str, last_id: str, count: int) -> list[tuple[str, dict[str, str]]]:
        """Entries after ``last_id``, at most so many."""
        found = await self._call("XRANGE", self._keys.namespace + stream, f"({last_id}", "+", "COUNT", count)
        return [
            (entry.decode(), dict(zip(_texts(words[::2]), _texts(words[1::2]), strict=True))) for entry, words in found
        ]


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode(errors="replace")


def _texts(raw: Sequence[bytes]) -> list[str]:
    return [one.decode(errors="replace") for one in raw]
