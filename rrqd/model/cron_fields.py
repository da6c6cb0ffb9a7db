"""One field of a cron schedule: ``*``, ``?``, numbers, names, ranges, steps and lists. Pure."""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

#: Name and longest length.
MONTHS = (
    ("JAN", 31), ("FEB", 29), ("MAR", 31), ("APR", 30), ("MAY", 31), ("JUN", 30), ("JUL", 31), ("AUG", 31),
    ("SEP", 30), ("OCT", 31), ("NOV", 30), ("DEC", 31),
)  # fmt: skip
WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
FULL_NAMES = (
    "JANUARY", "FEBRUARY", "MARCH", "APRIL", "MAY", "JUNE", "JULY", "AUGUST", "SEPTEMBER", "OCTOBER", "NOVEMBER",
    "DECEMBER", "SUNDAY", "MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "TUES", "THURS",
)  # fmt: skip
_PART = re.compile(r"(?:(\*|\?)|(\w+)(?:-(\w+))?)(?:/(\d{1,4}))?")


class _Kind(NamedTuple):
    """What a field is called, and its bounds; the first of ``names`` is ``low`` (or 0, where that is lower)."""

    called: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    hint: str = ""


class Field(Enum):
    """The fields there are."""

    SECOND = _Kind("second", 0, 59)
    MINUTE = _Kind("minute", 0, 59)
    HOUR = _Kind("hour", 0, 23)
    DAY = _Kind("day", 1, 31)
    MONTH = _Kind("month", 1, 12, tuple(name for name, _ in MONTHS))
    CRON_WEEKDAY = _Kind("weekday", 0, 7, WEEKDAYS)
    RRQ_WEEKDAY = _Kind("weekday", 1, 7, WEEKDAYS, "; after a field for seconds Sunday is 1, as in RRQ: write SUN")
    YEAR = _Kind("year", 1970, 2100)


def parse_field(field: Field, text: str) -> tuple[int, ...]:
    """The numbers a field allows, in rising order. Raises ValueError, which says what is wrong with which part."""
    kind = field.value
    allowed: set[int] = set()
    for part in text.split(","):
        found = _PART.fullmatch(part)
        if not found:
            raise ValueError(f'the {kind.called} "{part}" can\'t be read; write *, 5, 1-5, */10 or 1,15')
        star, first, last, step = found.groups()
        low = kind.low if star else _number(kind, first)
        # 5/10: from 5 to the end
        high = kind.high if star or (step and not last) else _number(kind, last or first)
        if field is Field.CRON_WEEKDAY and last and high == 0 < low:
            high = 7  # FRI-SUN
        if low > high:
            raise ValueError(f'the {kind.called} "{part}" runs backwards; write it as two: {low}-{kind.high},…')
        if step == "0" or (step and int(step) == 0):
            raise ValueError(f'the {kind.called} "{part}" has a step of 0')
        allowed.update(range(low, high + 1, int(step or 1)))
    return tuple(sorted(allowed))


def _number(kind: _Kind, word: str) -> int:
    if word.isascii() and word.isdigit():
        number = int(word) if len(word) <= 4 else kind.high + 1
    else:
        name = word.upper()
        short = name[:3]
        if short not in kind.names or name not in (short, *FULL_NAMES):
            raise ValueError(f'the {kind.called} "{word}" is not known' + _known(kind))
        number = kind.names.index(short) + kind.low
    if not kind.low <= number <= kind.high:
        raise ValueError(f'the {kind.called} "{word}" is not within {kind.low}-{kind.high}{kind.hint}')
    return number


def _known(kind: _Kind) -> str:
    return f"; names are {kind.names[0]} to {kind.names[-1]}" if kind.names else "; only numbers are"
