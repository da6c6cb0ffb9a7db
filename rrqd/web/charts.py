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

from rrqd.model.series import RINGS, Point
from rrqd.store.series import Deploy

HEIGHT = 100.0
MARKS_MOST = 50


def charts(span: str, points: Sequence[Point], deploys: Iterable[Deploy]) -> list[dict[str, Any]]:
    """Throughput, failures and latency of one queue, or of all."""
    period = {"minutes": "minute", "hours": "hour", "days": "day"}[span]
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
        {**frame, **_lines("latency", f"Waits and runs, by the {period}", points, slow)},
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
    """Seconds, as lines that end where nothing ran."""
    rows = [[value(point) for _, _, value in parts] for point in points]
    most = max((number for row in rows for number in row if number is not None), default=0.0)
    top = ceiling(most)
    paths = []
    for place, (_, style, _) in enumerate(parts):
        steps, pen = [], False
        for at, row in enumerate(rows):
            number = row[place]
            if number is not None:
                y = HEIGHT - HEIGHT * number / top
                steps.append(f"{'L' if pen else 'M'}{at + 0.5} {y:.2f}" + ("" if pen else "h.01"))
            pen = number is not None
        if steps:
            paths.append({"d": "".join(steps), "style": style})
    return {
        "name": name, "title": title, "unit": "seconds", "top": top, "bars": [], "paths": paths,
        "text": f"at the most {most:.3g} seconds", "legend": [(label, style) for label, style, _ in parts],
        "rows": _table(points, rows), "empty": not paths,
    }  # fmt: skip


def _table(points: Sequence[Point], rows: Sequence[Sequence[Any]]) -> list[tuple[int, Sequence[Any]]]:
    """The periods in which something happened, the newest first."""
    return [(point.at_ms, row) for point, row in zip(points, rows, strict=True) if any(row)][::-1]


def ceiling(most: float) -> float:
    """The least of 1, 2, 5, 10, 20 … (or of their fractions) that is not below ``most``; 1 of nothing."""
    if most <= 0:
        return 1
    unit = 10.0 ** math.floor(math.log10(most))
    top = next((step * unit for step in (1, 2, 5) if step * unit >= most * (1 - 1e-9)), 10 * unit)
    return int(top) if top >= 1 else float(f"{top:.3g}")


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


def histogram(buckets: dict[str, int]) -> list[dict[str, Any]]:
    """A day's spread as rows: lower bound, number, share of the longest bar in per cent."""
    most = max(buckets.values(), default=0)
    return [
        {
            "from": f"{name.lstrip('mshd')} {name.rstrip('0123456789')}",
            "count": count,
            "share": round(100 * count / most, 1),
        }
        for name, count in buckets.items()
    ]
