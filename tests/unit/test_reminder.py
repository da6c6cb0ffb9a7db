"""A trouble that lasts is told at once, and then ever more seldom."""

from __future__ import annotations

from itertools import pairwise

from rrqd.reminder import CEILING_SECONDS, Reminder


def told(reminder: Reminder, seconds: float, words: str = "away") -> list[float]:
    """When it is told, asked each second from 1000 on."""
    return [at - 1000 for at in (1000 + float(n) for n in range(int(seconds))) if reminder.due(at, words)]


def test_the_pauses_double_up_to_ten_minutes() -> None:
    times = told(Reminder(), 4000)

    assert times[:4] == [0, 30, 90, 210]
    assert {later - sooner for sooner, later in pairwise(times[5:])} == {CEILING_SECONDS}


def test_other_words_are_told_at_once_but_not_without_end() -> None:
    reminder = Reminder()

    assert [reminder.due(1000.0 + n, f"attempt {n}") for n in range(8)] == [True] * 4 + [False] * 4


def test_the_next_trouble_is_told_at_once() -> None:
    reminder = Reminder()
    told(reminder, 100)
    assert reminder.lasting(1100.0) == 100.0

    reminder.over()

    assert reminder.lasting(1100.0) == 0.0
    assert reminder.due(1101.0, "away")
