"""The timetable: names, ticks on time, and what becomes of missed ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rrqd.config.settings import Settings
from rrqd.model.cron import read_schedule
from rrqd.model.request import Defaults
from rrqd.model.timetable import COUNT_MOST, ON_TIME, Due, Entry, due, job_of, names_of, read_timetable

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


def entry(schedule: str = "* * * * *", **more: Any) -> Entry:
    fields: dict[str, Any] = {
        "name": "e", "function": "send", "schedule": read_schedule(schedule), "zone": "UTC", "options": {},
        "unique": False, "missed": "one", "missed_most": 3, "missed_within_seconds": 3600.0,
    }  # fmt: skip
    return Entry(**{**fields, **more})


def ago(minutes: float) -> datetime:
    return NOON - timedelta(minutes=minutes)


def test_a_tick_is_due_when_it_has_come_and_once() -> None:
    assert due(entry(), ago(0.5), NOON) == Due((NOON,), upto=NOON)
    assert due(entry(), ago(0.5), NOON - timedelta(microseconds=1)) == Due()
    assert due(entry(), NOON, NOON) == Due()


def test_ticks_a_few_seconds_late_are_on_time_whatever_the_policy() -> None:
    late = due(entry("* * * * * *", missed="skip"), NOON - timedelta(seconds=4), NOON)

    assert late.fire == tuple(NOON - timedelta(seconds=back) for back in (3, 2, 1, 0))
    assert (late.missed, late.left_out) == (0, 0)


@pytest.mark.parametrize(("missed", "fire", "left_out"), [("skip", [], 10), ("one", [0], 9), ("all", [2, 1, 0], 7)])
def test_missed_ticks_go_by_the_policy(missed: str, fire: list[int], left_out: int) -> None:
    now = NOON + timedelta(seconds=30)  # the last tick is half a minute old: none of them is on time

    what = due(entry(missed=missed), ago(10), now)

    assert what.fire == tuple(ago(minutes) for minutes in fire)
    assert (what.missed, what.left_out, what.upto) == (10, left_out, NOON)


def test_a_tick_on_time_stands_for_those_missed_before_it() -> None:
    what = due(entry(missed="one"), ago(3.5), NOON)

    assert (what.fire, what.missed, what.left_out) == ((NOON,), 3, 3)


def test_missed_ticks_are_made_up_within_a_time_only() -> None:
    now = NOON + timedelta(seconds=30)
    assert due(entry(missed="all", missed_within_seconds=90), ago(10), now).fire == (ago(1), NOON)
    assert due(entry(missed="one", missed_within_seconds=0), ago(10), now).fire == ()


def test_a_long_absence_is_not_counted_to_its_end() -> None:
    what = due(entry("* * * * * *", missed="all"), ago(60 * 24 * 365), NOON)

    assert what.missed == COUNT_MOST
    assert len(what.fire) == 6 + 3


def test_the_job_of_a_tick_is_the_same_on_every_node() -> None:
    nightly = entry(options={"queue_name": "mail", "params": {"n": 1}, "max_retries": 2}, unique=True)
    one, other = (job_of(nightly, Defaults(), NOON, node) for node in ("a", "b"))

    assert one.id == other.id == "cron:e:20261130T120000Z"
    assert (one.queue, one.params, one.max_retries) == ("mail", b'{"n":1}', 2)
    assert one.tick is not None
    assert (one.tick.at, one.tick.unique, one.tick.by) == (int(NOON.timestamp()), True, "a")
    by_hand = job_of(nightly, Defaults(), None, "me")
    assert by_hand.tick is not None
    assert (by_hand.tick.at, by_hand.id.startswith("cron:")) == (None, False)


def test_entries_without_a_name_are_called_like_their_function() -> None:
    given = [(None, "send"), ("send#2", "f"), (None, "send"), (None, "send"), ("x", "send")]

    assert list(names_of(given)) == ["send", "send#2", "send#3", "send#4", "x"]


def test_settings_give_the_timetable_also_to_the_children() -> None:
    jobs = [{"function_name": "f", "schedule": "@daily", "timezone": "Europe/Paris", "params": {"a": 1}}]
    jobs[0] |= {"tenant": "acme", "rate": "api:2/m"}
    table = read_timetable(Settings.model_validate({"rrq": {"cron_jobs": jobs}}))

    assert table["f"].options == {"params": {"a": 1}, "tenant": "acme", "rate": "api:2/m"}
    job = job_of(table["f"], Defaults(), None, "cli")
    assert (job.tenant, job.rate and job.rate.name) == ("acme", "api")
    assert table["f"].schedule.next(NOON) == datetime(2026, 11, 30, 23, tzinfo=UTC)
    assert table["f"].version == "@daily Europe/Paris"


# Nodes come and go: whoever looks deals with what has come since the last look of any of them.


@settings(max_examples=25, deadline=None)
@given(
    missed=st.sampled_from(["skip", "one", "all"]),
    looks=st.lists(st.floats(0.1, 400), min_size=1, max_size=6),
    schedule=st.sampled_from(["* * * * *", "*/7 * * * * *", "0,30 * * * * *", "*/3 * * * *"]),
)
def test_every_tick_is_dealt_with_once(missed: str, looks: list[float], schedule: str) -> None:
    line = entry(schedule, missed=missed, missed_most=1000, missed_within_seconds=1e6)
    last = now = NOON
    fired: list[datetime] = []
    left_out = 0
    for seconds in looks:
        now += timedelta(seconds=seconds)
        what = due(line, last, now)
        late = [tick for tick in what.fire if tick < now - ON_TIME]
        assert list(what.fire) == sorted(set(what.fire))
        assert what.missed == what.left_out + len(late)
        assert len(late) <= {"skip": 0, "one": 1}.get(missed, 1000)
        assert not (missed == "one" and what.missed and not what.fire)
        fired += what.fire
        left_out += what.left_out
        last = what.upto or last
        assert due(line, last, now) == Due()

    came = [tick for tick in islice(line.schedule.ticks(NOON), 3000) if tick <= now]
    assert set(fired) <= set(came)
    assert len(fired) == len(set(fired)) == len(came) - left_out
    if missed == "all":
        assert fired == came
