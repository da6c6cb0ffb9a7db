"""Tenants: whose jobs share a queue's turns, and how many turns each has for one of another's."""

from __future__ import annotations

from rrqd.store.base import Base
from rrqd.store.queues import unless_spoilt


class Tenants(Base):
    """All may be repeated."""

    async def set_weight(self, tenant: str, weight: float) -> None:
        """So many turns for one of a tenant of weight 1, for jobs that come to wait from now on."""
        link = await self.link()
        if weight == 1:
            await link.call("HDEL", self.keys.weights, tenant)
        else:
            await link.call("HSET", self.keys.weights, tenant, repr(float(weight)))

    async def weights(self) -> dict[str, float]:
        """Tenants whose weight is not 1."""
        flat = await (await self.link()).call("HGETALL", self.keys.weights)
        return {name.decode(errors="replace"): float(weight) for name, weight in flat.items()}

    async def tenants_of(self, queue: str, *, most: int = 100) -> dict[str, float]:
        """Tenants of a queue, at most so many, those furthest behind first -> about how many of their jobs are due.

        Reckoned from their turns: exact while their weights stay as they are and jobs leave by being taken."""
        link = await self.link()
        now = link.call("HGET", self.keys.facts, f"fair {queue}")
        turns = link.call("ZRANGE", self.keys.turns(queue), 0, most - 1, "REV", "WITHSCORES")
        virtual, found, weights = float(await now or 0), await unless_spoilt(turns, []), await self.weights()
        waits = {}
        for name, score in found:
            tenant = name.decode(errors="replace")
            waits[tenant] = max(0.0, float(score) - virtual) * weights.get(tenant, 1.0)
        return waits
