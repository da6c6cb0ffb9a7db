"""How a job of reqless is written as one of ours, and read again. Pure.

The class goes into the function's name (``class:package.module.Class``), the data into the parameters, as the text it
is: ``{"data": "<text>"}``. Nobody decodes and encodes that text on its way, so it comes out as it went in.

Rule 1: a job of another face can be looked at, too: its data are then its parameters, as they are stored.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec

from rrqd.job import JobStatus
from rrqd.model.history import Happening
from rrqd.model.job import Job as Stored
from rrqd.model.joblog import LogLine
from rrqd.model.names import MAX_GROUP_BYTES
from rrqd.rq.reference import CLASS, path_of

#: The list in which jobs of this face are found when they have ended.
LISTED = "reqless"
#: How long a completed job is kept where nothing else is said, in seconds: reqless' ``jobs-history``.
KEPT_SECONDS = 604_800
DEFAULT_RETRIES = 5

_STATES = {
    JobStatus.ACTIVE: "running", JobStatus.COMPLETED: "complete", JobStatus.FAILED: "failed",
    JobStatus.CANCELLED: "cancelled",
}  # fmt: skip
_WHAT = {
    "enqueued": "put", "claimed": "popped", "completed": "done", "advanced": "done", "buried": "failed",
    "retrying": "retried", "released": "timed-out", "revived": "put", "cancelled": "canceled",
}  # fmt: skip


def class_string(klass: Any) -> str:
    """``package.module.Class``; text is taken as it is. Raises NameUnknown for a class that has no such name."""
    return klass if isinstance(klass, str) else path_of(klass).replace(":", ".")


def function_of(klass: Any) -> str:
    """The function's name of a job of this class."""
    return CLASS + class_string(klass)


def klass_of(function: str) -> str:
    """The class again; of another face's job the name of its function."""
    return function.removeprefix(CLASS)


def text_of(data: Any) -> str:
    """Data as text: text is taken as it is, anything else is written as JSON, once. Raises TypeError."""
    if isinstance(data, str):
        return data
    return bytes(data).decode() if isinstance(data, bytes | bytearray) else msgspec.json.encode(data).decode()


def params_of(text: str) -> dict[str, str]:
    """The parameters that carry it."""
    return {"data": text}


def data_in(params: Mapping[str, Any], raw: str | None = None) -> str:
    """The data in a job's parameters; ``raw``: how these are stored."""
    data = params.get("data") if len(params) == 1 else None
    if isinstance(data, str):
        return data
    return msgspec.json.encode(params).decode() if raw is None else raw


def data_of(stored: Stored) -> str:
    """The data of a stored job."""
    params = stored.params
    return data_in(params if isinstance(params, dict) else {}, stored.fields.get("job_params") or "{}")


def options_of(stored: Stored) -> dict[str, Any]:
    """The options of a put that makes the same job anew."""
    return {
        "job_id": stored.id,
        "params": params_of(data_of(stored)) if stored.function.startswith(CLASS) else stored.params,
        "queue_name": stored.queue,
        "priority": stored.priority or None,
        "tags": stored.tags,
        "throttles": stored.throttles,
        "max_retries": stored.number("max_retries"),
        "job_timeout_seconds": stored.number("job_timeout_seconds"),
        "result_ttl_seconds": stored.number("result_ttl_seconds"),
        "track": stored.tracked,
    }


def state_of(stored: Stored, now_ms: float) -> str:
    """reqless' word for where a job is. A job that has been taken back to be tried again waits like any other."""
    ended = _STATES.get(stored.status)
    if ended is not None:
        return ended
    place = stored.fields.get("rrqd_place", "")
    if place == "depends":
        return "depends"
    if place.startswith("parked "):
        return "throttled"
    due = stored.moment("next_scheduled_run_time")
    return "scheduled" if due is not None and due.timestamp() * 1000 > now_ms else "waiting"


def failure_of(stored: Stored) -> dict[str, Any]:
    """``{group, message, when, worker}`` of a failed job, else nothing."""
    if stored.status is not JobStatus.FAILED:
        return {}
    error = stored.error or {}
    ended = stored.moment("completion_time")
    return {
        "group": group_of(stored),
        "message": error.get("traceback") or stored.last_error or "",
        "when": int(ended.timestamp()) if ended is not None else 0,
        "worker": stored.fields.get("worker_id", ""),
    }


def group(name: str) -> str:
    """A group's name of our making, no longer than one may be."""
    return name.encode()[:MAX_GROUP_BYTES].decode(errors="ignore")


def group_of(stored: Stored) -> str:
    """What a failed job is filed under: the group it was given, else its queue and its error's class; one that has used
    up its retries is ``failed-retries-<queue>``."""
    given = stored.fields.get("rrqd_group")
    if given:
        return given
    kind = (stored.error or {}).get("type")
    return group(f"failed-retries-{stored.queue}" if kind in (None, "RetryJob", "poison") else f"{stored.queue}-{kind}")


def history_entries(one: Happening) -> list[dict[str, Any]]:
    """``{what, when, …}``; what reqless knows under another name has that name. A job that goes on was put again."""
    entry: dict[str, Any] = {"what": _WHAT.get(one.what, one.what), "when": _epoch(one.at)}
    if one.worker is not None:
        entry["worker"] = one.worker
    if one.why is not None:
        entry["message"] = one.why
    return [entry, {"what": "put", "when": entry["when"]}] if one.what == "advanced" else [entry]


def _epoch(at: str) -> float:
    moment = Stored(id="", status=JobStatus.UNKNOWN, fields={"at": at}).moment("at")
    return moment.timestamp() if moment is not None else time.time()


def log_entry(line: LogLine) -> dict[str, Any]:
    """A line of a job's own log as an entry of its history."""
    return {"what": line.message, "when": _epoch(line.at)}
