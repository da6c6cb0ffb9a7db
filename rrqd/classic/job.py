"""``Job``: a job as its producer and the store have it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field

from rrqd.job import JobStatus

__all__ = ["Job", "JobStatus", "new_job_id"]

#: Fields of the hash that hold JSON.
_JSON_FIELDS = ("job_args", "job_kwargs", "result")


def new_job_id() -> str:
    """A fresh id."""
    return str(uuid.uuid4())


def _now() -> datetime:
    return datetime.now(UTC)


class Job(BaseModel):
    """One job. Queue and DLQ names are full keys (``rrq:queue:default``)."""

    id: str = Field(default_factory=new_job_id)
    function_name: str
    job_args: list[Any] = Field(default_factory=list)
    job_kwargs: dict[str, Any] = Field(default_factory=dict)
    enqueue_time: datetime = Field(default_factory=_now)
    status: JobStatus = JobStatus.PENDING
    current_retries: int = 0
    next_scheduled_run_time: datetime | None = None
    max_retries: int = 3
    job_timeout_seconds: int | None = None
    result_ttl_seconds: int | None = None
    job_unique_key: str | None = None
    completion_time: datetime | None = None
    result: Any | None = None
    last_error: str | None = None
    queue_name: str | None = None
    dlq_name: str | None = None

    def to_hash(self) -> dict[str, str]:
        """The fields of its hash, as text; what is ``None`` is left out."""
        plain = self.model_dump(mode="json", exclude_none=True)
        return {
            name: json.dumps(value) if name in _JSON_FIELDS else value if isinstance(value, str) else str(value)
            for name, value in plain.items()
        }

    @classmethod
    def from_hash(cls, job_id: str, fields: Mapping[str, str]) -> Job:
        """Read a hash, also one of RRQ's present form (``job_params``). Raises ValueError when it is no job."""
        known: dict[str, Any] = {name: text for name, text in fields.items() if name in cls.model_fields and text != ""}
        for name in _JSON_FIELDS:
            if name in known:
                known[name] = _decoded(known[name])
        if "job_kwargs" not in known and fields.get("job_params"):
            known["job_kwargs"] = _decoded(fields["job_params"])
        return cls.model_validate({**known, "id": job_id, "status": JobStatus.read(fields.get("status"))})


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
