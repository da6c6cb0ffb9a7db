"""``client.workers``: who holds jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rrqd.reqless import looking

if TYPE_CHECKING:
    from rrqd.reqless.client import Client


class Workers:
    """Workers of the daemons, and programs that pop. Each process is one; a dead one leaves the list by itself."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def counts(self) -> list[dict[str, Any]]:
        """``name``, and how many ``jobs`` each runs, or held (``stalled``) when its lease ended."""
        return [
            {"name": one.name, "jobs": 0 if one.stalled else len(one.jobs), "stalled": len(one.jobs) * one.stalled}
            for one in self._client.ask(looking.holders)
        ]

    def __getitem__(self, name: str) -> dict[str, list[str]]:
        """The ids of a worker's ``jobs``, and of the ``stalled`` ones."""
        for one in self._client.ask(looking.holders):
            if one.name == name:
                return {"jobs": [], "stalled": one.jobs} if one.stalled else {"jobs": one.jobs, "stalled": []}
        return {"jobs": [], "stalled": []}
