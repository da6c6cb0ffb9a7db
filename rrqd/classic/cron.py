"""``CronJob`` and ``CronSchedule``: jobs by the clock, in UTC, five fields (minute hour day month weekday).

The worker enqueues each tick once, over any number of workers and daemons on one server; see ``docs/cron.md``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field, field_validator

from rrqd import clock
from rrqd.model.cron import read_schedule


class CronSchedule:
    """When the clock says so. Raises ValueError for what is no schedule."""

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self._schedule = read_schedule(expression)

    def next_after(self, dt: datetime) -> datetime:
        """The first tick after ``dt`` (UTC when it has no zone). Raises ValueError when none ever comes."""
        tick = self._schedule.next(dt if dt.tzinfo is not None else dt.replace(tzinfo=UTC))
        if tick is None:
            raise ValueError(f"{self.expression!r} has no tick after {dt}")
        return tick


class CronJob(BaseModel):
    """One entry: which function, when, with which arguments. ``unique``: leave a tick out while the job of an earlier
    one has not ended."""

    function_name: str
    schedule: str
    args: list[Any] = Field(default_factory=list)
    kwargs: dict[str, Any] = Field(default_factory=dict)
    queue_name: str | None = None
    unique: bool = False
    next_run_time: datetime | None = Field(default=None, exclude=True)

    @field_validator("schedule")
    @classmethod
    def _is_a_schedule(cls, text: str) -> str:
        read_schedule(text)
        return text

    def schedule_next(self, now: datetime | None = None) -> None:
        """Set ``next_run_time`` to the first tick after ``now``."""
        self.next_run_time = CronSchedule(self.schedule).next_after(now or clock.wall())

    def due(self, now: datetime | None = None) -> bool:
        """Whether ``next_run_time`` has come; it is set when it is not yet."""
        now = now or clock.wall()
        if self.next_run_time is None:
            self.schedule_next(now)
        return self.next_run_time is not None and now >= self.next_run_time
