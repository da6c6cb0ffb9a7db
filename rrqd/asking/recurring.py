"""``client.recurring``: jobs that come again and again, at an interval."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import msgspec

from rrqd.asking.desk import Ask, Run
from rrqd.exc import InvalidRequest
from rrqd.model import checks
from rrqd.model.recurring import Recurring, backlog, check, interval_ms
from rrqd.model.request import Defaults

Options = Mapping[str, Any]
CHANGES = ("function", "options", "every_seconds", "offset_seconds", "backlog", "unique")


class RecurringJobs:
    """Templates in the store. For hours of the day and days of the week there is ``rrq.cron_jobs`` in the file."""

    def __init__(self, ask: Ask, defaults: Defaults) -> None:
        self._ask = ask
        self._defaults = defaults

    async def add(
        self,
        function: str,
        options: Options | None = None,
        *,
        every_seconds: float,
        offset_seconds: float = 0,
        id: str | None = None,
        backlog: int = 0,
        unique: bool = False,
    ) -> str:
        """Make a job now + ``offset_seconds``, and then every ``every_seconds``; answers the template's id.

        An ``id`` that is there is replaced, and its count goes on. ``backlog``: of times that were missed only the last
        so many are made up; 0: all. ``unique``: no job while the last one has not ended. ``options``: of each job, as
        for ``enqueue``, without those that are of one job only.
        """
        one = Recurring(
            id=str(uuid.uuid4()) if id is None else checks.name(id, "id"),
            function=checks.name(function, "function"),
            options=dict(options or {}),
            interval_ms=interval_ms(every_seconds),
            next_ms=0,
            backlog=_backlog(backlog),
            unique=unique,
        )
        check(one.function, one.options, self._defaults)
        offset_ms = checks.seconds(offset_seconds, "offset_seconds") * 1000
        await self._ask(lambda store: store.put_recurring(one, offset_ms=offset_ms))
        return one.id

    async def update(self, id: str, **changes: Any) -> Recurring | None:
        """Change what is named: ``function``, ``options`` (those given replace or, as ``None``, drop single ones),
        ``every_seconds`` (the next time moves by the difference), ``offset_seconds`` (the next time, from now),
        ``backlog``, ``unique``. Answers the template, ``None`` when there is none."""
        for name in changes:
            if name not in CHANGES:
                raise InvalidRequest(f"{name} is nothing that can be changed; {', '.join(CHANGES)} are")
        was = await self.get(id)
        if was is None:
            return None
        options = {**was.options, **changes.get("options", {})}
        one = msgspec.structs.replace(
            was,
            function=checks.name(changes.get("function", was.function), "function"),
            options={name: value for name, value in options.items() if value is not None},
            interval_ms=interval_ms(changes["every_seconds"]) if "every_seconds" in changes else was.interval_ms,
            backlog=_backlog(changes.get("backlog", was.backlog)),
            unique=bool(changes.get("unique", was.unique)),
        )
        check(one.function, one.options, self._defaults)
        offset = changes.get("offset_seconds")
        offset_ms = None if offset is None else checks.seconds(offset, "offset_seconds") * 1000
        await self._ask(lambda store: store.update_recurring(one, offset_ms=offset_ms))
        return await self.get(id)

    async def get(self, id: str) -> Recurring | None:
        """A template: interval, count, next time, options."""
        return await self._ask(lambda store: store.recurring(id))

    async def all(self, *, offset: int = 0, limit: int = 25) -> list[Recurring]:
        """Templates, soonest first."""
        return await self._ask(lambda store: store.recurring_page(offset=offset, limit=limit))

    async def remove(self, id: str) -> bool:
        """No more jobs of it; those that were made stay. False when there is no such template."""
        return await self._ask(lambda store: store.remove_recurring(id))


_backlog = backlog  # where an argument has the same name


class SyncRecurringJobs:
    """:class:`RecurringJobs` for plain code."""

    def __init__(self, run: Run, desk: RecurringJobs) -> None:
        self._run = run
        self._desk = desk

    def add(self, function: str, options: Options | None = None, **words: Any) -> str:
        """See :meth:`RecurringJobs.add`."""
        return self._run(self._desk.add(function, options, **words))

    def update(self, id: str, **changes: Any) -> Recurring | None:
        """See :meth:`RecurringJobs.update`."""
        return self._run(self._desk.update(id, **changes))

    def get(self, id: str) -> Recurring | None:
        """See :meth:`RecurringJobs.get`."""
        return self._run(self._desk.get(id))

    def all(self, *, offset: int = 0, limit: int = 25) -> list[Recurring]:
        """See :meth:`RecurringJobs.all`."""
        return self._run(self._desk.all(offset=offset, limit=limit))

    def remove(self, id: str) -> bool:
        """See :meth:`RecurringJobs.remove`."""
        return self._run(self._desk.remove(id))
