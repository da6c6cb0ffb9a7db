"""What `rrqd top` shows in windows of every size, and what its keys do."""

from __future__ import annotations

from dataclasses import replace
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
    groups = [
        {
            "signature": "abc",
            "count": 7,
            "function": "send",
            "type": "OSError",
            "message": "no\x1b[31m line",
            "jobs": ["a/b"],
        }
    ]
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


def test_on_eighty_columns_no_column_is_lost() -> None:
    jobs = [{"id": "e10fa143-1a7c-4465-8487-a2b0cafa01ad", "function": "resize_" * 9, "queue": "images",
             "seconds": 16.0, "left_seconds": 3584.0}]  # fmt: skip
    head, row = texts(Screen("running"), Data(views={"running": {"jobs": jobs}}))[3:5]
    assert head.split() == ["for", "left", "function", "queue", "job"]
    assert [cell.endswith("…") for cell in row.split()] == [False, False, True, False, True]
    assert row.split()[:2] == ["16s", "59m44s"]


JOB = {
    "id": "job-1", "status": "FAILED", "function": "send", "queue": "mail", "attempts": 3, "params": {"to": "x" * 90},
    "last_error": "no line\x07", "error": {"traceback": "Traceback:\n  File jobs.py, line 7"}, "why": [], "log": [],
}  # fmt: skip


def test_enter_shows_a_thing_and_escape_leads_back() -> None:
    shown = data()
    assert keys(Screen("queues"), shown, "down", "\n").about == "queues/q1"
    assert keys(Screen("failures"), shown, "\n").about == "jobs/a%2Fb"
    assert keys(Screen("workers"), shown, "\n").about == ""
    screen = keys(Screen("running"), shown, "down", "\n")
    assert screen.about == "jobs/job-1"
    assert texts(screen, shown)[3] == "…"
    shown.views[screen.about] = JOB
    drawn = texts(screen, shown, 60)
    assert len(drawn) == 24
    assert max(map(columns_of, drawn)) == 60
    assert "function        send" in drawn
    assert {"no line\\x07", "  File jobs.py, line 7"} <= set(drawn)
    assert texts(keys(screen, shown, "down", "down", "up"), shown, 60)[3] == drawn[4]
    back = keys(screen, shown, "\x1b")
    assert (back.about, back.selected) == ("", 1)
    asking, _ = press(screen, "r", shown)
    _, wish = press(asking, "y", shown)
    assert wish is not None
    assert (wish.action, wish.words) == ("job.retry", {"job": "job-1"})


def test_a_queue_is_shown_with_what_waits_in_it() -> None:
    row = {"id": "job-9", "function": "send", "status": "PENDING", "enqueued": "2026-01-31T12:00:00+00:00"}
    view = {"queue": {**QUEUE, "read_here": False}, "jobs": [row], "total": 70, "next": 50}
    drawn = texts(Screen(about="queues/mail"), Data(views={"queues/mail": view}))
    assert "queue mail: 3 due, 1 scheduled; no pool here reads it" in drawn
    assert "job-9  send  PENDING  2026-01-31 12:00:00" in drawn
    assert "… of 70" in drawn


def test_how_much_is_done_stands_above() -> None:
    assert texts(Screen(), replace(data(), pace=(12.34, 0.5)))[0] == "rrqd top · vm-1 · 12.3 runs/s, 0.5 failures/s"


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
