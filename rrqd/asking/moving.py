"""``client.jobs`` and ``client.failures``: jobs moved by hand, one or many, and failures by their groups."""

from __future__ import annotations

from collections.abc import Sequence

from rrqd.asking.desk import Ask, Run
from rrqd.model import checks
from rrqd.model.job import short_queue_name
from rrqd.model.names import read_group
from rrqd.store import Cancelled, Moved
from rrqd.store.choosing import unfail, unfinished
from rrqd.store.labels import Page


class Jobs:
    """Moves of jobs by hand. All take ids in any number and answer one word for each."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def move(
        self,
        *job_ids: str,
        queue: str | None = None,
        priority: float | None = None,
        delay_seconds: float | None = None,
        running: bool = False,
    ) -> dict[str, Moved]:
        """Let jobs wait in another queue, at another priority or until another time; what is left out stays.

        ``priority`` 0 takes it away; ``delay_seconds`` counts from now. A buried job comes back as if new. One that
        runs is left alone (``running``) unless ``running=True``: then it is taken from its worker, as by ``timeout``.
        Raises InvalidRequest, or EnqueueFailed when the queue's key holds something else."""
        states = ("waiting", "buried", "running") if running else ("waiting", "buried")
        return await self._move(job_ids, states, queue, priority, delay_seconds)

    async def timeout(self, *job_ids: str, delay_seconds: float | None = None) -> dict[str, Moved]:
        """Take running jobs from their workers and put them back to their old place, or until ``delay_seconds`` from
        now. It costs them no attempt. Their workers are told to stop; whatever these runs still do, they can settle
        nothing. Jobs that do not run are left alone (``waiting``, ``buried``)."""
        return await self._move(job_ids, ("running",), None, None, delay_seconds)

    async def retry(
        self, *job_ids: str, delay_seconds: float | None = None, queue: str | None = None
    ) -> dict[str, Moved]:
        """Bring buried jobs back as if new, now or ``delay_seconds`` from now; one that waits (for its next attempt,
        say) is due then, too."""
        return await self._move(job_ids, ("waiting", "buried"), queue, None, delay_seconds or 0)

    async def _move(
        self,
        job_ids: Sequence[str],
        states: Sequence[str],
        queue: str | None,
        priority: float | None,
        delay_seconds: float | None,
    ) -> dict[str, Moved]:
        home = None if queue is None else short_queue_name(checks.name(queue, "queue"))
        delay_ms = None if delay_seconds is None else round(checks.seconds(delay_seconds, "delay_seconds") * 1000)
        wanted = None if priority is None else checks.priority(priority) or 0
        ids = list(dict.fromkeys(job_ids))
        said = await self._ask(
            lambda store: store.move(ids, queue=home, delay_ms=delay_ms, priority=wanted, states=states)
        )
        return dict(zip(ids, said, strict=True))

    async def cancel(self, *job_ids: str) -> dict[str, Cancelled]:
        """Cancel jobs wherever they are."""
        ids = list(dict.fromkeys(job_ids))
        return dict(zip(ids, await self._ask(lambda store: store.cancel_many(ids)), strict=True))

    async def cancel_tagged(self, tag: str) -> dict[str, Cancelled]:
        """Cancel all jobs with a tag that have not ended; answers only those."""
        return await self._cancel_all(tag=tag)

    async def cancel_queue(self, queue: str) -> dict[str, Cancelled]:
        """Cancel all jobs that wait in a queue, for other jobs, or for a throttle. What runs goes on."""
        return await self._cancel_all(queue=short_queue_name(queue))

    async def _cancel_all(self, **where: str) -> dict[str, Cancelled]:
        ids = await self._ask(lambda store: unfinished(store, **where))
        return await self.cancel(*ids)


class Failures:
    """Failures that handlers put into groups (``request.fail``, ``FailJob``)."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def groups(self) -> dict[str, int]:
        """Every group and the number of its jobs, largest first."""
        return await self._ask(lambda store: store.groups())

    async def jobs(self, group: str, *, offset: int = 0, limit: int = 25) -> Page:
        """Ids of the buried jobs of a group, newest first."""
        return await self._ask(lambda store: store.failed_in(group, offset=offset, limit=limit))

    async def unfail(
        self, group: str, *, queue: str | None = None, limit: int = 500, delay_seconds: float = 0.0
    ) -> list[str]:
        """Bring at most ``limit`` jobs of a group back as if new, oldest first, into their own queues or ``queue``;
        answers the ids of those that came. Call it again while it answers any."""
        home = None if queue is None else short_queue_name(checks.name(queue, "queue"))
        delay_ms = round(checks.seconds(delay_seconds, "delay_seconds") * 1000)
        return await self._ask(lambda store: unfail(store, read_group(group), home, limit, delay_ms))


class SyncJobs:
    """:class:`Jobs` for plain code."""

    def __init__(self, run: Run, desk: Jobs) -> None:
        self._run = run
        self._desk = desk

    def move(
        self,
        *job_ids: str,
        queue: str | None = None,
        priority: float | None = None,
        delay_seconds: float | None = None,
        running: bool = False,
    ) -> dict[str, Moved]:
        """See :meth:`Jobs.move`."""
        return self._run(
            self._desk.move(*job_ids, queue=queue, priority=priority, delay_seconds=delay_seconds, running=running)
        )

    def timeout(self, *job_ids: str, delay_seconds: float | None = None) -> dict[str, Moved]:
        """See :meth:`Jobs.timeout`."""
        return self._run(self._desk.timeout(*job_ids, delay_seconds=delay_seconds))

    def retry(self, *job_ids: str, delay_seconds: float | None = None, queue: str | None = None) -> dict[str, Moved]:
        """See :meth:`Jobs.retry`."""
        return self._run(self._desk.retry(*job_ids, delay_seconds=delay_seconds, queue=queue))

    def cancel(self, *job_ids: str) -> dict[str, Cancelled]:
        """See :meth:`Jobs.cancel`."""
        return self._run(self._desk.cancel(*job_ids))

    def cancel_tagged(self, tag: str) -> dict[str, Cancelled]:
        """See :meth:`Jobs.cancel_tagged`."""
        return self._run(self._desk.cancel_tagged(tag))

    def cancel_queue(self, queue: str) -> dict[str, Cancelled]:
        """See :meth:`Jobs.cancel_queue`."""
        return self._run(self._desk.cancel_queue(queue))


class SyncFailures:
    """:class:`Failures` for plain code."""

    def __init__(self, run: Run, desk: Failures) -> None:
        self._run = run
        self._desk = desk

    def groups(self) -> dict[str, int]:
        """See :meth:`Failures.groups`."""
        return self._run(self._desk.groups())

    def jobs(self, group: str, *, offset: int = 0, limit: int = 25) -> Page:
        """See :meth:`Failures.jobs`."""
        return self._run(self._desk.jobs(group, offset=offset, limit=limit))

    def unfail(
        self, group: str, *, queue: str | None = None, limit: int = 500, delay_seconds: float = 0.0
    ) -> list[str]:
        """See :meth:`Failures.unfail`."""
        return self._run(self._desk.unfail(group, queue=queue, limit=limit, delay_seconds=delay_seconds))
