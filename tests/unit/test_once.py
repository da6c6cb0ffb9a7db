"""Unique, rate limit, debounce: what a request may say, and what becomes of it."""

from __future__ import annotations

from typing import Any

import pytest

from rrqd.exc import InvalidRequest
from rrqd.model.checks import MAX_SECONDS
from rrqd.model.job import Once, Until
from rrqd.model.request import Defaults, new_job

RATE = {"rate_limit_key": "user-1", "rate_limit_seconds": 2.1}
BURST = {"debounce_key": "doc-1", "debounce_seconds": 2.0001}


def read(**options: Any) -> Once:
    return new_job("send", options, Defaults()).once


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rate_limit_key": "k"}, "^rate_limit_seconds is required$"),
        ({"rate_limit_seconds": 1}, "^rate_limit_key is required$"),
        ({"debounce_key": "k"}, "^debounce_seconds is required$"),
        ({"debounce_seconds": 1}, "^debounce_key is required$"),
        ({**RATE, **BURST}, "^rate_limit_key and debounce_key are mutually exclusive$"),
        ({**RATE, "rate_limit_key": " "}, "^rate_limit_key cannot be blank$"),
        ({**RATE, "rate_limit_key": "rrq:rate_limit:"}, "^rate_limit_key cannot be just 'rrq:rate_limit:'$"),
        ({**RATE, "rate_limit_seconds": 0}, "^rate_limit_seconds must be positive$"),
        ({**RATE, "rate_limit_seconds": float("nan")}, "^rate_limit_seconds must be a number"),
        ({**BURST, "debounce_seconds": -1}, "^debounce_seconds must be a number >= 0"),
        ({**BURST, "debounce_seconds": MAX_SECONDS + 1}, "^debounce_seconds must be at most"),
        ({**RATE, "unique_until": "started"}, "^unique_until has no meaning beside rate_limit_key"),
        ({"unique_until": "started"}, "^unique_key is required with unique_until$"),
        ({"unique_key": "k", "unique_until": "soon"}, "^unique_until must be one of 'enqueued-ttl', 'started'"),
        ({"unique_key": "k", "unique_ttl_seconds": MAX_SECONDS + 1}, "^unique_ttl_seconds must be positive, and at"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        read(**options)


def test_windows_are_whole_seconds_to_the_server_and_milliseconds_to_the_schedule() -> None:
    assert read(**RATE) == Once(rate_limit_key="user-1", window_seconds=3)
    assert read(**BURST) == Once(debounce_key="doc-1", window_seconds=3, debounce_ms=2001)


def test_a_key_may_carry_its_prefix() -> None:
    assert read(rate_limit_key="rrq:rate_limit:k", rate_limit_seconds=1).rate_limit_key == "k"
    assert read(debounce_key="rrq:debounce:k", debounce_seconds=1).debounce_key == "k"


def test_a_debounced_job_is_due_a_window_after_its_request_whatever_else_it_asks_for() -> None:
    job = new_job("send", {**BURST, "defer_by_seconds": 900}, Defaults())
    told = new_job("send", {**BURST, "enqueue_time": "2030-01-01T00:00:00Z"}, Defaults())

    assert (job.due_ms, job.delay_ms) == (None, 2001)
    assert told.due_ms == 1_893_456_000_000 + 2001


def test_a_unique_key_beside_a_window_is_left_out_as_rrq_does() -> None:
    assert read(**RATE, unique_key="k").unique_key is None


def test_a_key_that_the_job_itself_frees_has_no_end_of_its_own_unless_asked_for() -> None:
    assert read(unique_key="k", unique_until="finished") == Once(unique_key="k", unique_until=Until.FINISHED)
    assert read(unique_key="k", unique_until="started", unique_ttl_seconds=9).unique_ttl_seconds == 9
    assert read(unique_key="k", unique_until="enqueued-ttl").unique_ttl_seconds == 21_600
