"""Views of what was: series for charts, marks of deploys, figures by day. Each a bounded read, as in `readings`."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from rrqd.model.figures import DayFigures
from rrqd.model.series import RINGS, Point
from rrqd.store.series import Deploy
from rrqd.web.charts import MARKS_MOST, charts, histogram
from rrqd.web.readings import PAGE_MOST, Readings
from rrqd.web.rules import MOST_DAYS

DEFAULT_SPAN = "minutes"


class Trends:
    def __init__(self, readings: Readings) -> None:
        self.readings = readings

    async def series(self, span: str, queue: str | None) -> dict[str, Any]:
        """Every period of a ring, the oldest first, and the deploys meanwhile."""
        points, deploys = await self._look(span, queue)
        return {
            "queue": queue,
            "span": span,
            "period_seconds": RINGS[span].seconds,
            "points": [msgspec.to_builtins(point) for point in points],
            "deploys": [msgspec.structs.asdict(one) for one in deploys],
        }

    async def drawn(self, span: str, queue: str | None) -> dict[str, Any]:
        """The same, for a page."""
        points, deploys = await self._look(span, queue)
        return {"span": span, "spans": list(RINGS), "charts": charts(span, points, deploys)}

    async def stats(self, days: int, *, queue: str | None = None, function: str | None = None) -> dict[str, Any]:
        """The figures of a queue, or of a function over all queues, by day, the newest first."""
        figures = await self._figures(days, queue, function)
        return {"queue": queue, "function": function, "days": [msgspec.to_builtins(day) for day in figures]}

    async def stats_drawn(self, days: int, *, queue: str | None = None, function: str | None = None) -> dict[str, Any]:
        """The same, for a page."""
        figures = await self._figures(days, queue, function)
        return {
            "queue": queue, "function": function, "days": figures, "choices": (1, 7, MOST_DAYS),
            "charts": [
                histogram("waits", "Waits, from due to claimed", (day.wait for day in figures), "two"),
                histogram("runs", "Runs, of those that completed", (day.run for day in figures), "three"),
            ],
        }  # fmt: skip

    async def functions(self) -> dict[str, Any]:
        """Functions that have run on any machine, the latest first, with today's figures."""
        store = self.readings.store
        names = await store.functions(limit=PAGE_MOST)
        figures = await asyncio.gather(*(store.figures_of_function(name) for name in names))
        rows = []
        for name, (today,) in zip(names, figures, strict=True):
            rows.append({
                "function": name, "completed": today.completed, "retried": today.retried, "buried": today.buried,
                "wait_seconds": today.wait.mean_seconds, "run_seconds": today.run.mean_seconds,
            })  # fmt: skip
        return {"functions": rows}

    async def _figures(self, days: int, queue: str | None, function: str | None) -> list[DayFigures]:
        store, few = self.readings.store, min(days, MOST_DAYS)
        if function is not None:
            return await store.figures_of_function(function, days=few)
        return await store.figures(queue or "", days=few)

    async def _look(self, span: str, queue: str | None) -> tuple[list[Point], list[Deploy]]:
        store = self.readings.store
        points, deploys = await asyncio.gather(store.series(span, queue), store.deploys(limit=MARKS_MOST))
        return points, [one for one in deploys if one.at_ms >= points[0].at_ms]
