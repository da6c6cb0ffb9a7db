"""Tables and pages on a terminal: jobs and queues look the same in every command."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import click

from rrqd.cli.output import complain, emit, fields, table
from rrqd.model.job import Job
from rrqd.store.shown import job_page

WIDEST = 60

limit_option = click.option(
    "--limit", metavar="N", type=click.IntRange(1, 10_000), default=20, show_default=True, help="At most this many."
)
offset_option = click.option(
    "--offset", metavar="N", type=click.IntRange(0), default=0, show_default=True, help="Leave out the first N."
)


QUEUE_HEADERS = ("queue", "due", "scheduled", "dependent", "oldest s", "paused")


def show_queues(rows: list[dict[str, Any]]) -> None:
    """Queues as a table."""
    table(QUEUE_HEADERS, [(*list(row.values())[:-1], "paused" if row["paused"] else None) for row in rows])


def show_jobs(rows: list[dict[str, Any]], none: str) -> None:
    """Rows as a table; ``none`` is said (on stderr) when there are none."""
    if not rows:
        complain(none)
        return
    headers = ("id", "function", "queue", "status", "attempts", "enqueued", "error")
    shown = [{**row, "enqueued": to_the_second(row["enqueued"])} for row in rows]
    table(headers, [(row["id"], *(shorten(row[name]) for name in headers[1:])) for row in shown])


def shorten(value: Any) -> str | None:
    """One line of at most ``WIDEST`` characters, cut between characters."""
    if value is None:
        return None
    text = " ".join(str(value).split())
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def to_the_second(stamp: str | None) -> str | None:
    """A stored time in a table: ``2026-01-31T12:00:00Z``. What is no time stays as it is."""
    try:
        moment = datetime.fromisoformat(stamp or "").astimezone(UTC)
    except (ValueError, OverflowError):
        return stamp
    return f"{moment:%Y-%m-%dT%H:%M:%S}Z"


def show_job(job: Job, raw: bool, as_json: bool) -> int:
    """All that is stored of a job, as a page or, ``raw``, field by field. Returns the exit code."""
    if raw:
        stored = dict(sorted(job.fields.items()))
        emit(stored, as_json, lambda: fields(stored))
    else:
        page = job_page(job)
        emit(page, as_json, lambda: show_page(page))
    return 0


def show_page(page: dict[str, Any]) -> None:
    """A job's page for people: what is not known is left out, a traceback stands as Python prints it."""
    error = page["error"] or {}
    told = {**page, "error": error.get("type"), "traceback": (error.get("traceback") or "").rstrip("\n") or None}
    told["progress"] = _how_far(page["progress"])
    kept = page["status"] == "COMPLETED"  # its result is shown even if it is null
    rows = {name: value for name, value in told.items() if not _is_blank(value) or (name == "result" and kept)}
    fields({name: _cell(value, name in ("params", "result")) for name, value in rows.items()})


def _how_far(progress: dict[str, Any] | None) -> str | None:
    """``50%  half way  {"row": 7}  (2026-05-01T…)``: what a handler said of its progress, and when."""
    if progress is None:
        return None
    value, data = progress.get("value"), progress.get("data")
    parts = [f"{value:.0%}"] if isinstance(value, int | float) else []
    parts += [str(progress["message"])] if progress.get("message") else []
    parts += [json.dumps(data, ensure_ascii=False)] if data else []
    return "  ".join([*parts, f"({progress.get('at')})"])


def _is_blank(value: Any) -> bool:
    return value is None or value is False or value == []


def _cell(value: Any, as_json: bool) -> str:
    return value if isinstance(value, str) and not as_json else json.dumps(value, ensure_ascii=False)


def show_changed(changed: dict[str, bool], done: str, already: str, as_json: bool) -> int:
    """A line a name: `done` for those that changed, `already` for those that were so before. Answers the exit code."""
    emit(changed, as_json, lambda: fields({name: done if is_new else already for name, is_new in changed.items()}))
    return 0
