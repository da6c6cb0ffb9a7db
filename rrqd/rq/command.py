"""What RQ's programs do to a job of which they have the id only."""

from __future__ import annotations

from typing import Any

from rrqd.rq.exceptions import InvalidJobOperation
from rrqd.rq.job import Job


def cancel_job(job_id: str, connection: Any = None, serializer: Any = None) -> None:
    """It does not start any more. Raises NoSuchJobError, and InvalidJobOperation when it is over."""
    Job.fetch(job_id, connection, serializer).cancel()


def requeue_job(job_id: str, connection: Any = None, serializer: Any = None) -> Job:
    """Bring a failed job back. Raises NoSuchJobError, and InvalidJobOperation for any other."""
    return Job.fetch(job_id, connection, serializer).requeue()


def send_stop_job_command(connection: Any, job_id: str, serializer: Any = None) -> None:
    """Stop a job that runs; it ends as canceled. Raises NoSuchJobError, and InvalidJobOperation for any other."""
    job = Job.fetch(job_id, connection, serializer)
    if not job.is_started:
        raise InvalidJobOperation(f"job {job_id} is {job.get_status(refresh=False)}; only a running one can be stopped")
    job.cancel()
