"""What `rrqd top` shows in windows of every size, and what its keys do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rrqd.cli.output import columns_of
from rrqd.cli.top_screen import LEAST_HEIGHT, LEAST_WIDTH, TABS, Data, Screen, fit, lines, press, rows_of, span

QUEUE = {
    "queue": "mail", "due": 3, "scheduled": 1, "oldest_due_seconds": 75.0, "paused": False, "completed": 5, "failed": 1,
    "run_seconds": 0.25,
}  # fmt: skip
SLOT = {
    "slot": 0, "pid": 77, "phase": "ready", "generation": 1, "age_seconds": 90061.0, "running": 2, "pss_bytes": 2**21,
    "suspect": None, "worn": None,
}  # fmt: skip


def data(count: int = 3, **overview: Any) -> Data:
    jobs = [
        {"id": f"job-{n}", "function": "send", "queue": "mail", "seconds": 3.0, "left_seconds": None}
        for n in range(count)
    ]
    groups = [{"signature": "abc", "count": 7, "function": "send", "type": "OSError", "message": "no\x1b[31m line"}]
    totals = {"due": 1234, "running": 2}
    return Data(
        {"node": "vm-1", "totals": totals, "problems": [], **overview},
        {
            "queues": {"queues": [{**QUEUE, "queue": f"q{n}"} for n in range(count)]},
            "running": {"jobs": jobs},
            "failures": {"groups": groups},
            "workers": {"pools": [{"pool": "default", "slots": [SLOT, {**SLOT, "slot": 1, "suspect": "job-1"}]}]},
        },
    )


def texts(screen: Screen, shown: Data, width: int = 80, height: int = 24) -> list[str]:
    return [line.text for line in lines(screen, shown, width, height)]


def keys(screen: Screen, shown: Data, *pressed: str) -> Screen:
    for key in pressed:
        screen, wish = press(screen, key, shown)
        assert wish is None
    return screen


@given(
    width=st.integers(LEAST_WIDTH, 200),
    height=st.integers(LEAST_HEIGHT, 60),
    tab=st.sampled_from(TABS),
    count=st.integers(0, 300),
    selected=st.integers(0, 299),
    problems=st.integers(0, 5),
)
@settings(max_examples=150, deadline=None)
def test_it_fits_every_window_and_shows_what_is_selected(
    width: int, height: int, tab: str, count: int, selected: int, problems: int
) -> None:
    wrong = [{"what": "x" * 99, "what_to_do": "y"}] * problems
    shown = data(count, problems=wrong)
    selected = min(selected, max(0, len(rows_of(tab, shown)) - 1))
    drawn = lines(Screen(tab, selected), shown, width, height)
    assert len(drawn) == height
    assert all(columns_of(line.text) <= width for line in drawn)
    assert [line.style for line in drawn].count("selected") == (1 if rows_of(tab, shown) else 0)


def test_a_window_that_is_too_small_says_so() -> None:
    assert texts(Screen(), data(), LEAST_WIDTH - 1, 24) == ["the window is too small"]
    assert texts(Screen(), data(), 80, LEAST_HEIGHT - 1) == ["the window is too small"]
    assert texts(Screen(), data(), 5, 2) == ["the w"]


def test_each_tab_lists_its_things() -> None:
    assert any("q1" in text and "1m15s" in text for text in texts(Screen("queues"), data()))
    assert any("job-2" in text and "no limit" in text for text in texts(Screen("running"), data()))
    (failure,) = (text for text in texts(Screen("failures"), data()) if "OSError" in text)
    assert "\x1b" not in failure
    assert any("default/1" in text and "blocked by job-1" in text for text in texts(Screen("workers"), data()))
    assert texts(Screen("running"), data(0))[4] == "nothing"
    assert "due 1,234" in texts(Screen(), data())[1]


def test_what_is_wrong_stands_above() -> None:
    assert any(text.startswith("! the API is away") for text in texts(Screen(), Data(fault="the API is away")))
    many = texts(Screen(), data(problems=[{"what": f"p{n}", "what_to_do": "z"} for n in range(4)]))
    assert many[2] == "! p0: z"
    assert many[3].startswith("! 3 more problems")


def test_moving_stops_at_both_ends_and_another_tab_begins_at_its_top() -> None:
    shown = data(3)
    assert keys(Screen(), shown, "down", "j", "down", "down").selected == 2
    assert keys(Screen(selected=2), shown, "up", "k", "up").selected == 0
    assert keys(Screen(), shown, "end").selected == 2
    assert keys(Screen(selected=2), shown, "home").selected == 0
    assert keys(Screen(selected=2), shown, "\t") == Screen("running")
    assert keys(Screen(), shown, "left").tab == "workers"
    assert keys(Screen(), shown, "3").tab == "failures"
    assert keys(Screen(), shown, "q").over


@pytest.mark.parametrize(
    ("tab", "key", "action", "words"),
    [
        ("queues", "p", "queue.pause", {"queue": "q0"}),
        ("running", "c", "job.cancel", {"job": "job-0"}),
        ("failures", "r", "dlq.retry", {"signature": "abc", "confirm": 7}),
        ("workers", "R", "pool.restart", {"pool": "default", "slot": 0}),
    ],
)
def test_what_changes_something_asks_first(tab: str, key: str, action: str, words: dict[str, Any]) -> None:
    asking, none = press(Screen(tab), key, data())
    assert none is None
    assert texts(asking, data())[-1].endswith("? y/n")
    done, wish = press(asking, "y", data())
    assert wish is not None
    assert (wish.action, wish.words, done.asked) == (action, words, None)
    for other in ("n", "q", "\x1b", "down"):
        left, nothing = press(asking, other, data())
        assert (nothing, left.asked, left.said, left.over) == (None, None, "not done", False)


def test_a_key_on_nothing_does_nothing() -> None:
    for tab, key in (("queues", "p"), ("running", "c"), ("failures", "r"), ("workers", "R"), ("queues", "x")):
        assert press(Screen(tab), key, Data()) == (Screen(tab), None)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0.0123, "12ms"), (5.4, "5s"), (75, "1m15s"), (3661, "1h1m"), (90061, "1d1h"), (60, "1m0s")],
)
def test_spans_are_short(seconds: float | None, text: str) -> None:
    assert span(seconds) == text


def test_wide_letters_count_for_two_columns() -> None:
    assert fit("日本語", 6) == "日本語"
    assert fit("日本語", 5) == "日本…"
