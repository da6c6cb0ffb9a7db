"""Jobs as rows and as pages, the same in every command."""

from __future__ import annotations

from typing import Any

from rrqd.cli.output import table
from rrqd.model.job import Job

WIDEST = 60


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


def show_jobs(rows: list[dict[str, Any]]) -> None:
    """Rows as a table."""
    headers = ("id", "function", "queue", "status", "attempts", "enqueued", "error")
    table(headers, [tuple(shorten(row[name]) for name in headers) for row in rows])


def shorten(value: Any) -> str | None:
    """One line of at most ``WIDEST`` characters, cut between characters."""
    if value is None:
        return None
    text = " ".join(str(value).split())
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


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
