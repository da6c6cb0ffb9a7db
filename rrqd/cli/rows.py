"""Jobs as rows and as pages, queues as rows: the same in every command."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import click

from rrqd.cli.output import complain, fields, table
from rrqd.model.job import Job
from rrqd.store import QueueDepth

WIDEST = 60

limit_option = click.option(
    "--limit", metavar="N", type=click.IntRange(1, 10_000), default=20, show_default=True, help="At most this many."
)
offset_option = click.option(
    "--offset", metavar="N", type=click.IntRange(0), default=0, show_default=True, help="Leave out the first N."
)


QUEUE_HEADERS = ("queue", "due", "scheduled", "oldest s")


def queue_row(depth: QueueDepth) -> dict[str, Any]:
    """A queue in one line."""
    return {
        "queue": depth.name,
        "due": depth.due,
        "scheduled": depth.waiting - depth.due,
        "oldest_due_seconds": round(depth.oldest_due_age_seconds, 1),
    }


def job_row(job_id: str, job: Job | None) -> dict[str, Any]:
    """A job in one line. An id whose job is gone has only its id."""
    fields = job.fields if job is not None else {}
    return {
        "id": job_id,
        "function": fields.get("function_name"),
        "queue": job.queue if job is not None else None,
        "status": job.status.value if job is not None else None,
        "attempts": job.number("current_retries") or 0 if job is not None else None,
        "enqueued": fields.get("enqueue_time"),
        "error": fields.get("last_error"),
    }


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


def show_page(page: dict[str, Any]) -> None:
    """A job's page for people: what is not known is left out, a traceback stands as Python prints it."""
    error = page["error"] or {}
    told = {**page, "error": error.get("type"), "traceback": (error.get("traceback") or "").rstrip("\n") or None}
    kept = page["status"] == "COMPLETED"  # its result is shown even if it is null
    rows = {name: value for name, value in told.items() if value is not None or (name == "result" and kept)}
    fields({name: _cell(value, name in ("params", "result")) for name, value in rows.items()})


def _cell(value: Any, as_json: bool) -> str:
    return value if isinstance(value, str) and not as_json else json.dumps(value, ensure_ascii=False)


def job_page(job: Job) -> dict[str, Any]:
    """Everything of a job, decoded."""
    return {
        "id": job.id,
        "status": job.status.value,
        "function": job.function,
        "queue": job.queue,
        "params": job.params,
        "result": job.result,
        "last_error": job.last_error,
        "error": job.error,
        "progress": job.progress,
        "attempts": job.number("current_retries") or 0,
        "max_retries": job.number("max_retries"),
        "timeout_seconds": job.number("job_timeout_seconds"),
        "enqueue_time": job.fields.get("enqueue_time"),
        "next_run": job.fields.get("next_scheduled_run_time"),
        "start_time": job.fields.get("start_time"),
        "completion_time": job.fields.get("completion_time"),
        "worker": job.fields.get("worker_id"),
        "stalls": job.number("rrqd_stalls") or 0,
    }
