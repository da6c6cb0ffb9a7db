"""The timetable: what is to be enqueued by the clock, which ticks are due now, and what becomes of missed ones. Pure.

A tick is *on time* until ``ON_TIME`` after its second (a steward that was replaced meanwhile is no reason to leave it
out); after that it is *missed*, and the entry's policy decides: ``skip`` it, enqueue ``one`` job for all of them, or
one for each of ``all``, the latest ``missed_most`` of those within ``missed_within_seconds``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from rrqd.model.cron import Schedule, read_schedule, read_zone
from rrqd.model.job import NewJob, Tick
from rrqd.model.request import Defaults, new_job

if TYPE_CHECKING:
    from rrqd.config.rrq_table import CronJobSettings
    from rrqd.config.settings import Settings

ON_TIME = timedelta(seconds=5)
#: Missed ticks are counted up to here; more are "so many at least".
COUNT_MOST = 1000
MOMENT = timedelta(microseconds=1)
#: Keys of an entry that are options of its jobs.
JOB_OPTIONS = (
    "params", "args", "queue_name", "job_timeout_seconds", "max_retries", "result_ttl_seconds", "priority", "tags",
    "throttles", "tenant", "rate",
)  # fmt: skip


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the timetable. ``options``: as for an enqueue."""

    name: str
    function: str
    schedule: Schedule
    zone: str
    options: Mapping[str, Any]
    unique: bool
    missed: str
    missed_most: int
    missed_within_seconds: float

    @property
    def version(self) -> str:
        """What its ticks follow from; when it changes, the past is not measured by the new one."""
        return f"{self.schedule.text} {self.zone}"


class Due(msgspec.Struct, frozen=True):
    """``fire``: ticks to enqueue a job for, in order. ``missed``: how many were, ``left_out`` of them for good.
    ``upto``: everything until this tick is dealt with; ``None``: nothing is due."""

    fire: tuple[datetime, ...] = ()
    missed: int = 0
    left_out: int = 0
    upto: datetime | None = None


def read_entry(one: CronJobSettings) -> Entry:
    """The entry that a table of the file says; its values have been checked."""
    assert one.name is not None
    return Entry(
        name=one.name,
        function=one.function_name,
        schedule=read_schedule(one.schedule, read_zone(one.timezone)),
        zone=one.timezone,
        options=options_of(one),
        unique=one.unique,
        missed=one.missed,
        missed_most=one.missed_most,
        missed_within_seconds=one.missed_within_seconds,
    )


def options_of(one: CronJobSettings) -> dict[str, Any]:
    """What an entry says of its jobs, as for an enqueue."""
    return {key: value for key in JOB_OPTIONS if (value := getattr(one, key)) not in (None, [])}


def read_timetable(settings: Settings) -> dict[str, Entry]:
    """All entries by name."""
    return {entry.name: entry for entry in map(read_entry, settings.rrq.cron_jobs)}


def defaults_of(settings: Settings) -> Defaults:
    """What the jobs of the timetable have in common."""
    return Defaults(
        queue=settings.rrq.default_queue_name,
        max_params_bytes=settings.rrqd.max_params_bytes,
        correlation=dict(settings.rrq.correlation_mappings),
    )


def names_of(given: list[tuple[str | None, str]]) -> Iterator[str]:
    """A name for each entry, from (its own, its function's): an entry without one is called like its function, with a
    number from the second on."""
    taken = {own for own, _ in given if own is not None}
    for own, function in given:
        name, number = own or function, 1
        while own is None and name in taken:
            number += 1
            name = f"{function}#{number}"
        taken.add(name)
        yield name


def due(entry: Entry, last: datetime, now: datetime) -> Due:
    """What is to be done about the ticks in (last, now]."""
    fire: list[datetime] = []
    upto, most, missed, made_up = None, 0, 0, 0
    horizon = now - timedelta(seconds=entry.missed_within_seconds)
    for tick in _back(entry.schedule, last, now):
        upto = upto or tick
        if tick >= now - ON_TIME:
            fire.append(tick)
            continue
        if not missed:
            most = {"skip": 0, "one": 0 if fire else 1}.get(entry.missed, entry.missed_most)
        missed += 1
        if made_up < most and tick >= horizon:
            made_up += 1
            fire.append(tick)
        if missed == COUNT_MOST:
            break
    return Due(tuple(reversed(fire)), missed=missed, left_out=missed - made_up, upto=upto)


def _back(schedule: Schedule, last: datetime, now: datetime) -> Iterator[datetime]:
    """The ticks in (last, now], latest first."""
    tick = schedule.previous(now + MOMENT)
    while tick is not None and tick > last:
        yield tick
        tick = schedule.previous(tick)


def job_of(entry: Entry, defaults: Defaults, tick: datetime | None, by: str, left_out: int = 0) -> NewJob:
    """The job of one tick, the same on every node; without a tick one that somebody wants now. Raises
    InvalidRequest."""
    options = dict(entry.options)
    if tick is not None:
        options["job_id"] = f"cron:{entry.name}:{tick:%Y%m%dT%H%M%SZ}"
    at = int(tick.timestamp()) if tick is not None else None
    mark = Tick(name=entry.name, at=at, version=entry.version, unique=entry.unique, by=by, left_out=left_out)
    return msgspec.structs.replace(new_job(entry.function, options, defaults), tick=mark)
