"""What the store's configuration may say of a queue, or of all. Pure.

A value given for a queue counts there; else the one given for all; else the settings of whoever runs the job.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from rrqd.exc import InvalidRequest
from rrqd.model import checks
from rrqd.model.queue_buckets import KEY as BUCKETS
from rrqd.model.queue_buckets import buckets_text, read_buckets
from rrqd.model.queue_patterns import LIST, NOT, read_list

#: What the names of an application's own keys begin with; rrqd keeps their values, and makes nothing of them.
OWN = "app."
MAX_OWN_BYTES = 10_000


class Kind(NamedTuple):
    """``whole``: a number without a fraction. ``least``: the smallest."""

    what: str
    whole: bool
    least: float


KINDS = {
    "heartbeat_seconds": Kind(
        "a run that has given no heartbeat for so long is ended like one past its timeout", False, 0.1
    ),
    "grace_seconds": Kind("how long a job past its timeout may take to let go", False, 0.0),
    "history_seconds": Kind("how long a completed job is kept; 0: for ever", True, 0),
    "history_count": Kind("how many completed jobs are kept at most", True, 1),
    "job_history_count": Kind("how many entries of a job's history are kept", True, 2),
}


class QueueRules(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of one queue; ``None``: nothing."""

    heartbeat_seconds: float | None = None
    grace_seconds: float | None = None
    history_seconds: int | None = None
    history_count: int | None = None
    job_history_count: int | None = None


def field_of(key: str, queue: str | None) -> str:
    """How it is called in the store's hash. Keys have no spaces. Raises InvalidRequest for a key that no queue has for
    itself."""
    if queue is not None and (key == BUCKETS or key.startswith(LIST)):
        raise InvalidRequest(f"{key} is said of all queues, not of {queue} alone")
    return key if queue is None else f"{key} {queue}"


def rules_of(stored: Mapping[str, str], queue: str) -> QueueRules:
    """The rules of a queue. What can't be read, because a foreign hand wrote it, is not there."""
    told = {key: read(key, stored.get(field_of(key, queue), stored.get(key))) for key in KINDS}
    return QueueRules(**{key: value for key, value in told.items() if value is not None})


def read(key: str, text: str | None) -> Any:
    """A stored value: a number, a list for a named one or for buckets, or text for an application's own key; ``None``
    for what is absent or odd."""
    if text is not None and key.startswith(LIST):
        return read_list(text)
    if text is not None and key == BUCKETS:
        return msgspec.to_builtins(read_buckets(text))
    if text is None or key not in KINDS:
        return text
    kind = KINDS[key]
    try:
        number: float = int(text) if kind.whole else float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= kind.least else None


def check(key: str, value: Any) -> str:
    """The text to store. Raises InvalidRequest for a key or a value that means nothing."""
    check_key(key)
    if key.startswith(LIST):
        return _list_text(key, value)
    if key == BUCKETS:
        return buckets_text(value)
    if key.startswith(OWN):
        text = str(value)
        if len(text.encode(errors="replace")) > MAX_OWN_BYTES:
            raise InvalidRequest(f"{key} is longer than {MAX_OWN_BYTES} bytes")
        return text
    kind = KINDS[key]
    number = read(key, str(value))
    if number is None or isinstance(value, bool) or number > checks.MAX_SECONDS:
        sort = "a whole number" if kind.whole else "a number"
        raise InvalidRequest(f"{key} must be {sort} from {kind.least:g} on, not {value!r}: {kind.what}")
    return str(number)


def _list_text(key: str, value: Any) -> str:
    """A list of queues and patterns; a person may write them in one text, with spaces between."""
    words = value.split() if isinstance(value, str) and not value.startswith("[") else value
    if isinstance(words, str):
        words = read_list(words)
    if not isinstance(words, list | tuple) or not all(isinstance(one, str) for one in words) or not words:
        raise InvalidRequest(f"{key} must be a list of queues and patterns, not {value!r}")
    if any(one.lstrip(NOT).startswith(LIST) for one in words):
        raise InvalidRequest(f"{key} names another list; a list has queues and patterns only")
    return msgspec.json.encode([checks.name(one, f"{key} entry") for one in words]).decode()


def check_key(key: str) -> str:
    """A key that there is. Raises InvalidRequest, and suggests the nearest."""
    if key.startswith(OWN) and " " not in checks.name(key, "key"):
        return key
    if key.startswith(LIST) and len(checks.name(key, "key")) > 1 and " " not in key:
        return key
    known = [*KINDS, BUCKETS]
    if key not in known:
        near = difflib.get_close_matches(key, known, 1)
        hint = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(known)}, and names of your own: {OWN}…"
        raise InvalidRequest(f'no key is called "{key}"; {hint}')
    return key
