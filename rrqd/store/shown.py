"""Jobs and queues as plain rows: the same names in every command, in the JSON API and on every page.

Pure: what was read becomes dictionaries fit for JSON.
"""

from __future__ import annotations

from typing import Any

from rrqd.model.job import Job
from rrqd.store.records import QueueDepth


def queue_row(depth: QueueDepth) -> dict[str, Any]:
    """A queue in one line."""
    return {
        "queue": depth.name,
        "due": depth.due,
        "scheduled": depth.waiting - depth.due,
        "dependent": depth.dependent,
        "oldest_due_seconds": round(depth.oldest_due_age_seconds, 1),
        "paused": depth.paused,
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


def job_page(job: Job) -> dict[str, Any]:
    """Everything of a job, decoded."""
    return {
        "id": job.id,
        "status": job.status.value,
        "function": job.function,
        "queue": job.queue,
        "priority": job.priority,
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
        "parents": job.parents,
        "steps": job.steps,
        "throttles": job.throttles,
        "tenant": job.tenant,
        "rate": job.rate,
        "tags": job.tags,
        "tracked": job.tracked,
    }
