"""Figures: buckets that lose nothing, spreads that add up whatever the order."""

from __future__ import annotations

import math
import statistics

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrqd import clock
from rrqd.model.figures import DayFigures, Spread, Tallied, bucket_of, lower_bound_seconds
from rrqd.model.joblog import MAX_MESSAGE_CHARACTERS, LogLine, write_line
from rrqd.model.lifecycle import End

TIMES = st.floats(min_value=0, max_value=700_000)


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [
        (0.0, "ms0"), (0.000999, "ms0"), (0.001, "ms1"), (0.0049, "ms2"), (0.005, "ms5"), (0.4999, "ms200"),
        (0.5, "ms500"), (0.9999, "ms500"), (1.0, "s1"), (59.99, "s59"), (60, "m1"), (3599.9, "m59"), (3600, "h1"),
        (86_399, "h23"), (86_400, "d1"), (7 * 86_400, "d7"),
    ],
)  # fmt: skip
def test_a_duration_has_its_bucket(seconds: float, bucket: str) -> None:
    assert bucket_of(seconds) == bucket


@given(TIMES)
def test_a_bucket_begins_at_or_before_what_is_in_it(seconds: float) -> None:
    assert lower_bound_seconds(bucket_of(seconds)) <= seconds


@given(st.lists(TIMES, min_size=2))
def test_a_spread_is_what_statistics_says(times: list[float]) -> None:
    spread = Spread()
    for seconds in times:
        spread.add(seconds)
    assert spread.count == len(times) == sum(spread.buckets.values())
    assert math.isclose(spread.mean, statistics.fmean(times), rel_tol=1e-9, abs_tol=1e-9)
    sd = math.sqrt(max(0.0, spread.squares) / (len(times) - 1))
    assert math.isclose(sd, statistics.stdev(times), rel_tol=1e-6, abs_tol=1e-4)


def test_only_completed_runs_count_for_how_long_running_takes() -> None:
    tallied = Tallied()
    tallied.add(End.COMPLETE, 1.0, 2.0)
    tallied.add(End.BURY, 3.0, 50.0)
    assert (tallied.counts, tallied.wait.count, tallied.run.count, tallied.run.mean) == (
        {"completed": 1, "buried": 1}, 2, 1, 2.0,
    )  # fmt: skip


def test_a_day_on_which_nothing_ran_is_empty() -> None:
    day = DayFigures.read("2026-01-31", {}, queue="mail")
    assert (day.completed, day.wait.count, day.wait.sd_seconds, day.run.histogram) == (0, 0, 0.0, {})


def test_a_line_keeps_what_fits_and_says_what_does_not() -> None:
    line = LogLine.read(write_line(clock.wall(), 3, "x" * 5000, {"n": 1, "set": {1}, "odd": object, "big": "y" * 5000}))
    assert (line.attempt, len(line.message)) == (3, MAX_MESSAGE_CHARACTERS)
    assert line.fields["n"] == 1
    assert line.fields["set"] == [1]
    assert "object" in line.fields["odd"]
    assert line.fields["left_out"] == 1
    assert LogLine.read(b"\xff").message == "\ufffd"
    assert msgspec.json.decode(write_line(clock.wall(), 1, "\ud800", {}))["message"] == "?"
