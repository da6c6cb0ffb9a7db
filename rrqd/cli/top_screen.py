"""What ``rrqd top`` shows and what its keys mean. Pure: data and a size in, lines out; a key in, a wish out.

The data are the API's views, by tab. A key that changes something asks first: `y` does it, anything else does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from rrqd.cli.output import columns_of, printable
from rrqd.cli.top_about import place_of, told

TABS = ("queues", "running", "failures", "workers")
LEAST_WIDTH, LEAST_HEIGHT = 40, 8
HEADS: dict[str, tuple[str, ...]] = {
    "queues": ("queue", "due", "scheduled", "oldest", "done", "failed", "run", "state"),
    "running": ("for", "left", "function", "queue", "job"),
    "failures": ("count", "function", "error", "message"),
    "workers": ("slot", "pid", "phase", "gen", "age", "runs", "memory", "note"),
}
NUMBERS = {
    "due", "scheduled", "oldest", "done", "failed", "run", "for", "left", "count", "pid", "gen", "age", "runs",
    "memory",
}  # fmt: skip
"""Columns that stand at the right of their place."""
NARROWEST = 8
"""What a column keeps when all do not fit."""
HELP = {
    "queues": "enter look · p pause/resume",
    "running": "enter look · c cancel",
    "failures": "enter look · r retry the group",
    "workers": "R restart",
}


class Wish(NamedTuple):
    """An action of the API, and how it is asked for."""

    action: str
    words: dict[str, Any]
    question: str


@dataclass(frozen=True, slots=True)
class Screen:
    """What the operator looks at. `about`: the view of one thing, instead of the tab's list, from line `turned` on.
    `asked`: the wish that waits for a `y`."""

    tab: str = "queues"
    selected: int = 0
    about: str = ""
    turned: int = 0
    asked: Wish | None = None
    said: str = ""
    over: bool = False


class Line(NamedTuple):
    """One line of the screen, as wide as it or less. `style`: plain, title, head, selected, bad, or faint."""

    text: str
    style: str = "plain"


@dataclass(frozen=True, slots=True)
class Data:
    """The last answers of the API; `fault` says why there are none newer. `pace`: runs that completed, and that failed,
    a second, between the last two looks."""

    overview: dict[str, Any] = field(default_factory=dict)
    views: dict[str, dict[str, Any]] = field(default_factory=dict)
    fault: str = ""
    pace: tuple[float, float] | None = None


def press(screen: Screen, key: str, data: Data) -> tuple[Screen, Wish | None]:
    """The screen after a key, and the action to carry out now, if any."""
    if screen.asked is not None:
        agreed = screen.asked if key in ("y", "Y") else None
        return replace(screen, asked=None, said="" if agreed else "not done"), agreed
    if screen.about:
        return _press_about(screen, key, data)
    rows = rows_of(screen.tab, data)
    move = {"up": -1, "k": -1, "down": 1, "j": 1, "home": -len(rows), "end": len(rows)}
    if key in ("q", "\x1b"):
        return replace(screen, over=True), None
    if key in ("\n", "\r", "enter"):
        chosen = _chosen(screen, data)
        return replace(screen, about=place_of(screen.tab, chosen) if chosen else "", turned=0, said=""), None
    if key in ("\t", "right", "left") or key in "1234":
        at = TABS.index(screen.tab)
        at = int(key) - 1 if key in "1234" else (at + (-1 if key == "left" else 1)) % len(TABS)
        return replace(screen, tab=TABS[at], selected=0, said=""), None
    if key in move:
        return replace(screen, selected=max(0, min(len(rows) - 1, screen.selected + move[key])), said=""), None
    wish = _wish(screen, key, data)
    return (replace(screen, asked=wish, said=""), None) if wish else (screen, None)


def _press_about(screen: Screen, key: str, data: Data) -> tuple[Screen, Wish | None]:
    """A key while one thing is shown: turn the page, act on the job, or go back to the list."""
    most = max(0, len(told(data.views[screen.about])) - 1) if screen.about in data.views else 0
    move = {"up": -1, "k": -1, "down": 1, "j": 1, "home": -most, "end": most}
    if key == "q":
        return replace(screen, over=True), None
    if key in move:
        return replace(screen, turned=max(0, min(most, screen.turned + move[key]))), None
    job = data.views.get(screen.about, {})
    acts = {"c": ("job.cancel", "cancel"), "r": ("job.retry", "retry")}
    if key in acts and "id" in job:
        action, verb = acts[key]
        return replace(screen, asked=Wish(action, {"job": job["id"]}, f"{verb} job {job['id']}?"), said=""), None
    return (
        (replace(screen, about="", said=""), None) if key in ("\x1b", "left", "backspace", "\x7f") else (screen, None)
    )


def _wish(screen: Screen, key: str, data: Data) -> Wish | None:
    chosen = _chosen(screen, data)
    if chosen is None:
        return None
    match screen.tab, key:
        case "queues", "p":
            verb, name = "resume" if chosen["paused"] else "pause", chosen["queue"]
            return Wish(f"queue.{verb}", {"queue": name}, f"{verb} queue {name}?")
        case "running", "c":
            return Wish("job.cancel", {"job": chosen["id"]}, f"cancel job {chosen['id']}?")
        case "failures", "r":
            words = {"signature": chosen["signature"], "confirm": chosen["count"]}
            return Wish("dlq.retry", words, f"retry {chosen['count']} jobs of {chosen['function']}?")
        case "workers", "R":
            words = {"pool": chosen["pool"], "slot": chosen["slot"]}
            return Wish("pool.restart", words, f"restart {chosen['pool']}/{chosen['slot']}?")
    return None


def _chosen(screen: Screen, data: Data) -> dict[str, Any] | None:
    rows = rows_of(screen.tab, data)
    return rows[screen.selected] if screen.selected < len(rows) else None


def rows_of(tab: str, data: Data) -> list[dict[str, Any]]:
    """The things that a tab lists."""
    view = data.views.get(tab, {})
    if tab == "workers":
        return [{**slot, "pool": pool["pool"]} for pool in view.get("pools", []) for slot in pool["slots"]]
    found: list[dict[str, Any]] = view.get({"queues": "queues", "running": "jobs", "failures": "groups"}[tab], [])
    return found


def lines(screen: Screen, data: Data, width: int, height: int) -> list[Line]:
    """The whole screen: never more lines than it has, none wider than it is."""
    if width < LEAST_WIDTH or height < LEAST_HEIGHT:
        return [Line("the window is too small"[:width], "bad")]
    top = [*_numbers(data, width), *_problems(data, width), _tabs(screen, width)]
    bottom = _bottom(screen, width)
    shown = _about if screen.about else _table
    return [*top, *shown(screen, data, width, height - len(top) - 1), bottom]


def _numbers(data: Data, width: int) -> list[Line]:
    totals = data.overview.get("totals", {})
    names = ("due", "scheduled", "running", "completed", "failed", "buried", "workers")
    text = "  ".join(f"{name} {totals[name]:,}" for name in names if name in totals)
    title = f"rrqd top · {data.overview.get('node') or 'no answer yet'}"
    if data.pace is not None:
        title += f" · {data.pace[0]:.1f} runs/s, {data.pace[1]:.1f} failures/s"
    return [Line(fit(title, width), "title"), Line(fit(text, width))]


def _problems(data: Data, width: int) -> list[Line]:
    """What is wrong, in two lines at most."""
    if data.fault:
        return [Line(fit(f"! {data.fault}", width), "bad")]
    problems = data.overview.get("problems", [])
    shown = [Line(fit(f"! {one['what']}: {one['what_to_do']}", width), "bad") for one in problems[:2]]
    if len(problems) > 2:
        shown[1] = Line(fit(f"! {len(problems) - 1} more problems; rrqd status names them", width), "bad")
    return shown


def _tabs(screen: Screen, width: int) -> Line:
    words = [f"[{tab}]" if tab == screen.tab else f" {tab} " for tab in TABS]
    return Line(fit(" ".join(f"{number}{word}" for number, word in enumerate(words, 1)), width), "head")


def _bottom(screen: Screen, width: int) -> Line:
    if screen.asked is not None:
        return Line(fit(f"{screen.asked.question} y/n", width), "bad")
    keys = "esc back · ↑↓ · c cancel, r retry a job" if screen.about else f"tab · ↑↓ · {HELP[screen.tab]}"
    return Line(fit(screen.said or f"q quit · {keys}", width), "faint")


def _about(screen: Screen, data: Data, width: int, height: int) -> list[Line]:
    """Exactly `height` lines of the one thing, broken where they are too long."""
    view = data.views.get(screen.about)
    whole = told(view)[screen.turned :] if view is not None else ["…"]
    shown = [Line(part) for line in whole[:height] for part in broken(line, width)]
    return [*shown[:height], *[Line("")] * (height - len(shown))]


def _table(screen: Screen, data: Data, width: int, height: int) -> list[Line]:
    """Exactly `height` lines; the selected row is always among them."""
    rows = [CELLS[screen.tab](row) for row in rows_of(screen.tab, data)]
    heads = HEADS[screen.tab]
    widths = narrowed([max(columns_of(line[at]) for line in (heads, *rows)) for at in range(len(heads))], width)
    right = [head in NUMBERS for head in heads]
    room = height - 1
    first = max(0, min(screen.selected - room + 1, len(rows) - room))
    shown = [Line(fit(_columns(heads, widths, right), width), "head")]
    for at, row in list(enumerate(rows))[first : first + room]:
        shown.append(Line(fit(_columns(row, widths, right), width), "selected" if at == screen.selected else "plain"))
    if not rows:
        shown.append(Line("nothing", "faint"))
    return [*shown, *[Line("")] * (height - len(shown))]


def narrowed(widths: list[int], room: int) -> list[int]:
    """Widths of columns, the widest made narrower until they fit, with two columns between."""
    widths = widths.copy()
    while sum(widths) + 2 * (len(widths) - 1) > room and max(widths) > NARROWEST:
        widths[widths.index(max(widths))] -= 1
    return widths


def _columns(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    found = []
    for cell, width, at_right in zip(cells, widths, right, strict=True):
        text = fit(cell, width)
        pad = " " * (width - columns_of(text))
        found.append(pad + text if at_right else text + pad)
    return "  ".join(found).rstrip()


def broken(text: str, width: int) -> list[str]:
    """A line in pieces of at most so many columns; an empty one is one piece."""
    pieces = [""]
    for letter in text:
        if columns_of(pieces[-1] + letter) > width:
            pieces.append("")
        pieces[-1] += letter
    return pieces


def fit(text: str, width: int) -> str:
    """At most so many columns; what is cut shows."""
    if columns_of(text) <= width:
        return text
    while text and columns_of(text) > width - 1:
        text = text[:-1]
    return text + "…"


def _queue(row: dict[str, Any]) -> list[str]:
    oldest = span(row["oldest_due_seconds"]) if row["due"] else ""
    return [
        printable(row["queue"]), str(row["due"]), str(row["scheduled"]), oldest, str(row.get("completed", "")),
        str(row.get("failed", "")), span(row.get("run_seconds")), "paused" if row["paused"] else "",
    ]  # fmt: skip


def _running(row: dict[str, Any]) -> list[str]:
    left = span(row["left_seconds"]) if row["left_seconds"] is not None else "no limit"
    return [span(row["seconds"]), left, printable(row["function"]), printable(row["queue"]), printable(row["id"])]


def _failure(row: dict[str, Any]) -> list[str]:
    return [str(row["count"]), printable(row["function"]), printable(row["type"]), printable(row["message"])]


def _worker(row: dict[str, Any]) -> list[str]:
    memory = f"{row['pss_bytes'] / 1048576:.0f} MiB" if row.get("pss_bytes") else ""
    note = f"blocked by {row['suspect']}" if row.get("suspect") else row.get("worn") or ""
    return [
        f"{row['pool']}/{row['slot']}", str(row.get("pid") or ""), str(row["phase"]), str(row["generation"]),
        span(row["age_seconds"]), str(row["running"]), memory, printable(note),
    ]  # fmt: skip


CELLS: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "queues": _queue, "running": _running, "failures": _failure, "workers": _worker,
}  # fmt: skip


def span(seconds: float | None) -> str:
    """`75` -> `1m15s`; short, for a narrow column."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.0f}s"
    whole = int(seconds)
    for name, size, rest, small in (("d", 86400, 3600, "h"), ("h", 3600, 60, "m"), ("m", 60, 1, "s")):
        if whole >= size:
            return f"{whole // size}{name}{whole % size // rest}{small}"
    return f"{whole}s"
