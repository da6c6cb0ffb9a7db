"""What a job is: immutable records, to and from the flat fields of RRQ's hash.

Rule 1: RRQ's fields keep RRQ's names and encodings; ours start with ``rrqd_``.
Rule 2: reading is strict where running a misread job would hurt (parameters, timeout), lenient elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec

from rrqd.exc import JobInvalid
from rrqd.job import JobResult, JobStatus

JOB_PREFIX = "rrq:job:"
QUEUE_PREFIX = "rrq:queue:"
DLQ_PREFIX = "rrq:dlq:"

#: A run in a job's past, as the script writes it.
SNOOZED = '"what":"snoozed"'

#: The largest number that Lua, JSON and the server all read as what was meant.
LARGEST_NUMBER = 2**53


def short_queue_name(name: str) -> str:
    """``rrq:queue:mail`` and ``mail`` are the same queue; inside rrqd it is called ``mail``."""
    return name.removeprefix(QUEUE_PREFIX)


def short_dlq_name(name: str) -> str:
    """``rrq:dlq:default`` and ``default`` are the same DLQ."""
    return name.removeprefix(DLQ_PREFIX)


class Until(StrEnum):
    """How long a unique key is held. ENQUEUED_TTL: for its time, while the job's record is there in whatever state
    (RRQ's meaning). STARTED: until a worker takes the job. FINISHED: until the job has ended, however it does."""

    ENQUEUED_TTL = "enqueued-ttl"
    STARTED = "started"
    FINISHED = "finished"


class Once(msgspec.Struct, frozen=True, kw_only=True):
    """What a request says about others like it. Times to live are whole seconds; ``unique_ttl_seconds`` 0: no end of
    its own. ``debounce_ms``: how long after this request the job is due."""

    unique_key: str | None = None
    unique_ttl_seconds: int = 0
    unique_until: Until = Until.ENQUEUED_TTL
    rate_limit_key: str | None = None
    debounce_key: str | None = None
    debounce_ms: int = 0
    window_seconds: int = 0


NOTHING = Once()


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """Of a job that the clock asks for: the timetable's entry, and the epoch second (``None``: a person asks, now).
    ``unique``: not while the last one's job has not ended. ``by``: the node that asks. ``left_out``: how many missed
    ticks before this one have no job."""

    name: str
    at: int | None
    version: str
    unique: bool
    by: str
    left_out: int = 0


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """``limit`` starts per ``per_seconds``, evenly: one each ``per_seconds / limit``. ``burst``: so many may start at
    once after a pause; 1 keeps the limit in every window of that length."""

    name: str
    limit: int
    per_seconds: float = 60.0
    burst: int = 1

    @property
    def stored(self) -> str:
        """As scripts read it: µs from one start to the next, burst, name."""
        return f"{max(1, round(self.per_seconds * 1e6 / self.limit))} {self.burst} {self.name}"


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job about to be written. ``None`` in a numeric field leaves it to the worker's defaults.

    ``due_ms``: epoch milliseconds; ``delay_ms``: from the server's now; neither: at once.
    ``priority``: higher first; ``None`` is 0, and waits in RRQ's own zset.
    ``tenant``: whose it is; tenants of a queue take turns.
    ``params``: JSON object text. ``once``: what becomes of it when there is one like it.
    ``track``: tell of every move (``store/following.py``). ``parents``: ids of jobs to wait for.
    ``args``: JSON list of positional arguments; such a job is written in the form of RRQ's first API (``job_args``,
    ``job_kwargs``). ``notes``: further fields of the hash. ``again``: the id of a job that has ended may be used anew.
    ``listed``: a name under which it is found when it has ended (``store.ended``); "" for most: that costs a command.
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
    once: Once = NOTHING
    tick: Tick | None = None
    policy: bytes | None = None
    tags: tuple[str, ...] = ()
    track: bool = False
    throttles: tuple[str, ...] = ()
    rate: Rate | None = None
    tenant: str | None = None
    priority: int | float | None = None
    parents: tuple[str, ...] = ()
    on_parent: str = "hold"
    args: bytes | None = None
    notes: dict[str, str] = {}
    again: bool = False
    listed: str = ""


class ClaimedJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job this process may run, with the token that proves it. ``due_ms``: the score it was queued under.
    ``args``: positional arguments, which only jobs of RRQ's first API have. ``snoozes``: runs that were no attempts."""

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
    parents: tuple[str, ...] = ()
    parent_results: dict[str, JobResult | None] = {}
    args: list[Any] = []
    snoozes: int = 0


def read_claimed(
    job_id: str, token: int, due_ms: float, claimed_ms: float, alone: bool, queue: str, fields: Mapping[str, str]
) -> ClaimedJob:
    """A ClaimedJob from a stored hash, in which bytes that are no UTF-8 stand as ``surrogateescape`` reads them. Its
    queue is the one that it was asked for in, also when it was diverted to a runner's own. Raises JobInvalid, whose
    text is fit for the DLQ."""
    field = fields.get
    function = field("function_name")
    if not function:
        raise JobInvalid("The job has no function_name.")
    return ClaimedJob(
        id=job_id,
        token=token,
        function=_text(function, "function_name"),
        queue=short_queue_name(_text(field("rrqd_home") or "", "rrqd_home")) or queue,
        params=_params(field),
        args=_list(field("job_args"), "job_args"),
        enqueue_time=_moment(field("enqueue_time")),
        due_ms=due_ms,
        claimed_ms=claimed_ms,
        attempt=(_whole(field("current_retries"), "current_retries") or 0) + 1,
        alone=alone,
        max_retries=_whole(field("max_retries"), "max_retries"),
        timeout_seconds=_positive(field("job_timeout_seconds"), "job_timeout_seconds"),
        result_ttl_seconds=_whole(field("result_ttl_seconds"), "result_ttl_seconds"),
        trace_context=_strings(field("trace_context"), "trace_context"),
        correlation_context=_strings(field("correlation_context"), "correlation_context"),
        policy=_policy(field("rrqd_policy")),
        parents=_ids(field("rrqd_parents")),
        snoozes=(field("rrqd_history") or "").count(SNOOZED),
    )


def read_usual(
    job_id: str,
    token: int,
    due_ms: float,
    claimed_ms: float,
    alone: bool,
    queue: str,
    function: str,
    enqueue_time: str,
    params: str,
) -> ClaimedJob:
    """The same for a job with no fields but those that all have."""
    return ClaimedJob(
        id=job_id, token=token, function=_text(function, "function_name"), queue=queue,
        params=_object(params, "job_params") or {}, enqueue_time=_moment(enqueue_time), due_ms=due_ms,
        claimed_ms=claimed_ms, attempt=1, alone=alone,
    )  # fmt: skip


def _ids(raw: str | None) -> tuple[str, ...]:
    try:
        return tuple(msgspec.json.decode(raw, type=list[str])) if raw else ()
    except (msgspec.DecodeError, UnicodeError) as fault:
        raise JobInvalid(f"rrqd_parents is not a JSON list of ids: {fault}") from None


def _text(raw: str, name: str) -> str:
    if not raw.isascii():
        try:
            raw.encode()
        except UnicodeEncodeError:
            raise JobInvalid(f"{name} is not UTF-8 text: {raw[:40]!a}") from None
    return raw


def _object(raw: str | None, name: str) -> dict[str, Any] | None:
    if not raw or raw in ("{}", "null"):
        return None
    value = _json(raw, name)
    if not isinstance(value, dict):
        raise JobInvalid(f"{name} must be a JSON object, not {type(value).__name__}.")
    return value


def _json(raw: str, name: str) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as fault:
        raise JobInvalid(f"{name} is not valid JSON: {fault}") from None


def _params(field: Callable[[str], str | None]) -> dict[str, Any]:
    """The parameters by name: RRQ's present field, or that of its first API."""
    own = field("job_params")
    return _object(own, "job_params") or {} if own else _object(field("job_kwargs"), "job_kwargs") or {}


def _list(raw: str | None, name: str) -> list[Any]:
    if not raw or raw in ("[]", "null"):
        return []
    value = _json(raw, name)
    if not isinstance(value, list):
        raise JobInvalid(f"{name} must be a JSON list, not {type(value).__name__}.")
    return value


def _strings(raw: str | None, name: str) -> dict[str, str] | None:
    value = _object(raw, name)
    if value is None:
        return None
    return {key: item if isinstance(item, str) else str(item) for key, item in value.items()}


def _moment(raw: str | None) -> datetime:
    if not raw:
        raise JobInvalid("The job has no enqueue_time.")
    try:
        moment = datetime.fromisoformat(raw)
    except ValueError:
        raise JobInvalid(f"enqueue_time is not RFC 3339: {raw[:40]!r}") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _whole(raw: str | None, name: str) -> int | None:
    if raw is None or raw == "":
        return None
    try:
        number = int(raw)
    except ValueError:
        raise JobInvalid(f"{name} is not a whole number: {raw[:40]!r}") from None
    if abs(number) > LARGEST_NUMBER:
        raise JobInvalid(f"{name} is out of range: {raw[:40]!r}")
    return number


def _policy(raw: str | None) -> dict[str, Any] | None:
    policy = _object(raw, "rrqd_policy")
    for name in ("retry_delay_seconds", "max_retry_delay_seconds", "failure_ttl_seconds"):
        value = policy.get(name) if policy is not None else None
        if value is not None and not (type(value) in (int, float) and 0 <= value <= LARGEST_NUMBER):
            raise JobInvalid(f"rrqd_policy has a {name} that is no number of seconds: {str(value)[:40]!r}")
    return policy


def _positive(raw: str | None, name: str) -> float | None:
    if raw is None or raw == "":
        return None
    try:
        number = float(raw)
    except ValueError:
        raise JobInvalid(f"{name} is not a number: {raw[:40]!r}") from None
    if not math.isfinite(number) or number <= 0:
        raise JobInvalid(f"Invalid job timeout: {raw[:40]}. Must be positive.")
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
    def priority(self) -> int | float:
        """Higher runs first; 0 for a job that was given none."""
        value = _json_or_none(self.fields.get("rrqd_priority", "0"))
        return value if type(value) in (int, float) else 0

    @property
    def parents(self) -> list[str]:
        """Ids of the jobs it was made to wait for."""
        value = _json_or_none(self.fields.get("rrqd_parents", "[]"))
        return [str(one) for one in value] if isinstance(value, list) else []

    @property
    def last_error(self) -> str | None:
        return self.fields.get("last_error") or None

    @property
    def params(self) -> Any:
        return _json_or_none(self.fields.get("job_params") or self.fields.get("job_kwargs") or "{}")

    @property
    def args(self) -> list[Any]:
        """Positional arguments, of a job of RRQ's first API."""
        value = _json_or_none(self.fields.get("job_args") or "[]")
        return value if isinstance(value, list) else []

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

    @property
    def tags(self) -> list[str]:
        value = _json_or_none(self.fields.get("rrqd_tags", "[]"))
        return value if isinstance(value, list) else []

    @property
    def throttles(self) -> list[str]:
        value = _json_or_none(self.fields.get("rrqd_throttles", "[]"))
        return value if isinstance(value, list) else []

    @property
    def tenant(self) -> str | None:
        """For whom it is done."""
        return self.fields.get("rrqd_tenant")

    @property
    def rate(self) -> str | None:
        """``one each 0.6 s as api``: how its start is limited."""
        interval, _, rest = self.fields.get("rrqd_rate", "").partition(" ")
        name = rest.partition(" ")[2]
        return f"one each {int(interval) / 1e6:g} s as {name}" if interval.isdigit() and name else None

    @property
    def tracked(self) -> bool:
        return "rrqd_tracked" in self.fields

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The steps it went through before the one it is at, oldest first: queue, function, worker, when, result."""
        last = self.number("rrqd_step") or 0
        told = [_json_or_none(self.fields.get(f"rrqd_step:{n}", "null")) for n in range(max(1, last - 99), last + 1)]
        return [step for step in told if isinstance(step, dict)]

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
