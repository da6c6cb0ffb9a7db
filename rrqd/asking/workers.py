"""``client.workers``: who takes jobs, on all machines."""

from __future__ import annotations

from rrqd.asking.desk import Ask, Run
from rrqd.store import Forgotten, WorkerRow


class Workers:
    """rrqd's workers, and programs that claim jobs themselves; real RRQ workers are no part of it."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def jobs(self, worker_id: str) -> list[str]:
        """Ids of the jobs that a worker holds."""
        return sorted(await self._ask(lambda store: store.held_by(worker_id)))

    async def nodes(self) -> dict[str, float]:
        """Nodes of the last day, those that are gone too -> seconds since they were last seen."""
        return await self._ask(lambda store: store.seen_nodes())

    async def forget(self, worker_id: str) -> Forgotten:
        """Drop a worker whose node is gone: what it held goes back at once, uncharged. A living one is left alone."""
        return (await self._ask(lambda store: store.forget_worker(worker_id)))[0]

    async def list(self) -> list[WorkerRow]:
        """All that are open, by node."""
        return await self._ask(lambda store: store.workers())


class SyncWorkers:
    """:class:`Workers` for plain code."""

    def __init__(self, run: Run, desk: Workers) -> None:
        self._run = run
        self._desk = desk

    def jobs(self, worker_id: str) -> list[str]:
        """See :meth:`Workers.jobs`."""
        return self._run(self._desk.jobs(worker_id))

    def nodes(self) -> dict[str, float]:
        """See :meth:`Workers.nodes`."""
        return self._run(self._desk.nodes())

    def forget(self, worker_id: str) -> Forgotten:
        """See :meth:`Workers.forget`."""
        return self._run(self._desk.forget(worker_id))

    def list(self) -> list[WorkerRow]:
        """See :meth:`Workers.list`."""
        return self._run(self._desk.list())
