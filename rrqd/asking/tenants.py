"""``client.tenants``: how tenants share the turns of a queue."""

from __future__ import annotations

from rrqd.asking.desk import Ask, Run
from rrqd.exc import InvalidRequest
from rrqd.model.job import short_queue_name
from rrqd.model.names import read_tenant

LEAST, MOST = 0.001, 1000


class Tenants:
    """Jobs that were enqueued with ``tenant="acme"`` take turns with those of other tenants of their queue."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def set_weight(self, tenant: str, weight: float) -> None:
        """So many turns (0.001 to 1000) for one of a tenant of weight 1, which is what all have without; for jobs that
        come to wait from now on. Raises InvalidRequest."""
        name, number = read_tenant(tenant), read_weight(weight)
        await self._ask(lambda store: store.set_weight(name, number))

    async def weights(self) -> dict[str, float]:
        """Tenants whose weight is not 1."""
        return await self._ask(lambda store: store.weights())

    async def waiting(self, queue: str, *, limit: int = 100) -> dict[str, int]:
        """Tenants of a queue, those with the most first -> about how many of their jobs are due and wait there."""
        found = await self._ask(lambda store: store.tenants_of(short_queue_name(queue), most=limit))
        return {tenant: round(count) for tenant, count in found.items() if round(count)}


def read_weight(weight: float) -> float:
    """A weight that there can be. Raises InvalidRequest."""
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not LEAST <= weight <= MOST:
        raise InvalidRequest(f"weight must be a number from {LEAST} to {MOST}, not {weight!r}")
    return weight


class SyncTenants:
    """:class:`Tenants` for plain code."""

    def __init__(self, run: Run, desk: Tenants) -> None:
        self._run = run
        self._desk = desk

    def set_weight(self, tenant: str, weight: float) -> None:
        """See :meth:`Tenants.set_weight`."""
        self._run(self._desk.set_weight(tenant, weight))

    def weights(self) -> dict[str, float]:
        """See :meth:`Tenants.weights`."""
        return self._run(self._desk.weights())

    def waiting(self, queue: str, *, limit: int = 100) -> dict[str, int]:
        """See :meth:`Tenants.waiting`."""
        return self._run(self._desk.waiting(queue, limit=limit))
