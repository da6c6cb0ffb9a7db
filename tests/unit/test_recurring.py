"""Which jobs of a recurring template are due: nominal times, nothing twice, nothing drifting."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrqd.exc import InvalidRequest
from rrqd.model.recurring import MOST_AT_ONCE, Recurring, check, due, interval_ms, jobs_of
from rrqd.model.request import Defaults


def template(**fields: Any) -> Recurring:
    return Recurring(**{"id": "r", "function": "f", "options": {}, "interval_ms": 60_000, "next_ms": 0.0, **fields})


def test_before_its_time_nothing_is_due() -> None:
    assert due(template(next_ms=100.0), 99.9).times_ms == []


def test_missed_times_are_made_up_each_at_its_own() -> None:
    turn = due(template(), 185_000)
    assert (turn.times_ms, turn.left_out, turn.next_ms) == ([0, 60_000, 120_000, 180_000], 0, 240_000)


def test_with_a_backlog_only_the_last_so_many() -> None:
    turn = due(template(backlog=2), 1_000_000)
    assert (turn.times_ms, turn.left_out, turn.next_ms) == ([900_000, 960_000], 15, 1_020_000)


def test_very_many_are_made_in_steps() -> None:
    turn = due(template(interval_ms=1), 1_000_000)
    assert (len(turn.times_ms), turn.next_ms) == (MOST_AT_ONCE, MOST_AT_ONCE)


@given(st.floats(0, 1e12), st.floats(0, 1e12), st.integers(10, 10**9), st.integers(0, 50))
def test_times_follow_each_other_at_the_interval(next_ms: float, now_ms: float, every: int, backlog: int) -> None:
    turn = due(template(next_ms=next_ms, interval_ms=every, backlog=backlog), now_ms)
    assert all(at <= now_ms for at in turn.times_ms)
    assert turn.next_ms > now_ms or len(turn.times_ms) == MOST_AT_ONCE
    assert not backlog or len(turn.times_ms) <= backlog
    steps = [*turn.times_ms, turn.next_ms]
    assert all(abs(b - a - every) < 0.01 for a, b in itertools.pairwise(steps))


def test_a_job_has_its_number_its_time_and_its_templates_options() -> None:
    one = template(options={"queue_name": "mail", "tags": ["x"]}, count=7)
    (job,) = jobs_of(one, due(one, 10), Defaults(), "node")
    assert (job.id, job.queue, job.tags, job.due_ms, job.notes) == ("r-8", "mail", ("x",), 0, {"rrqd_recurring": "r"})
    assert job.tick is not None
    assert (job.tick.name, job.tick.at) == ("recurring:r", 8)


@pytest.mark.parametrize("options", [{"job_id": "x"}, {"unique_key": "x"}, {"defer_by_seconds": 1}, {"priority": "x"}])
def test_what_is_of_one_job_only_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        check("f", options, Defaults())


@pytest.mark.parametrize("seconds", [0, -1, 0.001, "x", float("nan"), True])
def test_an_interval_is_a_time(seconds: Any) -> None:
    with pytest.raises(InvalidRequest, match="every_seconds"):
        interval_ms(seconds)
