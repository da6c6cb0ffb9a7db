"""What the benchmarks write down: medians, goals, tables, JSON."""

from __future__ import annotations

import json

import pytest

from bench.sheet import Figure, Sheet, percentile, short, table


@pytest.mark.parametrize(("goal", "met"), [("", None), (">= 6", True), (">= 7", False), ("< 6", False), ("<= 6", True)])
def test_the_median_is_held_against_the_goal(goal: str, met: bool | None) -> None:
    assert Figure("drain", "ratio", "times", goal, [1.0, 6.0, 9.0]).met is met


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 50), (0.9, 90), (0.99, 99), (1.0, 100)])
def test_a_percentile_is_a_value_that_was_measured(share: float, value: int) -> None:
    assert percentile(range(100, 0, -1), share) == value


def test_the_percentiles_of_one_value_are_that_value() -> None:
    assert [percentile([7.0], share) for share in (0.0, 0.5, 0.99)] == [7.0, 7.0, 7.0]


def test_numbers_are_short_whatever_their_size() -> None:
    assert [short(number) for number in (0.02, 1.654, 12.34, 12573.8)] == ["0.020", "1.65", "12.3", "12,574"]


def test_repeats_of_a_figure_become_one_row_and_json_keeps_them_all() -> None:
    sheet = Sheet({"python": "3.11"})
    for value in (2.0, 1.0, 4.0):
        sheet.add("latency", "rrqd, p50", "ms", value, "< 3")
    sheet.note("noisy")
    sheet.note("noisy")

    lines = table(sheet.figures()).splitlines()
    body = json.loads(sheet.as_json())

    assert len(lines) == 2
    assert lines[1].split() == ["latency", "rrqd,", "p50", "(ms)", "2.00", "1.00", "…", "4.00", "<", "3", "met"]
    assert body["figures"][0]["values"] == [2.0, 1.0, 4.0]
    assert (body["figures"][0]["median"], body["figures"][0]["met"], body["notes"]) == (2.0, True, ["noisy"])
