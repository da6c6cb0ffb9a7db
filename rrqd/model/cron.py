"""When the clock says so: schedules in cron's language, and their ticks. Pure.

Rule 1: a tick is a whole second, said in UTC; ``after`` and ``before`` are exclusive.
Rule 2: five fields are read as cron reads them (weekdays 0-7, Sunday is 0 and 7; a day matches by its date *or* its
weekday when both are given); six or seven, seconds first, as RRQ reads them (weekdays 1-7, Sunday is 1; both must
match).
Rule 3: where the hour is left open (``*``, ``*/n``) a schedule follows elapsed time: an hour that the clocks skip has
no ticks, one they repeat has its ticks twice. All others name hours of the day: each tick comes once, the first time
its hour is there; one whose hour is skipped comes when the clocks jump.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

import msgspec

from rrqd.model.cron_fields import MONTHS, Field, parse_field

WORDS = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * SUN",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
}
FIRST_YEAR, LAST_YEAR = 1970, 2100

#: How far apart two changes of a zone's clocks are at least.
STRIDE = timedelta(days=7)
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """What the fields of a schedule allow, each in rising order, and the zone whose clocks count."""

    text: str
    zone: tzinfo
    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    #: ISO: Monday is 1.
    weekdays: frozenset[int]
    years: range | tuple[int, ...]
    #: Whether one of date and weekday is enough.
    either: bool
    #: Whether it follows elapsed time rather than hours of the day.
    elapsed: bool

    def next(self, after: datetime) -> datetime | None:
        """The first tick after a moment; ``None`` when there is none before the year 2101."""
        moment, shift, inclusive = after.astimezone(UTC), self._shift(after), False
        while True:
            local = _naive(moment) + shift
            ahead = self._from(_ceil(local) if inclusive or local.microsecond else local + SECOND)
            if ahead is None:
                return None
            tick = (ahead - shift).replace(tzinfo=UTC)
            jump = self._first_change(moment, tick)
            if jump is None:
                if self.elapsed or not tick.astimezone(self.zone).fold:
                    return tick
                moment, inclusive = tick, False  # it was there before the clocks went back
                continue
            shift = self._shift(jump)
            if not self.elapsed and ahead < _naive(jump) + shift:
                return jump
            moment, inclusive = jump, True

    def previous(self, before: datetime) -> datetime | None:
        """The last tick before a moment; ``None`` when there is none since 1970."""
        moment = before.astimezone(UTC)
        while True:
            shift = self._shift(moment - timedelta(microseconds=1))
            back = self._until(_ceil(_naive(moment) + shift) - SECOND)
            if back is None:
                return None
            tick = (back - shift).replace(tzinfo=UTC)
            jump = self._last_change(tick, moment)
            if jump is None:
                if self.elapsed or not tick.astimezone(self.zone).fold:
                    return tick
                moment = tick
                continue
            if not self.elapsed:
                skipped = self._until(_naive(jump) + self._shift(jump) - SECOND)
                if skipped is not None and skipped >= _naive(jump) + self._shift(jump - SECOND):
                    return jump
            moment = jump

    def ticks(self, after: datetime) -> Iterator[datetime]:
        """All ticks after a moment, in order."""
        tick = self.next(after)
        while tick is not None:
            yield tick
            tick = self.next(tick)

    # The zone's clocks.

    def _shift(self, moment: datetime) -> timedelta:
        """How far local clocks are ahead of UTC."""
        return moment.astimezone(self.zone).utcoffset() or timedelta(0)

    def _first_change(self, start: datetime, end: datetime) -> datetime | None:
        """When the clocks first change in (start, end]."""
        before = self._shift(start)
        while start < end:
            stop = min(start + STRIDE, end)
            if self._shift(stop) != before:
                return self._change(start, stop)
            start = stop
        return None

    def _last_change(self, start: datetime, end: datetime) -> datetime | None:
        """When the clocks last change in (start, end)."""
        end -= timedelta(microseconds=1)
        after = self._shift(end)
        while start < end:
            stop = max(end - STRIDE, start)
            if self._shift(stop) != after:
                return self._change(stop, end)
            end = stop
        return None

    def _change(self, start: datetime, end: datetime) -> datetime:
        """The second of the one change in (start, end]."""
        before, low = self._shift(start), start.replace(microsecond=0)
        steps = range(1, int((end - low).total_seconds()) + 2)
        at = bisect_left(steps, True, key=lambda n: self._shift(low + n * SECOND) != before)
        return low + steps[at] * SECOND

    # The local calendar.

    def _from(self, start: datetime) -> datetime | None:
        """The first local time at or after ``start`` (whole seconds) that the fields allow."""
        if self._allows(start.date()):
            clock = self._clock_from(start.hour, start.minute, start.second)
            if clock is not None:
                return datetime.combine(start.date(), clock)
        day = self._day(start.date() + DAY, DAY)
        return datetime.combine(day, time(self.hours[0], self.minutes[0], self.seconds[0])) if day else None

    def _until(self, end: datetime) -> datetime | None:
        """The last local time at or before ``end`` (whole seconds) that the fields allow."""
        if self._allows(end.date()):
            clock = self._clock_until(end.hour, end.minute, end.second)
            if clock is not None:
                return datetime.combine(end.date(), clock)
        day = self._day(end.date() - DAY, -DAY)
        return datetime.combine(day, time(self.hours[-1], self.minutes[-1], self.seconds[-1])) if day else None

    def _day(self, day: date, step: timedelta) -> date | None:
        """The first day that fits, from ``day`` on, forwards or backwards."""
        while FIRST_YEAR <= day.year <= LAST_YEAR:
            if day.year in self.years and day.month in self.months:
                if self._allows(day):
                    return day
                day += step
            elif step > timedelta(0):
                day = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
            else:
                day = day.replace(day=1) - DAY
        return None

    def _allows(self, day: date) -> bool:
        if day.month not in self.months or day.year not in self.years:
            return False
        by_date, by_weekday = day.day in self.days, day.isoweekday() in self.weekdays
        return by_date or by_weekday if self.either else by_date and by_weekday

    def _clock_from(self, hour: int, minute: int, second: int) -> time | None:
        if hour in self.hours:
            at = bisect_left(self.minutes, minute)
            if at < len(self.minutes) and self.minutes[at] == minute:
                of = bisect_left(self.seconds, second)
                if of < len(self.seconds):
                    return time(hour, minute, self.seconds[of])
                at += 1
            if at < len(self.minutes):
                return time(hour, self.minutes[at], self.seconds[0])
        later = bisect_right(self.hours, hour)
        return time(self.hours[later], self.minutes[0], self.seconds[0]) if later < len(self.hours) else None

    def _clock_until(self, hour: int, minute: int, second: int) -> time | None:
        if hour in self.hours:
            at = bisect_left(self.minutes, minute)
            if at < len(self.minutes) and self.minutes[at] == minute:
                of = bisect_right(self.seconds, second)
                if of:
                    return time(hour, minute, self.seconds[of - 1])
            if at:
                return time(hour, self.minutes[at - 1], self.seconds[-1])
        earlier = bisect_left(self.hours, hour)
        return time(self.hours[earlier - 1], self.minutes[-1], self.seconds[-1]) if earlier else None


def _naive(moment: datetime) -> datetime:
    return moment.replace(tzinfo=None)


def _ceil(moment: datetime) -> datetime:
    """The same, or the next, whole second."""
    return moment.replace(microsecond=0) + SECOND if moment.microsecond else moment


def read_zone(name: str) -> tzinfo:
    """The time zone of that name, as the IANA database has it. Raises ValueError."""
    if name.upper() in ("UTC", "Z"):
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        raise ValueError(f'"{name}" is no time zone; write one like "Europe/Paris"') from None


def read_schedule(text: str, zone: tzinfo = UTC) -> Schedule:
    """The schedule that a text says. Raises ValueError, whose one sentence names the field."""
    words = text.split()
    if len(words) == 1 and words[0].startswith("@"):
        if words[0].lower() not in WORDS:
            raise ValueError(f'"{words[0]}" is none of {", ".join(WORDS)}')
        words = WORDS[words[0].lower()].split()
    if not 5 <= len(words) <= 7:
        raise ValueError(
            f"has {len(words)} fields, not 5 (minute hour day month weekday) "
            "or 6 or 7 (second minute hour day month weekday [year])"
        )
    plain = len(words) == 5
    second, minute, hour, day, month, weekday, *year = ["0", *words] if plain else words
    days, months = parse_field(Field.DAY, day), parse_field(Field.MONTH, month)
    schedule = Schedule(
        text=text,
        zone=zone,
        seconds=parse_field(Field.SECOND, second),
        minutes=parse_field(Field.MINUTE, minute),
        hours=parse_field(Field.HOUR, hour),
        days=frozenset(days),
        months=frozenset(months),
        weekdays=frozenset(_iso(parse_field(Field.CRON_WEEKDAY if plain else Field.RRQ_WEEKDAY, weekday), plain)),
        years=parse_field(Field.YEAR, year[0]) if year else range(FIRST_YEAR, LAST_YEAR + 1),
        either=plain and not re.match(r"[*?]", day) and not re.match(r"[*?]", weekday),
        elapsed=bool(re.match(r"[*?]", hour)),
    )
    if not schedule.either and all(min(days) > MONTHS[month - 1][1] for month in months):
        raise ValueError(f"never comes: no month in {month} has a day {min(days)}")
    return schedule


def _iso(weekdays: tuple[int, ...], plain: bool) -> Iterator[int]:
    """Monday 1 to Sunday 7, from Sunday as 0 and 7 (cron), or 1 (RRQ)."""
    return ((number if plain else number - 1) or 7 for number in weekdays)
