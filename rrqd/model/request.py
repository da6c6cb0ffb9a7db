"""From what a caller asks for to a ``NewJob``: RRQ's options, their checks and defaults. Pure.

Rule 1: a request that can never be right raises InvalidRequest here, before anything is sent.
Rule 2: only what was asked for is written; what is left open is the worker's to fill in from the same settings.
"""

from __future__ import annotations

import difflib
import math
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from rrqd import clock
from rrqd.exc import InvalidRequest
from rrqd.model.job import LARGEST_NUMBER, QUEUE_PREFIX, NewJob, short_queue_name

#: RRQ's options of an enqueue, and ours (the last line).
OPTIONS = frozenset({
    "params", "queue_name", "job_id", "unique_key", "unique_ttl_seconds", "max_retries", "job_timeout_seconds",
    "result_ttl_seconds", "trace_context", "defer_by_seconds", "defer_until", "enqueue_time",
    "on_timeout", "retry_delay_seconds", "max_retry_delay_seconds",
})  # fmt: skip
POLICY_OPTIONS = ("on_timeout", "retry_delay_seconds", "max_retry_delay_seconds")

MAX_NAME_BYTES = 512
MAX_TIMEOUT_SECONDS = 31_536_000  # a year; more is a slip of the keyboard
MAX_DEFER_SECONDS = 10 * 31_536_000
MAX_CORRELATION_KEYS = 16
MAX_CORRELATION_NAME_BYTES = 64
MAX_CORRELATION_VALUE_BYTES = 256


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """A client's own settings. ``None``: leave it to the worker."""

    queue: str = "default"
    max_retries: int | None = None
    timeout_seconds: int | None = None
    result_ttl_seconds: int | None = None
    unique_ttl_seconds: int = 21_600
    max_params_bytes: int = 1_048_576
    correlation: dict[str, str] = {}


def new_job(function_name: str, options: Mapping[str, Any] | None, defaults: Defaults) -> NewJob:
    """The job for one request. Raises InvalidRequest, naming the option and what is allowed."""
    given = dict(options or {})
    for name in given:
        if name not in OPTIONS:
            near = difflib.get_close_matches(str(name), OPTIONS, 1)
            raise InvalidRequest(f"unknown option {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    params = {} if given.get("params") is None else given["params"]
    if not isinstance(params, Mapping):
        raise InvalidRequest(f"params must be a mapping of names to values, not {type(params).__name__}")
    due_ms, delay_ms = _due(given)
    trace = _strings(given.get("trace_context"), "trace_context")
    unique = given.get("unique_key")
    return NewJob(
        id=_name(given["job_id"], "job_id") if given.get("job_id") is not None else str(uuid.uuid4()),
        function=_name(function_name, "function_name"),
        queue=_queue(defaults.queue if given.get("queue_name") is None else given["queue_name"]),
        params=_params(params, defaults.max_params_bytes),
        due_ms=due_ms,
        delay_ms=delay_ms,
        max_retries=_whole(given, "max_retries", defaults.max_retries),
        timeout_seconds=_timeout(given, defaults.timeout_seconds),
        result_ttl_seconds=_whole(given, "result_ttl_seconds", defaults.result_ttl_seconds),
        enqueue_time=_moment(given["enqueue_time"], "enqueue_time").isoformat() if given.get("enqueue_time") else None,
        trace_context=msgspec.json.encode(trace) if trace else None,
        correlation_context=_correlation(params, trace or {}, defaults.correlation),
        unique_key=_name(unique, "unique_key") if unique is not None else None,
        unique_ttl_seconds=_unique_ttl(given, defaults, due_ms, delay_ms),
        policy=_policy(given),
    )


def _name(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"{what} must be text, not {type(value).__name__}")
    if not value.strip():
        raise InvalidRequest(f"{what} cannot be blank")
    if len(value.encode(errors="replace")) > MAX_NAME_BYTES:
        raise InvalidRequest(f"{what} is longer than {MAX_NAME_BYTES} bytes")
    if not value.isprintable():
        raise InvalidRequest(f"{what} has characters that cannot be printed: {value!r}")
    return value


def _queue(value: Any) -> str:
    name = short_queue_name(_name(value, "queue_name"))
    if not name.strip():
        raise InvalidRequest(f"queue_name cannot be just {QUEUE_PREFIX!r}")
    return name


def _params(params: Mapping[str, Any], max_bytes: int) -> bytes:
    try:
        refuse_odd_numbers(params)
        encoded = msgspec.json.encode(dict(params))
    except (TypeError, ValueError, RecursionError) as fault:
        raise InvalidRequest(f"params cannot be written as JSON: {fault}") from None
    if len(encoded) > max_bytes:
        raise InvalidRequest(f"params are {len(encoded)} bytes of JSON; the limit is {max_bytes}")
    return encoded


def refuse_odd_numbers(value: Any, depth: int = 0) -> None:
    """NaN and infinity are no JSON: other languages would choke on them. Raises ValueError."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is not a JSON number")
    elif isinstance(value, Mapping):
        if depth > 100:
            raise ValueError("nested deeper than 100 levels")
        for item in value.values():
            refuse_odd_numbers(item, depth + 1)
    elif isinstance(value, list | tuple | set | frozenset):
        if depth > 100:
            raise ValueError("nested deeper than 100 levels")
        for item in value:
            refuse_odd_numbers(item, depth + 1)


def _due(given: Mapping[str, Any]) -> tuple[float | None, int]:
    """(epoch ms, 0) for an absolute time, (None, ms from now) otherwise. ``defer_until`` wins (RRQ's rule); a
    ``defer_by_seconds`` counts from ``enqueue_time`` if the caller gave one."""
    if given.get("defer_until") is not None:
        return clock.to_ms(_moment(given["defer_until"], "defer_until")), 0
    if given.get("defer_by_seconds") is None:
        return (None, 0)
    delay_ms = math.ceil(_seconds(given["defer_by_seconds"], "defer_by_seconds") * 1000)
    if given.get("enqueue_time"):
        return clock.to_ms(_moment(given["enqueue_time"], "enqueue_time")) + delay_ms, 0
    return None, delay_ms


def _seconds(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise InvalidRequest(f"{what} must be a number >= 0, not {value!r}")
    if value > MAX_DEFER_SECONDS:
        raise InvalidRequest(f"{what} must be at most {MAX_DEFER_SECONDS} (ten years)")
    return value


def _moment(value: Any, what: str) -> datetime:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise InvalidRequest(f"{what} is not an RFC 3339 time: {value!r}") from None
    if not isinstance(value, datetime):
        raise InvalidRequest(f"{what} must be a datetime or RFC 3339 text, not {type(value).__name__}")
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        raise InvalidRequest(f"{what} is out of range: {value}") from None


def _whole(given: Mapping[str, Any], name: str, default: int | None) -> int | None:
    value = given.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequest(f"{name} must be a whole number, not {value!r}")
    if abs(value) > LARGEST_NUMBER:
        raise InvalidRequest(f"{name} is out of range")
    return value


def _timeout(given: Mapping[str, Any], default: int | None) -> int | None:
    value = _whole(given, "job_timeout_seconds", default)
    if value is None:
        return None
    if value <= 0:
        raise InvalidRequest("job_timeout_seconds must be positive")
    if value > MAX_TIMEOUT_SECONDS:
        raise InvalidRequest(f"job_timeout_seconds must be at most {MAX_TIMEOUT_SECONDS} (a year)")
    return value


def _unique_ttl(given: Mapping[str, Any], defaults: Defaults, due_ms: float | None, delay_ms: int) -> int:
    ttl = _whole(given, "unique_ttl_seconds", None)
    if ttl is not None and ttl <= 0:
        raise InvalidRequest("unique_ttl_seconds must be positive")
    wait_ms = max(0.0, due_ms - clock.wall_ms()) if due_ms is not None else delay_ms
    return max(ttl if ttl is not None else defaults.unique_ttl_seconds, math.ceil(wait_ms / 1000))


def _strings(value: Any, what: str) -> dict[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping) or not all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
        raise InvalidRequest(f"{what} must be a mapping of text to text")
    if not all(_is_unicode(text) for pair in value.items() for text in pair):
        raise InvalidRequest(f"{what} has text that is not Unicode (a lone surrogate)")
    return dict(value)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _correlation(params: Mapping[str, Any], trace: Mapping[str, str], mappings: Mapping[str, str]) -> bytes | None:
    """RRQ's correlation context: attribute -> dotted path in the params; the trace context's value wins."""
    found: dict[str, str] = {}
    for attribute, path in mappings.items():
        name = attribute.strip()
        if not 0 < len(name.encode()) <= MAX_CORRELATION_NAME_BYTES or len(found) == MAX_CORRELATION_KEYS:
            continue
        value: Any = trace.get(name) or None
        if value is None:
            value = params
            for step in path.strip().removeprefix("params.").split("."):
                value = value.get(step) if isinstance(value, Mapping) else None
        text = _scalar(value)
        if text:
            found[name] = text.encode()[:MAX_CORRELATION_VALUE_BYTES].decode(errors="ignore")
    return msgspec.json.encode(found) if found else None


def _scalar(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    return None


def _policy(given: Mapping[str, Any]) -> bytes | None:
    chosen = {name: given[name] for name in POLICY_OPTIONS if given.get(name) is not None}
    if not chosen:
        return None
    if chosen.get("on_timeout", "retry") not in ("retry", "bury"):
        raise InvalidRequest(f"on_timeout must be 'retry' or 'bury', not {chosen['on_timeout']!r}")
    for name in POLICY_OPTIONS[1:]:
        _seconds(chosen.get(name, 0), name)
    return msgspec.json.encode(chosen)
