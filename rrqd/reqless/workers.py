"""``client.workers``: who holds jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rrqd.reqless.exceptions import ReqlessError
from rrqd.store import Forgotten, Store, WorkerRow

if TYPE_CHECKING:
    from rrqd.reqless.client import Client


class Workers:
    """Workers of the daemons, and programs that pop. Each process is one; a dead one leaves the list by itself."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def counts(self) -> list[dict[str, Any]]:
        """``name``, how many ``jobs`` each runs, or held (``stalled``) when its lease ended, and how many seconds ago
        it was ``seen`` (None: a day and more); those seen last first."""
        with self._client.telling():
            rows = self._client.sync.workers.list()
        rows.sort(key=lambda row: float("inf") if row.seen_seconds is None else row.seen_seconds)
        return [
            {
                "name": row.worker_id, "jobs": 0 if _is_gone(row) else row.held,
                "stalled": row.held if _is_gone(row) else 0, "seen": row.seen_seconds,
            }
            for row in rows
        ]  # fmt: skip

    def __getitem__(self, name: str) -> dict[str, list[str]]:
        """The ids of a worker's ``jobs``, and of the ``stalled`` ones."""

        async def look(store: Store) -> dict[str, list[str]]:
            jobs, rows = sorted(await store.held_by(name)), await store.workers()
            gone = all(_is_gone(row) for row in rows if row.worker_id == name)
            return {"jobs": [] if gone else jobs, "stalled": jobs if gone else []}

        return self._client.ask(look)

    def forget(self, *names: str) -> None:
        """Drop workers whose machine is gone: what they held waits again at once. Unknown ones are none. Raises
        ReqlessError for one that lives; it is left alone, and those before it are gone."""
        for name in names:
            with self._client.telling():
                said = self._client.sync.workers.forget(name)
            if said is Forgotten.ALIVE:
                raise ReqlessError(f"worker {name} lives: its machine renews its lease")


def _is_gone(row: WorkerRow) -> bool:
    return row.lease_seconds <= 0
