"""``client.stats`` and ``client.past``: the figures of queues, and what a job has gone through."""

from __future__ import annotations

from datetime import date

from rrqd.asking.desk import Ask, Run
from rrqd.exc import InvalidRequest
from rrqd.model.figures import DayFigures
from rrqd.model.history import Happening, history_of
from rrqd.model.job import short_queue_name
from rrqd.model.joblog import LogLine

MAX_DAYS = 366


class Stats:
    """Figures of queues by day: how many runs ended how, how long jobs waited and ran."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def queue(self, name: str, *, days: int = 1, until: date | None = None) -> list[DayFigures]:
        """So many days, the newest first; ``until``: the newest day, today (UTC) when left out. Days on which nothing
        ran, or whose figures have expired, are empty. Workers tell every five seconds."""
        if not 1 <= days <= MAX_DAYS:
            raise InvalidRequest(f"days must be from 1 to {MAX_DAYS}, not {days}")
        return await self._ask(lambda store: store.figures(short_queue_name(name), days=days, until=until))


class SyncStats:
    """:class:`Stats` for plain code."""

    def __init__(self, run: Run, desk: Stats) -> None:
        self._run = run
        self._desk = desk

    def queue(self, name: str, *, days: int = 1, until: date | None = None) -> list[DayFigures]:
        """See :meth:`Stats.queue`."""
        return self._run(self._desk.queue(name, days=days, until=until))


class Past:
    """What a job has gone through."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def history(self, job_id: str) -> list[Happening] | None:
        """When what happened to it, with which worker and why, oldest first; ``None`` when there is no such job."""
        job = await self._ask(lambda store: store.get(job_id))
        return None if job is None else history_of(job)

    async def log(self, job_id: str) -> list[LogLine]:
        """The lines its handlers wrote with ``request.log("…")``, oldest first: the last 200, for a week."""
        return await self._ask(lambda store: store.log_lines(job_id))


class SyncPast:
    """:class:`Past` for plain code."""

    def __init__(self, run: Run, desk: Past) -> None:
        self._run = run
        self._desk = desk

    def history(self, job_id: str) -> list[Happening] | None:
        """See :meth:`Past.history`."""
        return self._run(self._desk.history(job_id))

    def log(self, job_id: str) -> list[LogLine]:
        """See :meth:`Past.log`."""
        return self._run(self._desk.log(job_id))
