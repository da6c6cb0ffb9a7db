"""The two clocks, and the only place that asks what time it is on this host.

Rule 1: what is stored, or compared with what is stored, uses the *server's* time (Lua's ``TIME``), not this file.
Rule 2: what is measured or waited for on this host uses the monotonic clock.
Rule 3: wall time of this host is for people (log lines, a deadline shown to a handler), never for a decision.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

monotonic = time.monotonic
monotonic_ns = time.monotonic_ns


def wall() -> datetime:
    """This host's wall time, in UTC."""
    return datetime.now(UTC)


def wall_ns() -> int:
    """This host's wall time in nanoseconds since 1970, as traces have it."""
    return time.time_ns()


def wall_ms() -> int:
    """This host's wall time in whole milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def iso(epoch_ms: float) -> str:
    """RFC 3339 in UTC with milliseconds, as log lines have it."""
    return from_ms(epoch_ms).isoformat(timespec="milliseconds")


def from_ms(epoch_ms: float) -> datetime:
    """A point of epoch milliseconds as an aware datetime in UTC."""
    return datetime.fromtimestamp(epoch_ms / 1000, UTC)


def to_ms(moment: datetime) -> float:
    """Epoch milliseconds of ``moment``; a naive one is taken as UTC (RRQ's rule)."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp() * 1000
