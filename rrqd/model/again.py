"""From a job that was to one that does the same. Pure."""

from __future__ import annotations

import json
import uuid

from rrqd.exc import RRQError
from rrqd.model.job import Job, NewJob


class CannotReplay(RRQError):
    """What is stored of the job does not make a new one."""


def alike(old: Job, queue: str, params: bytes | None = None) -> NewJob:
    """A new job that does what the old one did. Raises CannotReplay, which names the field that is in the way."""
    if not old.function:
        raise CannotReplay(f"job {old.id} has no function_name; it can't be replayed")
    own = params is None
    if params is None:
        if not isinstance(old.params, dict):
            raise CannotReplay(f"the parameters of job {old.id} are no JSON object; give others")
        params = (old.fields.get("job_params") or old.fields.get("job_kwargs") or "{}").encode()

    def text(name: str) -> bytes | None:
        stored = old.fields.get(name)
        return stored.encode() if stored else None

    return NewJob(
        id=str(uuid.uuid4()),
        function=old.function,
        queue=queue,
        params=params,
        max_retries=old.number("max_retries"),
        timeout_seconds=old.number("job_timeout_seconds"),
        result_ttl_seconds=old.number("result_ttl_seconds"),
        trace_context=text("trace_context"),
        correlation_context=text("correlation_context"),
        policy=text("rrqd_policy"),
        priority=old.priority if "rrqd_priority" in old.fields else None,
        tags=tuple(map(str, old.tags)),
        throttles=tuple(map(str, old.throttles)),
        tenant=old.tenant,
        notes={"rrqd_rate": old.fields["rrqd_rate"]} if "rrqd_rate" in old.fields else {},
        listed=old.fields.get("rrqd_listed", ""),
        args=json.dumps(old.args).encode() if own and old.args else None,
    )
