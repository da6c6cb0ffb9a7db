"""``client.tags`` and ``client.tracking``: what people put on jobs, and being told of their moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from rrqd.asking.desk import Ask, Run
from rrqd.exc import InvalidRequest
from rrqd.model.names import read_tags
from rrqd.store.following import Follower, JobEvent
from rrqd.store.labels import Page, TooManyTags

#: An event follower with so many events of before.
Follow = Callable[[int], Follower]


class Tags:
    """Tags of jobs. A job that is enqueued with ``tags=[…]`` has them from the beginning."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def add(self, job_id: str, *tags: str) -> list[str] | None:
        """Add tags to a job in any state; answers all its tags, ``None`` when there is no such job."""
        wanted = read_tags(tags)
        try:
            return await self._ask(lambda store: store.tag(job_id, wanted))
        except TooManyTags as fault:
            raise InvalidRequest(str(fault)) from None

    async def remove(self, job_id: str, *tags: str) -> list[str] | None:
        """Take tags away; answers those that are left, ``None`` when there is no such job."""
        return await self._ask(lambda store: store.untag(job_id, tags))

    async def jobs(self, tag: str, *, offset: int = 0, limit: int = 25) -> Page:
        """Ids of jobs with this tag, newest first. A job has left when its record has expired."""
        return await self._ask(lambda store: store.tagged(tag, offset=offset, limit=limit))

    async def counts(self) -> dict[str, int]:
        """Every tag in use and the number of its jobs, most used first."""
        return await self._ask(lambda store: store.tags())


class SyncTags:
    """:class:`Tags` for plain code."""

    def __init__(self, run: Run, desk: Tags) -> None:
        self._run = run
        self._desk = desk

    def add(self, job_id: str, *tags: str) -> list[str] | None:
        """See :meth:`Tags.add`."""
        return self._run(self._desk.add(job_id, *tags))

    def remove(self, job_id: str, *tags: str) -> list[str] | None:
        """See :meth:`Tags.remove`."""
        return self._run(self._desk.remove(job_id, *tags))

    def jobs(self, tag: str, *, offset: int = 0, limit: int = 25) -> Page:
        """See :meth:`Tags.jobs`."""
        return self._run(self._desk.jobs(tag, offset=offset, limit=limit))

    def counts(self) -> dict[str, int]:
        """See :meth:`Tags.counts`."""
        return self._run(self._desk.counts())


class Tracking:
    """Jobs that are tracked, and their events. ``track=True`` among the options of an enqueue tracks from the start."""

    def __init__(self, ask: Ask, follow: Follow) -> None:
        self._ask = ask
        self._follow = follow

    async def track(self, job_id: str) -> bool | None:
        """Tell of every move of the job; false when that was so already, ``None`` when there is no such job."""
        return await self._ask(lambda store: store.track(job_id))

    async def untrack(self, job_id: str) -> bool | None:
        """Tell of them no more; false when that was so already, ``None`` when there is no such job."""
        return await self._ask(lambda store: store.untrack(job_id))

    async def jobs(self, *, offset: int = 0, limit: int = 25) -> Page:
        """Ids of tracked jobs, newest first."""
        return await self._ask(lambda store: store.tracked(offset=offset, limit=limit))

    def events(self, *, last: int = 0) -> Follower:
        """``async for event in client.tracking.events()``: moves of tracked jobs, without end, over a connection of
        their own. ``last``: begin with so many events of before (about a thousand are kept)."""
        return self._follow(last)


class SyncTracking:
    """:class:`Tracking` for plain code."""

    def __init__(self, run: Run, desk: Tracking) -> None:
        self._run = run
        self._desk = desk

    def track(self, job_id: str) -> bool | None:
        """See :meth:`Tracking.track`."""
        return self._run(self._desk.track(job_id))

    def untrack(self, job_id: str) -> bool | None:
        """See :meth:`Tracking.untrack`."""
        return self._run(self._desk.untrack(job_id))

    def jobs(self, *, offset: int = 0, limit: int = 25) -> Page:
        """See :meth:`Tracking.jobs`."""
        return self._run(self._desk.jobs(offset=offset, limit=limit))

    def events(self, *, last: int = 0) -> Iterator[JobEvent]:
        """``for event in client.tracking.events()``: blocks until the next one; ends when the client is closed."""
        follower = self._desk.events(last=last)
        events: Any = aiter(follower)
        try:
            while True:
                try:
                    yield self._run(anext(events))
                except StopAsyncIteration:
                    return
        finally:
            follower.close()
