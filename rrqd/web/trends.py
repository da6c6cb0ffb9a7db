"""Views of what was: series for charts, marks of deploys, figures by day. Each a bounded read, as in `readings`."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from rrqd.model.series import RINGS, Point
from rrqd.store.series import Deploy
from rrqd.web.charts import MARKS_MOST, charts
from rrqd.web.readings import Readings

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

    async def _look(self, span: str, queue: str | None) -> tuple[list[Point], list[Deploy]]:
        store = self.readings.store
        points, deploys = await asyncio.gather(store.series(span, queue), store.deploys(limit=MARKS_MOST))
        return points, [one for one in deploys if one.at_ms >= points[0].at_ms]
