"""What a job has gone through, from what its record says. Pure.

The last start and the last end stand in RRQ's own fields. What would be overwritten, runs that were retried, handed
back or revived, stands in ``rrqd_history``: a JSON list, the first entry and the newest ones.
"""

from __future__ import annotations

from typing import Any

import msgspec

from rrqd.job import JobStatus
from rrqd.model.job import Job

#: How a run's end is called, where it is the last.
ENDED = {
    JobStatus.COMPLETED: "completed", JobStatus.FAILED: "buried", JobStatus.CANCELLED: "cancelled",
}  # fmt: skip


class Happening(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``at``: RFC 3339. ``what``: ``enqueued``, ``claimed``, ``retrying``, ``snoozed``, ``released``, ``advanced``,
    ``revived``, ``moved``, ``taken`` (from its worker, by hand), ``completed``, ``buried`` or ``cancelled``.
    ``worker``: who did it; ``why``: error or reason."""

    at: str
    what: str
    worker: str | None = None
    why: str | None = None


def history_of(job: Job) -> list[Happening]:
    """Oldest first."""
    fields = job.fields
    told = [Happening(at=fields["enqueue_time"], what="enqueued")] if "enqueue_time" in fields else []
    for entry in _entries(fields.get("rrqd_history", "[]")):
        worker = entry.get("worker")
        if entry.get("began"):
            told.append(Happening(at=entry["began"], what="claimed", worker=worker))
        told.append(Happening(at=entry["at"], what=entry["what"], worker=worker, why=entry.get("why")))
    for step in job.steps:
        if step.get("began"):
            told.append(Happening(at=step["began"], what="claimed", worker=step.get("worker")))
        if step.get("ended"):
            told.append(Happening(at=step["ended"], what="advanced", worker=step.get("worker")))
    told.sort(key=lambda one: one.at)
    last = told[-1].at if told else ""
    if fields.get("start_time") and fields["start_time"] > last:
        told.append(Happening(at=fields["start_time"], what="claimed", worker=fields.get("worker_id")))
    if job.status in ENDED and fields.get("completion_time"):
        told.append(
            Happening(
                at=fields["completion_time"],
                what=ENDED[job.status],
                worker=fields.get("worker_id"),
                why=job.last_error if job.status is not JobStatus.COMPLETED else None,
            )
        )
    return told


def _entries(text: str) -> list[dict[str, Any]]:
    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return []
    entries = found if isinstance(found, list) else []
    return [one for one in entries if isinstance(one, dict) and {"at", "what"} <= one.keys()]
