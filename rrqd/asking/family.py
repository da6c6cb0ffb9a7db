"""``client.dependencies``: who waits for whom, and changing that while a job waits."""

from __future__ import annotations

from rrqd.asking.desk import Ask, Run
from rrqd.exc import InvalidRequest
from rrqd.model import checks
from rrqd.store import Store
from rrqd.store.family import Kinship, Waits


class Dependencies:
    """Jobs that wait for others. A job that is enqueued with ``depends_on=[…]`` does from the beginning."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def of(self, job_id: str) -> Kinship | None:
        """Whom the job waits for and who for it; ``None`` when there is no such job."""

        async def look(store: Store) -> Kinship | None:
            job = await store.get(job_id)
            return await store.kinship(job) if job is not None else None

        return await self._ask(look)

    async def add(self, job_id: str, *parents: str) -> Waits:
        """Let a waiting job wait for more jobs. Raises UnknownParent, or InvalidRequest when they wait for it."""
        if not parents:
            raise InvalidRequest("name at least one job to wait for")
        wanted = [checks.name(parent, "depends_on") for parent in parents]
        return await self._ask(lambda store: store.depend(job_id, wanted))

    async def drop(self, job_id: str, *parents: str) -> Waits:
        """Let it wait no more for these jobs, or for nobody when none is named."""
        return await self._ask(lambda store: store.undepend(job_id, parents))


class SyncDependencies:
    """:class:`Dependencies` for plain code."""

    def __init__(self, run: Run, desk: Dependencies) -> None:
        self._run = run
        self._desk = desk

    def of(self, job_id: str) -> Kinship | None:
        """See :meth:`Dependencies.of`."""
        return self._run(self._desk.of(job_id))

    def add(self, job_id: str, *parents: str) -> Waits:
        """See :meth:`Dependencies.add`."""
        return self._run(self._desk.add(job_id, *parents))

    def drop(self, job_id: str, *parents: str) -> Waits:
        """See :meth:`Dependencies.drop`."""
        return self._run(self._desk.drop(job_id, *parents))
