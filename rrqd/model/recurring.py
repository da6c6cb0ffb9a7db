"""Recurring jobs: a template and an interval, kept in the store and changed while work goes on. Pure.

Rule 1: the times are nominal: the first, and then every interval, whenever somebody looked. Nothing drifts.
Rule 2: what was missed is made up, one job for each time, oldest first; with ``backlog`` > 0 only the last so many.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from rrqd.exc import InvalidRequest
from rrqd.model import checks
from rrqd.model.job import NewJob, Tick
from rrqd.model.request import Defaults, new_job

#: Options of an enqueue that a template may have: what holds for each of its jobs.
OPTIONS = frozenset({
    "params", "queue_name", "max_retries", "job_timeout_seconds", "result_ttl_seconds", "priority", "tags", "track",
    "throttles", "tenant", "rate", "on_timeout", "retry_delay_seconds", "max_retry_delay_seconds", "listed",
})  # fmt: skip
MIN_INTERVAL_SECONDS = 0.01
MAX_BACKLOG = 1_000_000
#: Jobs of one template in one turn; the others follow in the next.
MOST_AT_ONCE = 100


class Recurring(msgspec.Struct, frozen=True, kw_only=True):
    """``count``: jobs made so far, of which the last is ``<id>-<count>``. ``next_ms``: nominal time of the next, epoch
    ms. ``unique``: none while the last one has not ended."""

    id: str
    function: str
    options: dict[str, Any]
    interval_ms: int
    next_ms: float
    backlog: int = 0
    unique: bool = False
    count: int = 0


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What is due of one template: nominal times of the jobs to make, how many earlier ones are left out, and the
    next time."""

    times_ms: list[float]
    left_out: int
    next_ms: float


def due(one: Recurring, now_ms: float) -> Turn:
    """What is to be done now."""
    if one.next_ms > now_ms:
        return Turn(times_ms=[], left_out=0, next_ms=one.next_ms)
    waiting = math.floor((now_ms - one.next_ms) / one.interval_ms) + 1
    left_out = max(0, waiting - one.backlog) if one.backlog else 0
    made = min(waiting - left_out, MOST_AT_ONCE)
    first = one.next_ms + left_out * one.interval_ms
    return Turn(
        times_ms=[first + nth * one.interval_ms for nth in range(made)],
        left_out=left_out,
        next_ms=first + made * one.interval_ms,
    )


def _job(function: str, options: Mapping[str, Any], defaults: Defaults) -> NewJob:
    """``listed`` is no option of an enqueue: a face that has lists says it."""
    plain = {name: value for name, value in options.items() if name != "listed"}
    return msgspec.structs.replace(new_job(function, plain, defaults), listed=str(options.get("listed", "")))


def jobs_of(one: Recurring, turn: Turn, defaults: Defaults, by: str) -> list[NewJob]:
    """The jobs to ask for. Their number is their tick: whoever asks for it first has it. Raises InvalidRequest."""
    jobs = []
    for nth, at_ms in enumerate(turn.times_ms, start=one.count + 1):
        job = _job(one.function, {**one.options, "job_id": f"{one.id}-{nth}"}, defaults)
        tick = Tick(name=f"recurring:{one.id}", at=nth, version="", unique=one.unique, by=by)
        notes = {**job.notes, "rrqd_recurring": one.id}
        jobs.append(msgspec.structs.replace(job, due_ms=at_ms, tick=tick, notes=notes, again=True))
    return jobs


def job_now(one: Recurring, defaults: Defaults) -> NewJob:
    """One out of turn: the template's times and numbers go on as they would have. Raises InvalidRequest."""
    job = _job(one.function, one.options, defaults)
    return msgspec.structs.replace(job, notes={**job.notes, "rrqd_recurring": one.id})


def check(function: str, options: Mapping[str, Any], defaults: Defaults) -> None:
    """Raises InvalidRequest for a template of which no job can be made."""
    for name in options:
        if name not in OPTIONS:
            raise InvalidRequest(f"{name} is no option of a recurring job; it may have {', '.join(sorted(OPTIONS))}")
    _job(function, options, defaults)


def interval_ms(seconds: Any) -> int:
    """From 10 ms on. Raises InvalidRequest."""
    wanted = checks.seconds(seconds, "every_seconds")
    if wanted < MIN_INTERVAL_SECONDS:
        raise InvalidRequest(f"every_seconds must be at least {MIN_INTERVAL_SECONDS}")
    return round(wanted * 1000)


def backlog(number: Any) -> int:
    """A whole number, 0 for all. Raises InvalidRequest."""
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= MAX_BACKLOG:
        raise InvalidRequest(f"backlog must be a whole number from 0 to {MAX_BACKLOG}, not {number!r}")
    return number
