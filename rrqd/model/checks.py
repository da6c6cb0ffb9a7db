"""What a caller may write: checks of single values, each with a sentence that names the option. Pure.

Rule: every function answers the value as it is meant, or raises InvalidRequest (``refuse_odd_numbers``: ValueError).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from rrqd.exc import InvalidRequest
from rrqd.model.job import LARGEST_NUMBER

MAX_NAME_BYTES = 512
MAX_SECONDS = 10 * 31_536_000  # ten years; more is a slip of the keyboard


def name(value: Any, what: str, most_bytes: int = MAX_NAME_BYTES) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"{what} must be text, not {type(value).__name__}")
    if not value.strip():
        raise InvalidRequest(f"{what} cannot be blank")
    if len(value.encode(errors="replace")) > most_bytes:
        raise InvalidRequest(f"{what} is longer than {most_bytes} bytes")
    if not value.isprintable():
        raise InvalidRequest(f"{what} has characters that cannot be printed: {value!r}")
    return value


def seconds(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise InvalidRequest(f"{what} must be a number >= 0, not {value!r}")
    if value > MAX_SECONDS:
        raise InvalidRequest(f"{what} must be at most {MAX_SECONDS} (ten years)")
    return value


def moment(value: Any, what: str) -> datetime:
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


def flag(given: Mapping[str, Any], name: str) -> bool:
    value = given.get(name)
    if value is not None and not isinstance(value, bool):
        raise InvalidRequest(f"{name} must be true or false, not {value!r}")
    return bool(value)


def whole(given: Mapping[str, Any], name: str, default: int | None) -> int | None:
    value = given.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequest(f"{name} must be a whole number, not {value!r}")
    if abs(value) > LARGEST_NUMBER:
        raise InvalidRequest(f"{name} is out of range")
    return value


def priority(value: Any) -> int | float | None:
    """As it is stored: ``None`` for 0, which is what a job has that was given none."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST_NUMBER:
        raise InvalidRequest(f"priority must be a number (higher runs first), at most 2^53 either way, not {value!r}")
    return value or None


def strings(value: Any, what: str) -> dict[str, str] | None:
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


def params_text(params: Mapping[str, Any], max_bytes: int, limit: str) -> bytes:
    """Parameters as they are stored. Raises InvalidRequest when they can't be, or are too large; ``limit``: what the
    number is called."""
    try:
        refuse_odd_numbers(params)
        encoded = msgspec.json.encode(dict(params))
    except (TypeError, ValueError, RecursionError) as fault:
        raise InvalidRequest(f"params cannot be written as JSON: {fault}") from None
    if len(encoded) > max_bytes:
        raise InvalidRequest(f"params are {len(encoded)} bytes of JSON; {limit} is {max_bytes}")
    return encoded
