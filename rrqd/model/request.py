"""From what a caller asks for to a ``NewJob``: RRQ's options, their checks and defaults. Pure.

Rule 1: a request that can never be right raises InvalidRequest here, before anything is sent.
Rule 2: only what was asked for is written; what is left open is the worker's to fill in from the same settings.
"""

from __future__ import annotations

import difflib
import math
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec

from rrqd import clock
from rrqd.exc import InvalidRequest
from rrqd.model import checks, once
from rrqd.model.family import read_parents
from rrqd.model.job import QUEUE_PREFIX, NewJob, short_queue_name
from rrqd.model.names import read_tags, read_tenant, read_throttles
from rrqd.model.rates import read_rate

#: RRQ's options of an enqueue, and ours (the last line).
OPTIONS = frozenset({
    "params", "queue_name", "job_id", "max_retries", "job_timeout_seconds",
    "result_ttl_seconds", "trace_context", "defer_by_seconds", "defer_until", "enqueue_time",
    "on_timeout", "retry_delay_seconds", "max_retry_delay_seconds", "failure_ttl_seconds",
    "tags", "track", "throttles", "tenant", "rate", "priority", "depends_on", "on_parent", "args",
}) | once.OPTIONS  # fmt: skip
POLICY_OPTIONS = ("on_timeout", "retry_delay_seconds", "max_retry_delay_seconds", "failure_ttl_seconds")

MAX_TIMEOUT_SECONDS = 31_536_000  # a year; more is a slip of the keyboard
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
    wait_ms = max(0.0, due_ms - clock.wall_ms()) if due_ms is not None else delay_ms
    alike = once.read_once(given, defaults.unique_ttl_seconds, wait_ms)
    if alike.debounce_key is not None:  # RRQ's rule: a window after the request, whatever else it says
        due_ms, delay_ms = _later(given, alike.debounce_ms)
    trace = checks.strings(given.get("trace_context"), "trace_context")
    parents, on_parent = read_parents(given)
    return NewJob(
        id=checks.name(given["job_id"], "job_id") if given.get("job_id") is not None else str(uuid.uuid4()),
        function=checks.name(function_name, "function_name"),
        queue=_queue(defaults.queue if given.get("queue_name") is None else given["queue_name"]),
        params=checks.params_text(params, defaults.max_params_bytes, "the limit"),
        due_ms=due_ms,
        delay_ms=delay_ms,
        max_retries=checks.whole(given, "max_retries", defaults.max_retries),
        timeout_seconds=_timeout(given, defaults.timeout_seconds),
        result_ttl_seconds=checks.whole(given, "result_ttl_seconds", defaults.result_ttl_seconds),
        enqueue_time=checks.moment(given["enqueue_time"], "enqueue_time").isoformat()
        if given.get("enqueue_time")
        else None,
        trace_context=msgspec.json.encode(trace) if trace else None,
        correlation_context=_correlation(params, trace or {}, defaults.correlation),
        once=alike,
        policy=_policy(given),
        rate=read_rate(given.get("rate")),
        throttles=read_throttles(given.get("throttles") or ()),
        tenant=None if given.get("tenant") is None else read_tenant(given["tenant"]),
        tags=read_tags(given.get("tags") or ()),
        track=checks.flag(given, "track"),
        priority=checks.priority(given.get("priority")),
        parents=parents,
        on_parent=on_parent,
        args=_args(given.get("args"), defaults.max_params_bytes),
    )


def _queue(value: Any) -> str:
    name = short_queue_name(checks.name(value, "queue_name"))
    if not name.strip():
        raise InvalidRequest(f"queue_name cannot be just {QUEUE_PREFIX!r}")
    return name


def _args(args: Any, max_bytes: int) -> bytes | None:
    """Positional arguments, for handlers of RRQ's first API."""
    if args is None or (isinstance(args, list | tuple) and not args):
        return None
    if not isinstance(args, list | tuple):
        raise InvalidRequest(f"args must be a list, not {type(args).__name__}")
    try:
        checks.refuse_odd_numbers(args)
        encoded = msgspec.json.encode(args)
    except (TypeError, ValueError, RecursionError) as fault:
        raise InvalidRequest(f"args cannot be written as JSON: {fault}") from None
    if len(encoded) > max_bytes:
        raise InvalidRequest(f"args are {len(encoded)} bytes of JSON; the limit is {max_bytes}")
    return encoded


def _due(given: Mapping[str, Any]) -> tuple[float | None, int]:
    """(epoch ms, 0) for an absolute time, (None, ms from now) otherwise. ``defer_until`` wins (RRQ's rule); a
    ``defer_by_seconds`` counts from ``enqueue_time`` if the caller gave one."""
    if given.get("defer_until") is not None:
        return clock.to_ms(checks.moment(given["defer_until"], "defer_until")), 0
    if given.get("defer_by_seconds") is None:
        return (None, 0)
    return _later(given, math.ceil(checks.seconds(given["defer_by_seconds"], "defer_by_seconds") * 1000))


def _later(given: Mapping[str, Any], delay_ms: int) -> tuple[float | None, int]:
    if given.get("enqueue_time"):
        return clock.to_ms(checks.moment(given["enqueue_time"], "enqueue_time")) + delay_ms, 0
    return None, delay_ms


def _timeout(given: Mapping[str, Any], default: int | None) -> int | None:
    value = checks.whole(given, "job_timeout_seconds", default)
    if value is None:
        return None
    if value <= 0:
        raise InvalidRequest("job_timeout_seconds must be positive")
    if value > MAX_TIMEOUT_SECONDS:
        raise InvalidRequest(f"job_timeout_seconds must be at most {MAX_TIMEOUT_SECONDS} (a year)")
    return value


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
        checks.seconds(chosen.get(name, 0), name)
    return msgspec.json.encode(chosen)
