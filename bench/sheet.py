"""What is written down: figures with their repeats, as a table for people and as JSON for programs."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

COMPARE: dict[str, Callable[[float, float], bool]] = {">=": operator.ge, "<=": operator.le, "<": operator.lt}


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for. ``rrq``, ``rq``: interpreters that have the real rrq, and RQ."""

    jobs: int
    repeat: int
    rrq: Path | None = None
    rq: Path | None = None


@dataclass(slots=True)
class Figure:
    """One thing measured, several times. ``goal`` is like ``">= 6"``."""

    bench: str
    what: str
    unit: str
    goal: str = ""
    values: list[float] = field(default_factory=list)

    @property
    def middle(self) -> float:
        return median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the median keeps the goal; ``None`` when there is none."""
        if not self.goal:
            return None
        sign, number = self.goal.split(" ")
        return COMPARE[sign](self.middle, float(number))

    def as_json(self) -> dict[str, Any]:
        row: dict[str, Any] = {"bench": self.bench, "what": self.what, "unit": self.unit, "median": self.middle}
        row["values"] = self.values
        if self.goal:
            row |= {"goal": self.goal, "met": self.met}
        return row


class Sheet:
    """All figures of a run, in the order in which they first appeared."""

    def __init__(self, machine: dict[str, str]) -> None:
        self.machine = machine
        self.notes: list[str] = []
        self._figures: dict[tuple[str, str], Figure] = {}

    def add(self, bench: str, what: str, unit: str, value: float, goal: str = "") -> None:
        """One more measurement of a figure."""
        figure = self._figures.setdefault((bench, what), Figure(bench, what, unit, goal))
        figure.values.append(value)

    def note(self, text: str) -> None:
        """Something a reader must know; said once."""
        if text not in self.notes:
            self.notes.append(text)

    def broken(self, what: str) -> None:
        """A promise that was not kept."""
        self.note(f"BROKEN {what}")

    def __len__(self) -> int:
        return len(self._figures)

    def figures(self, since: int = 0) -> list[Figure]:
        return list(self._figures.values())[since:]

    def as_json(self) -> str:
        body = {
            "machine": self.machine,
            "figures": [figure.as_json() for figure in self._figures.values()],
            "notes": self.notes,
        }
        return json.dumps(body, indent=2) + "\n"


def table(figures: Sequence[Figure]) -> str:
    """Figures as lines that stand under each other."""
    repeated = any(len(one.values) > 1 for one in figures)
    rows = [("", "", "median" if repeated else "value", "min … max" if repeated else "", "goal")]
    for one in figures:
        spread = f"{short(min(one.values))} … {short(max(one.values))}" if len(one.values) > 1 else ""
        mark = {None: "", True: " met", False: " MISSED"}[one.met]
        rows.append((one.bench, f"{one.what} ({one.unit})", short(one.middle), spread, one.goal + mark))
    widths = [max(len(row[at]) for row in rows) for at in range(5)]
    lines = []
    for row in rows:
        left = [row[at].ljust(widths[at]) for at in (0, 1)]
        right = [row[at].rjust(widths[at]) for at in (2, 3)]
        lines.append("  ".join([*left, *right, row[4]]).rstrip())
    return "\n".join(lines)


def short(value: float) -> str:
    """A number in three or so figures."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 1 else f"{value:.3f}"


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(1, math.ceil(share * len(ordered))) - 1]
