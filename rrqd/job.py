"""What a client is told about a job; the same names as ``rrq.job``."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec


class JobStatus(StrEnum):
    """RRQ's six words, and ``UNKNOWN`` for anything else that stands in the store."""

    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    RETRYING = "RETRYING"
    CANCELLED = "CANCELLED"
    UNKNOWN = "UNKNOWN"

    @classmethod
    def read(cls, word: str | None) -> JobStatus:
        """The status for a stored word; unknown ones give ``UNKNOWN``."""
        try:
            return cls(word or "")
        except ValueError:
            return cls.UNKNOWN

    @property
    def is_final(self) -> bool:
        """Whether the job will not run again by itself."""
        return self in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)


class Happened(StrEnum):
    """What an enqueue came to. CREATED: there is a new job. DUPLICATE: one with this unique key was there. REPLACED: a
    debounced job that had not started got this request's function and parameters. LIMITED: the rate limit let
    nothing through."""

    CREATED = "created"
    DUPLICATE = "duplicate"
    REPLACED = "replaced"
    LIMITED = "limited"


class EnqueueReport(msgspec.Struct, frozen=True):
    """What an enqueue came to. ``job_id``: the new job's, or the one's that was there; ``None`` when limited."""

    job_id: str | None
    happened: Happened

    @property
    def created(self) -> bool:
        """Whether this request made a job of its own."""
        return self.happened is Happened.CREATED


class JobResult(msgspec.Struct, kw_only=True):
    """Status, result (decoded JSON) and last error of a job."""

    status: JobStatus
    result: Any = None
    last_error: str | None = None
