"""Schedules: what the fields mean, what is refused, and every tick against a count of all minutes by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rrqd.model.cron import WORDS, Schedule, read_schedule, read_zone

PARIS = ZoneInfo("Europe/Paris")
MINUTE = timedelta(minutes=1)
#: Zones, and a day on or near which each changes its clocks.
CHANGES = [
    ("UTC", datetime(2026, 3, 29, tzinfo=UTC)),
    ("Europe/Paris", datetime(2026, 3, 29, tzinfo=UTC)),
    ("Europe/Paris", datetime(2026, 10, 25, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 3, 8, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, tzinfo=UTC)),  # half an hour
    ("Australia/Lord_Howe", datetime(2026, 10, 3, tzinfo=UTC)),
    ("Africa/Casablanca", datetime(2026, 2, 15, tzinfo=UTC)),
    ("Asia/Kathmandu", datetime(2026, 1, 1, tzinfo=UTC)),
    ("Pacific/Apia", datetime(2011, 12, 29, tzinfo=UTC)),  # a whole day was left out
]


def at(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def ticks(text: str, after: str, count: int = 3, zone: str = "UTC") -> list[str]:
    found = islice(read_schedule(text, read_zone(zone)).ticks(at(after)), count)
    return [tick.isoformat(sep=" ").removesuffix("+00:00") for tick in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("* * * * *", ["2026-11-30 10:01:00", "2026-11-30 10:02:00", "2026-11-30 10:03:00"]),
        ("* * * * * *", ["2026-11-30 10:00:31", "2026-11-30 10:00:32", "2026-11-30 10:00:33"]),
        ("*/20 * * * * *", ["2026-11-30 10:00:40", "2026-11-30 10:01:00", "2026-11-30 10:01:20"]),
        ("5/20 * * * * *", ["2026-11-30 10:00:45", "2026-11-30 10:01:05", "2026-11-30 10:01:25"]),
        ("15,45 9-10 * * *", ["2026-11-30 10:15:00", "2026-11-30 10:45:00", "2026-12-01 09:15:00"]),
        ("0 0 1 */3 *", ["2027-01-01 00:00:00", "2027-04-01 00:00:00", "2027-07-01 00:00:00"]),
        ("0 12 * jan,Dec MON-fri", ["2026-12-01 12:00:00", "2026-12-02 12:00:00", "2026-12-03 12:00:00"]),
        ("0 0 29 2 *", ["2028-02-29 00:00:00", "2032-02-29 00:00:00", "2036-02-29 00:00:00"]),
        ("@hourly", ["2026-11-30 11:00:00", "2026-11-30 12:00:00", "2026-11-30 13:00:00"]),
        ("@Weekly", ["2026-12-06 00:00:00", "2026-12-13 00:00:00", "2026-12-20 00:00:00"]),
        ("0 0 0 1 1 * 2027-2028", ["2027-01-01 00:00:00", "2028-01-01 00:00:00"]),
        ("0 0 0 ? * sunday", ["2026-12-06 00:00:00", "2026-12-13 00:00:00", "2026-12-20 00:00:00"]),
        ("0 0 * * FRI-SUN", ["2026-12-04 00:00:00", "2026-12-05 00:00:00", "2026-12-06 00:00:00"]),
    ],
)
def test_the_next_ticks(text: str, expected: list[str]) -> None:
    assert ticks(text, "2026-11-30 10:00:30") == expected  # a Monday


def test_numbers_of_weekdays_are_crons_in_five_fields_and_rrqs_in_six() -> None:
    monday, sunday = "2026-12-07 00:00:00", "2026-12-06 00:00:00"
    assert ticks("0 0 * * 1", "2026-11-30", 1) == ticks("0 0 0 * * 2", "2026-11-30", 1) == [monday]
    assert {ticks(text, "2026-11-30", 1)[0] for text in ("0 0 * * 0", "0 0 * * 7", "0 0 0 * * 1")} == {sunday}


def test_date_and_weekday_are_either_in_five_fields_and_both_in_six() -> None:
    assert ticks("0 0 13 * 5", "2026-11-01", 3) == ["2026-11-06 00:00:00", "2026-11-13 00:00:00", "2026-11-20 00:00:00"]
    assert ticks("0 0 0 13 * FRI", "2026-11-01", 2) == ["2026-11-13 00:00:00", "2027-08-13 00:00:00"]
    assert ticks("0 0 */10 * 5", "2026-11-01", 2) == ["2026-12-11 00:00:00", "2027-01-01 00:00:00"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("* * * *", "has 4 fields, not 5"),
        ("", "has 0 fields"),
        ("* * * * * * * *", "has 8 fields"),
        ("@dayly", '"@dayly" is none of @yearly,'),
        ("60 * * * *", 'the minute "60" is not within 0-59'),
        ("0 24 * * *", 'the hour "24" is not within 0-23'),
        ("0 0 0 * *", 'the day "0" is not within 1-31'),
        ("0 0 * 13 *", 'the month "13" is not within 1-12'),
        ("0 0 * foo *", 'the month "foo" is not known; names are JAN to DEC'),
        ("0 0 * * 8", 'the weekday "8" is not within 0-7'),
        ("0 0 0 * * 0", 'the weekday "0" is not within 1-7; after a field for seconds Sunday is 1, as in RRQ'),
        ("0 0 22-4 * *", 'the day "22-4" runs backwards'),
        ("0 */0 * * *", 'the hour "\\*/0" has a step of 0'),
        ("0 0 L * *", 'the day "L" is not known; only numbers are'),
        ("1-2-3 * * * *", 'the minute "1-2-3" can\'t be read'),
        ("1,,2 * * * *", 'the minute "" can\'t be read'),
        ("0 0 0 1 1 * 1969", 'the year "1969" is not within 1970-2100'),
        ("0 0 1-999999999999 * *", 'the day "999999999999" is not within 1-31'),
        ("0 0 31 2,4 *", "never comes: no month in 2,4 has a day 31"),
        ("0 0 30 2 1", None),
    ],
)
def test_what_is_wrong_is_said_with_the_field(text: str, said: str | None) -> None:
    if said is None:
        read_schedule(text)
        return
    with pytest.raises(ValueError, match=said):
        read_schedule(text)


def test_a_zone_that_is_none_is_refused() -> None:
    for name in ("Europe/Pariss", "", "../etc/passwd", "Europe"):
        with pytest.raises(ValueError, match="is no time zone"):
            read_zone(name)


def test_hours_that_the_clocks_skip_come_when_they_jump_and_those_they_repeat_come_once() -> None:
    assert ticks("30 2 * * *", "2026-03-28 12:00", 2, "Europe/Paris") == ["2026-03-29 01:00:00", "2026-03-30 00:30:00"]
    assert ticks("30 2 * * *", "2026-10-24 12:00", 2, "Europe/Paris") == ["2026-10-25 00:30:00", "2026-10-26 01:30:00"]
    assert ticks("0,30 2,3 * * *", "2026-03-29", 3, "Europe/Paris") == [
        "2026-03-29 01:00:00", "2026-03-29 01:30:00", "2026-03-30 00:00:00",
    ]  # fmt: skip


def test_an_open_hour_follows_elapsed_time() -> None:
    hours = [f"2026-10-2{day} {hour:02}:15:00" for day, hour in ((4, 23), (5, 0), (5, 1), (5, 2))]
    assert ticks("15 * * * *", "2026-10-24 23:00", 4, "Europe/Paris") == hours
    assert ticks("15 * * * *", "2026-03-29 00:00", 3, "Europe/Paris") == [
        "2026-03-29 00:15:00", "2026-03-29 01:15:00", "2026-03-29 02:15:00",
    ]  # fmt: skip
    # Every second hour of the day: 2:00 is skipped in spring, and there twice in autumn.
    assert ticks("0 */2 * * *", "2026-03-28 23:30", 1, "Europe/Paris") == ["2026-03-29 02:00:00"]
    assert ticks("0 */2 * * *", "2026-10-24 23:30", 2, "Europe/Paris") == ["2026-10-25 00:00:00", "2026-10-25 01:00:00"]


def test_there_is_an_end() -> None:
    assert read_schedule("0 0 0 1 1 * 2020").next(at("2026-01-01")) is None
    assert read_schedule("0 0 0 29 2 * 2027").next(at("2026-01-01")) is None
    assert read_schedule("0 0 0 1 1 * 2030").previous(at("2026-01-01")) is None


def test_the_moment_itself_is_no_tick_after_or_before_it() -> None:
    every = read_schedule("* * * * * *")
    assert every.next(at("2026-01-01 00:00:00")) == at("2026-01-01 00:00:01")
    assert every.next(at("2026-01-01 00:00:00.000001")) == at("2026-01-01 00:00:01")
    assert every.previous(at("2026-01-01 00:00:01")) == at("2026-01-01 00:00:00")
    assert every.previous(at("2026-01-01 00:00:00.000001")) == at("2026-01-01 00:00:00")
    other = datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    assert every.next(other) == at("2026-01-01 00:00:01")


# Against a count by hand.


def by_hand(schedule: Schedule, start: datetime, end: datetime) -> list[datetime]:
    """All ticks in (start, end], minute by minute."""

    def fits(wall: datetime) -> bool:
        date, weekday = wall.day in schedule.days, wall.isoweekday() in schedule.weekdays
        return (
            wall.minute in schedule.minutes
            and wall.hour in schedule.hours
            and wall.month in schedule.months
            and ((date or weekday) if schedule.either else (date and weekday))
        )

    found = []
    moment = start + MINUTE
    while moment <= end:
        wall, before = moment.astimezone(schedule.zone), (moment - MINUTE).astimezone(schedule.zone)
        hit = fits(wall) and (schedule.elapsed or not wall.fold)
        naive, expected = wall.replace(tzinfo=None), before.replace(tzinfo=None) + MINUTE
        while not schedule.elapsed and expected < naive and not hit:
            hit = fits(expected)
            expected += MINUTE
        if hit:
            found.append(moment)
        moment += MINUTE
    return found


def field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    spans = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    steps = st.integers(1, 12).map(lambda step: f"*/{step}")
    lists = st.lists(st.one_of(number.map(str), spans), min_size=1, max_size=3).map(",".join)
    return st.one_of(st.just("*"), steps, lists)


FIELDS = st.tuples(field(0, 59), field(0, 23), st.one_of(st.just("*"), field(1, 31)), st.just("*"), field(0, 7))


@settings(max_examples=30, deadline=None)
@given(fields=FIELDS, change=st.sampled_from(CHANGES), offset=st.integers(0, 1440))
def test_every_tick_of_three_days_is_the_one_counted_by_hand(
    fields: tuple[str, ...], change: tuple[str, datetime], offset: int
) -> None:
    schedule = read_schedule(" ".join(fields), read_zone(change[0]))
    start = change[1] + offset * MINUTE
    end = start + timedelta(days=2)
    expected = by_hand(schedule, start, end)

    forward = []
    tick = schedule.next(start)
    while tick is not None and tick <= end:
        forward.append(tick)
        tick = schedule.next(tick)
    assert forward == expected

    backward = []
    tick = schedule.previous(end + MINUTE)
    while tick is not None and tick > start:
        backward.append(tick)
        tick = schedule.previous(tick)
    assert backward[::-1] == expected


@settings(max_examples=30, deadline=None)
@given(
    text=st.sampled_from(["*/7 * * * * *", "0 30 2 * * *", "0 0 0 29 2 MON", "0 0 12 ? JAN-MAR 2-6", *WORDS]),
    change=st.sampled_from(CHANGES),
    seconds=st.integers(-40_000_000, 40_000_000),
    micro=st.integers(0, 999_999),
)
def test_forwards_and_backwards_are_one_line(text: str, change: tuple[str, datetime], seconds: int, micro: int) -> None:
    schedule = read_schedule(text, read_zone(change[0]))
    start = change[1] + timedelta(seconds=seconds, microseconds=micro)
    tick = schedule.next(start)

    assert tick is not None
    assert tick > start
    assert tick.microsecond == 0
    before = schedule.previous(tick)
    assert before is not None
    assert before <= start
    assert schedule.next(before) == tick
