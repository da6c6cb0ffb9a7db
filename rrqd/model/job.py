"""What a job is: immutable records, to and from the flat fields of RRQ's hash.

Rule 1: RRQ's fields keep RRQ's names and encodings; ours start with ``rrqd_``.
Rule 2: reading is strict where running a misread job would hurt (parameters, timeout), lenient elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from rrqd.exc import JobInvalid
from rrqd.job import JobStatus

QUEUE_PREFIX = "rrq:queue:"
DLQ_PREFIX = "rrq:dlq:"
#: What our own producer writes of a job with no wishes of its own; most jobs are such, and need no more to be read.
PLAIN_FIELDS = frozenset((
    b"id", b"status", b"function_name", b"enqueue_time", b"queue_name", b"job_params", b"next_scheduled_run_time",
))  # fmt: skip

#: The largest number that Lua, JSON and the server all read as what was meant.
LARGEST_NUMBER = 2**53


def short_queue_name(name: str) -> str:
    """``rrq:queue:mail`` and ``mail`` are the same queue; inside rrqd it is called ``mail``."""
    return name.removeprefix(QUEUE_PREFIX)


def short_dlq_name(name: str) -> str:
    """``rrq:dlq:default`` and ``default`` are the same DLQ."""
    return name.removeprefix(DLQ_PREFIX)


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job about to be written. ``None`` in a numeric field leaves it to the worker's defaults.

    ``due_ms``: epoch milliseconds; ``delay_ms``: from the server's now; neither: at once.
    ``params``: JSON object text. ``unique_key``: RRQ's idempotency key, held for ``unique_ttl_seconds``.
    """

    id: str
    function: str
    queue: str
    params: bytes = b"{}"
    due_ms: float | None = None
    delay_ms: int = 0
    max_retries: int | None = None
    timeout_seconds: int | None = None
    result_ttl_seconds: int | None = None
    enqueue_time: str | None = None
    trace_context: bytes | None = None
    correlation_context: bytes | None = None
    unique_key: str | None = None
    unique_ttl_seconds: int = 0
    policy: bytes | None = None


class ClaimedJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job this process may run, with the token that proves it. ``due_ms``: the score it was queued under."""

    id: str
    token: int
    function: str
    queue: str
    params: dict[str, Any]
    enqueue_time: datetime
    due_ms: float
    claimed_ms: float
    attempt: int
    alone: bool = False
    max_retries: int | None = None
    timeout_seconds: float | None = None
    result_ttl_seconds: int | None = None
    trace_context: dict[str, str] | None = None
    correlation_context: dict[str, str] | None = None
    policy: dict[str, Any] | None = None


def read_claimed(
    job_id: str, token: int, due_ms: float, claimed_ms: float, alone: bool, queue: str, fields: Mapping[bytes, bytes]
) -> ClaimedJob:
    """A ClaimedJob from a stored hash. Raises JobInvalid, whose text is fit for the DLQ."""
    field = fields.get
    function = field(b"function_name")
    if not function:
        raise JobInvalid("The job has no function_name.")
    if fields.keys() <= PLAIN_FIELDS:
        return ClaimedJob(
            id=job_id, token=token, function=_text(function, "function_name"), queue=queue,
            params=_object(field(b"job_params"), "job_params") or {}, enqueue_time=_moment(field(b"enqueue_time")),
            due_ms=due_ms, claimed_ms=claimed_ms, attempt=1, alone=alone,
        )  # fmt: skip
    return ClaimedJob(
        id=job_id,
        token=token,
        function=_text(function, "function_name"),
        queue=queue,
        params=_object(field(b"job_params"), "job_params") or {},
        enqueue_time=_moment(field(b"enqueue_time")),
        due_ms=due_ms,
        claimed_ms=claimed_ms,
        attempt=(_whole(field(b"current_retries"), "current_retries") or 0) + 1,
        alone=alone,
        max_retries=_whole(field(b"max_retries"), "max_retries"),
        timeout_seconds=_positive(field(b"job_timeout_seconds"), "job_timeout_seconds"),
        result_ttl_seconds=_whole(field(b"result_ttl_seconds"), "result_ttl_seconds"),
        trace_context=_strings(field(b"trace_context"), "trace_context"),
        correlation_context=_strings(field(b"correlation_context"), "correlation_context"),
        policy=_policy(field(b"rrqd_policy")),
    )


def _text(raw: bytes, name: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as fault:
        raise JobInvalid(f"{name} is not UTF-8 text: {fault}") from None


def _object(raw: bytes | None, name: str) -> dict[str, Any] | None:
    if not raw or raw in (b"{}", b"null"):
        return None
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise JobInvalid(f"{name} is not valid JSON: {fault}") from None
    if not isinstance(value, dict):
        raise JobInvalid(f"{name} must be a JSON object, not {type(value).__name__}.")
    return value


def _strings(raw: bytes | None, name: str) -> dict[str, str] | None:
    value = _object(raw, name)
    if value is None:
        return None
    return {key: item if isinstance(item, str) else str(item) for key, item in value.items()}


def _moment(raw: bytes | None) -> datetime:
    if not raw:
        raise JobInvalid("The job has no enqueue_time.")
    try:
        moment = datetime.fromisoformat(raw.decode())
    except ValueError:
        raise JobInvalid(f"enqueue_time is not RFC 3339: {raw[:40]!r}") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _whole(raw: bytes | None, name: str) -> int | None:
    if raw is None or raw == b"":
        return None
    try:
        number = int(raw)
    except ValueError:
        raise JobInvalid(f"{name} is not a whole number: {raw[:40]!r}") from None
    if abs(number) > LARGEST_NUMBER:
        raise JobInvalid(f"{name} is out of range: {raw[:40]!r}")
    return number


def _policy(raw: bytes | None) -> dict[str, Any] | None:
    policy = _object(raw, "rrqd_policy")
    for name in ("retry_delay_seconds", "max_retry_delay_seconds"):
        value = policy.get(name) if policy is not None else None
        if value is not None and not (type(value) in (int, float) and 0 <= value <= LARGEST_NUMBER):
            raise JobInvalid(f"rrqd_policy has a {name} that is no number of seconds: {str(value)[:40]!r}")
    return policy


def _positive(raw: bytes | None, name: str) -> float | None:
    if raw is None or raw == b"":
        return None
    try:
        number = float(raw)
    except ValueError:
        raise JobInvalid(f"{name} is not a number: {raw[:40]!r}") from None
    if not math.isfinite(number) or number <= 0:
        raise JobInvalid(f"Invalid job timeout: {raw[:40].decode(errors='replace')}. Must be positive.")
    return number


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job as it lies in the store, for reading. ``fields`` are all stored fields as text."""

    id: str
    status: JobStatus
    fields: dict[str, str]

    @classmethod
    def read(cls, job_id: str, raw: Mapping[bytes, bytes]) -> Job | None:
        """The job for a hash as the server gives it; ``None`` for an empty one."""
        if not raw:
            return None
        fields = {key.decode(errors="replace"): value.decode(errors="replace") for key, value in raw.items()}
        return cls(id=job_id, status=JobStatus.read(fields.get("status")), fields=fields)

    @property
    def function(self) -> str:
        return self.fields.get("function_name", "")

    @property
    def queue(self) -> str:
        return short_queue_name(self.fields.get("queue_name", ""))

    @property
    def last_error(self) -> str | None:
        return self.fields.get("last_error") or None

    @property
    def params(self) -> Any:
        return _json_or_none(self.fields.get("job_params", "{}"))

    @property
    def result(self) -> Any:
        """The decoded result; ``None`` when there is none, or it is not JSON."""
        return _json_or_none(self.fields.get("result", "null"))

    @property
    def error(self) -> dict[str, Any] | None:
        """Type, message, attempt and traceback of the last failure, when rrqd ran it."""
        value = _json_or_none(self.fields.get("rrqd_error", "null"))
        return value if isinstance(value, dict) else None

    @property
    def progress(self) -> dict[str, Any] | None:
        value = _json_or_none(self.fields.get("rrqd_progress", "null"))
        return value if isinstance(value, dict) else None

    def moment(self, field: str) -> datetime | None:
        """A stored time as an aware datetime; ``None`` if absent or unreadable."""
        text = self.fields.get(field)
        try:
            moment = datetime.fromisoformat(text) if text else None
        except ValueError:
            return None
        return moment.replace(tzinfo=UTC) if moment and moment.tzinfo is None else moment

    def number(self, field: str) -> int | None:
        """A stored whole number; ``None`` if absent or unreadable."""
        try:
            return int(self.fields[field])
        except (KeyError, ValueError):
            return None


def _json_or_none(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
