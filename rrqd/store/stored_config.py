"""Configuration that lies in the store, for all machines: a hash, "<key>" or "<key> <queue>" -> value as text.

Rule: no claim, settlement or enqueue reads it. Workers do, when they open, when they are told, and now and then.
"""

from __future__ import annotations

from rrqd.model.queue_config import field_of
from rrqd.store.base import Base
from rrqd.store.scripts import run


class StoredConfig(Base):
    """All may be repeated. What keys and values mean is ``model/queue_config``'s business."""

    async def config(self) -> dict[str, str]:
        """All that is stored, by field."""
        flat = await (await self.link()).call("HGETALL", self.keys.config)
        return {field.decode(errors="replace"): value.decode(errors="replace") for field, value in flat.items()}

    async def set_config(self, key: str, value: str, queue: str | None = None) -> str | None:
        """Store a value, for one queue or for all; answers the one before."""
        return await self._configure("set", key, queue, value)

    async def unset_config(self, key: str, queue: str | None = None) -> str | None:
        """Forget a value; answers it, ``None`` when there was none."""
        return await self._configure("unset", key, queue, "")

    async def _configure(self, verb: str, key: str, queue: str | None, value: str) -> str | None:
        before = await run(await self.link(), "configure", self.keys.token, verb, field_of(key, queue), value)
        return None if before is None else before.decode(errors="replace")

    async def completed_of(self, queue: str, *, offset: int = 0, limit: int = 25) -> list[str]:
        """Ids of the newest completed jobs of a queue whose ``history_count`` is set; some may have expired since."""
        found = await (await self.link()).call("ZRANGE", self.keys.done(queue), offset, offset + limit - 1, "REV")
        return [job_id.decode(errors="replace") for job_id in found]
