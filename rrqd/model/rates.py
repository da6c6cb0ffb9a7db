"""Rates: how many jobs of a name start in a time, over all queues and machines. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from rrqd.exc import InvalidRequest
from rrqd.model import checks
from rrqd.model.job import Rate

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
MOST = 1_000_000
_TEXT = re.compile(r"(?P<name>.+):(?P<limit>\d+)/(?P<number>\d*)(?P<unit>[smhd])")


def read_rate(value: Any) -> Rate | None:
    """A Rate, a mapping with its fields, or text like ``api:100/m`` (``/s``, ``/30s``, ``/h``, ``/d``)."""
    if value is None or isinstance(value, Rate):
        return value if value is None else _checked(value)
    if isinstance(value, str):
        match = _TEXT.fullmatch(value)
        if match is None:
            raise InvalidRequest(f"rate must be like 'api:100/m', not {value!r}")
        seconds = int(match["number"] or 1) * UNITS[match["unit"]]
        return _checked(Rate(name=match["name"], limit=int(match["limit"]), per_seconds=float(seconds)))
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"rate must be text like 'api:100/m', a mapping or a Rate, not {type(value).__name__}")
    try:
        return _checked(msgspec.convert(dict(value), Rate))
    except (msgspec.ValidationError, TypeError) as fault:
        raise InvalidRequest(f"rate is not right: {fault}") from None


def _checked(rate: Rate) -> Rate:
    checks.name(rate.name, "rate name", 200)
    for what, number in (("limit", rate.limit), ("burst", rate.burst)):
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MOST:
            raise InvalidRequest(f"rate {what} must be a whole number from 1 to {MOST}, not {number!r}")
    if checks.seconds(rate.per_seconds, "rate per_seconds") < 0.001:
        raise InvalidRequest("rate per_seconds must be at least 0.001")
    return rate
