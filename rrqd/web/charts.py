"""Points of history as drawings: numbers in, coordinates out. Pure; the templates turn them into inline SVG.

Rule 1: a drawing is one unit wide a period and ``HEIGHT`` high, and is stretched to its place; no text is in it, so
that letters keep their size on a phone.
Rule 2: everything drawn is also there as text: a title and a sentence for who does not see it, and rows for a table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rrqd.model.figures import SpreadFigures
from rrqd.model.series import GRADES_SECONDS, RINGS, Point, grades_of, pairs_of, quantile
from rrqd.store.series import Deploy

HEIGHT = 100.0
MARKS_MOST = 50
LEAST_SECONDS = 0.001
DECADES = (0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 36_000.0, 864_000.0, 8_640_000.0)
"""Where a scale of seconds may end."""


def charts(span: str, points: Sequence[Point], deploys: Iterable[Deploy]) -> list[dict[str, Any]]:
    """Throughput, failures and latency of one queue, or of all."""
    period = span.removesuffix("s")
    marks = _marks(points, RINGS[span].seconds * 1000, deploys)
    frame = {"span": span, "width": len(points), "marks": marks, "ticks": _ticks(points, span)}
    runs = (("completed", "good", lambda one: one.completed), ("failed", "bad", lambda one: one.failed))
    bad = (("retried", "warn", lambda one: one.retried), ("buried", "bad", lambda one: one.buried))
    slow = (
        ("wait, median", "one", lambda one: one.wait and one.wait.p50_seconds),
        ("wait, 95 %", "two", lambda one: one.wait and one.wait.p95_seconds),
        ("run, 95 %", "three", lambda one: one.run and one.run.p95_seconds),
    )
    return [
        {**frame, **_bars("throughput", f"Runs ended, by the {period}", points, runs)},
        {**frame, **_bars("failures", f"Failed runs, by the {period}", points, bad)},
        {**frame, **_lines("latency", f"Waits and runs, by the {period} (logarithmic)", points, slow)},
    ]


Parts = Sequence[tuple[str, str, Callable[[Point], Any]]]


def _bars(name: str, title: str, points: Sequence[Point], parts: Parts) -> dict[str, Any]:
    """Counts, one on the other."""
    rows = [[value(point) for _, _, value in parts] for point in points]
    top = ceiling(max((sum(row) for row in rows), default=0))
    bars = []
    for at, row in enumerate(rows):
        floor = HEIGHT
        for (_, style, _), number in zip(parts, row, strict=True):
            if number:
                height = max(HEIGHT * number / top, 1.5)  # one failure among thousands is still seen
                floor = max(0.0, floor - height)
                bars.append({"x": at + 0.1, "y": round(floor, 2), "height": round(height, 2), "style": style})
    totals = ", ".join(f"{sum(row[at] for row in rows):,} {label}" for at, (label, _, _) in enumerate(parts))
    return {
        "name": name, "title": title, "unit": "count", "top": top, "bars": bars, "paths": [],
        "text": f"{totals} in all", "legend": [(label, style) for label, style, _ in parts],
        "rows": _table(points, rows), "empty": not bars,
    }  # fmt: skip


def _lines(name: str, title: str, points: Sequence[Point], parts: Parts) -> dict[str, Any]:
    """Seconds on a logarithmic scale, from ``LEAST_SECONDS`` on, as lines that end where nothing ran."""
    rows = [[value(point) for _, _, value in parts] for point in points]
    most = max((number for row in rows for number in row if number is not None), default=0.0)
    top = next((grade for grade in DECADES if grade >= most), DECADES[-1])
    paths = []
    for place, (_, style, _) in enumerate(parts):
        steps, pen = [], False
        for at, row in enumerate(rows):
            number = row[place]
            if number is not None:
                share = math.log(max(number, LEAST_SECONDS) / LEAST_SECONDS) / math.log(top / LEAST_SECONDS)
                y = HEIGHT - HEIGHT * share
                steps.append(f"{'L' if pen else 'M'}{at + 0.5} {y:.2f}" + ("" if pen else "h.01"))
            pen = number is not None
        if steps:
            paths.append({"d": "".join(steps), "style": style})
    return {
        "name": name, "title": title, "unit": "seconds", "top": top, "bars": [], "paths": paths,
        "foot": LEAST_SECONDS,
        "text": f"at the most {most:.3g} seconds", "legend": [(label, style) for label, style, _ in parts],
        "rows": _table(points, rows), "empty": not paths,
    }  # fmt: skip


def _table(points: Sequence[Point], rows: Sequence[Sequence[Any]]) -> list[tuple[str, Sequence[Any]]]:
    """The periods in which something happened, the newest first."""
    happened = [(point.at_ms, row) for point, row in zip(points, rows, strict=True) if any(row)]
    return [(f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d %H:%M}", row) for at, row in reversed(happened)]


def ceiling(most: int) -> int:
    """A round number that is not below ``most``, and not far above; 1 of nothing."""
    unit = 10 ** (len(str(most)) - 1)
    return next(step * unit for step in (1, 2, 3, 4, 5, 6, 8, 10) if step * unit >= most) if most > 0 else 1


def histogram(name: str, title: str, days: Iterable[SpreadFigures], style: str) -> dict[str, Any]:
    """How long jobs waited or ran, on all these days: a bar for each grade, from the least to the greatest."""
    sums: dict[int, int] = {}
    for day in days:
        for grade, number in pairs_of(grades_of(day.histogram)):
            sums[grade] = sums.get(grade, 0) + number
    grades = range(min(sums), max(sums) + 1) if sums else range(0)
    points = [sums.get(grade, 0) for grade in grades]
    top = ceiling(max(points, default=0))
    bars = [
        {"x": at + 0.1, "y": round(HEIGHT - HEIGHT * number / top, 2), "height": round(HEIGHT * number / top, 2),
         "style": style, "says": f"{bound(grade)} to {bound(grade + 1)}: {number:,}"}
        for at, (grade, number) in enumerate(zip(grades, points, strict=True)) if number
    ]  # fmt: skip
    ordered = sorted(sums.items())
    shares = ", ".join(f"{share:.0%} within {span_of(quantile(ordered, share))}" for share in (0.5, 0.95, 0.99))
    steps = min(6, len(points))
    ticks = [bound(grades[0] + round(at * len(points) / steps)) for at in range(steps + 1)] if steps else []
    return {
        "name": name, "title": title, "unit": "count", "top": top, "bars": bars, "paths": [], "marks": [],
        "width": max(1, len(points)), "ticks": ticks, "empty": not bars,
        "text": f"{sum(points):,} jobs: {shares}", "legend": [("jobs", style)],
        "rows": [(f"{bound(grade)} to {bound(grade + 1)}", [number]) for grade, number in ordered],
    }  # fmt: skip


def bound(grade: int) -> str:
    """Where a grade begins, in words; the last one has no end."""
    return span_of(GRADES_SECONDS[grade]) if grade < len(GRADES_SECONDS) else "more"


def span_of(seconds: float) -> str:
    """A duration in one unit: ``50 ms``, ``2 s``, ``1.5 min``."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1000:.3g} ms" if seconds else "0"


def _ticks(points: Sequence[Point], span: str) -> list[str]:
    """What stands below: five moments, evenly spread."""
    form = {"minutes": "%H:%M", "hours": "%a %d %b", "days": "%d %b"}[span]
    ats = [points[round(share * (len(points) - 1) / 4)].at_ms for share in range(5)] if points else []
    return [f"{datetime.fromtimestamp(at / 1000, UTC):{form}}" for at in ats]


def _marks(points: Sequence[Point], period_ms: int, deploys: Iterable[Deploy]) -> list[dict[str, Any]]:
    """Deploys within these periods, oldest first, where they are drawn."""
    if not points:
        return []
    first, marks = points[0].at_ms, []
    for one in list(deploys)[:MARKS_MOST]:
        x = (one.at_ms - first) / period_ms
        if 0 <= x <= len(points):
            marks.append({"x": round(x, 3), "at_ms": one.at_ms, "kind": one.kind, "node": one.node,
                          "generation": one.generation, "version": one.version})  # fmt: skip
    return marks[::-1]
