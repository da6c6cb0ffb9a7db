"""``client.workers``: who holds jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rrqd import clock

if TYPE_CHECKING:
    from rrqd.reqless.client import Client
    from rrqd.store import Store


class Workers:
    """Workers of the daemons, and programs that pop. Each process is one; a dead one leaves the list by itself."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def counts(self) -> list[dict[str, Any]]:
        """``name``, and how many ``jobs`` each runs, or held (``stalled``) when its lease ended."""
        return [
            {"name": name, "jobs": len(jobs["jobs"]), "stalled": len(jobs["stalled"])}
            for name, jobs in self._client.ask(_all).items()
        ]

    def __getitem__(self, name: str) -> dict[str, list[str]]:
        """The ids of a worker's ``jobs``, and of the ``stalled`` ones."""
        return self._client.ask(_all).get(name, {"jobs": [], "stalled": []})


async def _all(store: Store) -> dict[str, dict[str, list[str]]]:
    now_ms = clock.wall_ms()
    found: dict[str, dict[str, list[str]]] = {}
    for node, deadline_ms in (await store.nodes()).items():
        for worker in await store.workers_of(node):
            ids = sorted(await store.held_by(worker))
            found[worker] = {"jobs": ids, "stalled": []} if deadline_ms > now_ms else {"jobs": [], "stalled": ids}
    return found
