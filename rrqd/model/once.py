"""Options under which a request makes no second job: a unique key, a rate limit, a debounce. Pure.

RRQ's meanings: a *unique* key answers the job that has it; a *rate limit* lets the first request of a window through
and no other; a *debounce* lets the last of a burst through, a window after it. One request has one of the three; RRQ's
clients leave a unique key out beside the other two without a word, and so it is here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rrqd.exc import InvalidRequest
from rrqd.model import checks
from rrqd.model.job import NOTHING, Once, Until

OPTIONS = frozenset({
    "unique_key", "unique_ttl_seconds", "unique_until",
    "rate_limit_key", "rate_limit_seconds", "debounce_key", "debounce_seconds",
})  # fmt: skip
RATE_LIMIT_PREFIX = "rrq:rate_limit:"
DEBOUNCE_PREFIX = "rrq:debounce:"


def read_once(given: Mapping[str, Any], default_ttl_seconds: int, wait_ms: float) -> Once:
    """What the options say. ``wait_ms``: how long the job waits before it is due. Raises InvalidRequest."""
    if OPTIONS.isdisjoint(given):
        return NOTHING
    limited, debounced = _any(given, "rate_limit"), _any(given, "debounce")
    if limited and debounced:
        raise InvalidRequest("rate_limit_key and debounce_key are mutually exclusive")
    if limited or debounced:
        kind, prefix = ("rate_limit", RATE_LIMIT_PREFIX) if limited else ("debounce", DEBOUNCE_PREFIX)
        if given.get("unique_until") is not None:
            raise InvalidRequest(f"unique_until has no meaning beside {kind}_key; leave one of them out")
        key, seconds = _window(given, kind, prefix)
        window = math.ceil(seconds)
        if limited:
            return Once(rate_limit_key=key, window_seconds=window)
        return Once(debounce_key=key, window_seconds=window, debounce_ms=math.ceil(seconds * 1000))
    return _unique(given, default_ttl_seconds, wait_ms)


def require(kind: str, given: Mapping[str, Any]) -> None:
    """Raises InvalidRequest unless both options of a ``rate_limit`` or ``debounce`` are given."""
    for name in (f"{kind}_key", f"{kind}_seconds"):
        if given.get(name) is None:
            raise InvalidRequest(f"{name} is required")


def _any(given: Mapping[str, Any], kind: str) -> bool:
    return given.get(f"{kind}_key") is not None or given.get(f"{kind}_seconds") is not None


def _window(given: Mapping[str, Any], kind: str, prefix: str) -> tuple[str, float]:
    """The key without RRQ's prefix, and the length of the window."""
    require(kind, given)
    key = checks.name(given[f"{kind}_key"], f"{kind}_key").removeprefix(prefix)
    if not key.strip():
        raise InvalidRequest(f"{kind}_key cannot be just {prefix!r}")
    seconds = checks.seconds(given[f"{kind}_seconds"], f"{kind}_seconds")
    if seconds <= 0:
        raise InvalidRequest(f"{kind}_seconds must be positive")
    return key, seconds


def _unique(given: Mapping[str, Any], default_ttl_seconds: int, wait_ms: float) -> Once:
    ttl = checks.whole(given, "unique_ttl_seconds", None)
    if ttl is not None and not 0 < ttl <= checks.MAX_SECONDS:
        raise InvalidRequest(f"unique_ttl_seconds must be positive, and at most {checks.MAX_SECONDS} (ten years)")
    until = _until(given.get("unique_until"))
    if given.get("unique_key") is None:
        if given.get("unique_until") is not None:
            raise InvalidRequest("unique_key is required with unique_until")
        return Once()
    held = max(ttl if ttl is not None else default_ttl_seconds, math.ceil(wait_ms / 1000))
    if until is not Until.ENQUEUED_TTL and ttl is None:
        held = 0  # the job itself ends it
    return Once(unique_key=checks.name(given["unique_key"], "unique_key"), unique_ttl_seconds=held, unique_until=until)


def _until(value: Any) -> Until:
    if value is None:
        return Until.ENQUEUED_TTL
    try:
        return Until(value)
    except ValueError:
        words = ", ".join(repr(word.value) for word in Until)
        raise InvalidRequest(f"unique_until must be one of {words}, not {value!r}") from None
