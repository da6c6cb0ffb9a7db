"""What follows from the end of a run: decided by outcome, policy, attempt and dice alone."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrqd.model.lifecycle import End
from rrqd.model.verdict import (
    AskedRetry,
    Failed,
    Outcome,
    RunPolicy,
    Snoozed,
    Succeeded,
    TimedOut,
    Verdict,
    WasCancelled,
    backoff_seconds,
    judge,
)

MIDDLE = 0.5  # these dice leave the back-off as it is
DICE = st.floats(0, 1, exclude_max=True)
SECONDS = st.floats(0, 1e6, allow_nan=False)


def policy(**rules: Any) -> RunPolicy:
    """Rules with good defaults: three attempts, back-off from 2 s to 60 s, no jitter."""
    usual: dict[str, Any] = {
        "max_retries": 3, "retry_delay_seconds": 2.0, "max_retry_delay_seconds": 60.0, "retry_jitter": 0.0,
        "on_timeout": "retry", "result_ttl_seconds": 100, "dlq_retention_seconds": 200,
        "cancelled_retention_seconds": 300,
    }  # fmt: skip
    return RunPolicy(**{**usual, **rules})


def judged(outcome: Outcome, attempt: int = 1, dice: float = MIDDLE, **rules: Any) -> Verdict:
    return judge(outcome, policy(**rules), attempt, dice)


def test_a_success_completes_with_its_result_and_its_time_to_live() -> None:
    verdict = judged(Succeeded(b'{"x":1}'), result_ttl_seconds=7)

    assert (verdict.end, verdict.result, verdict.ttl_seconds, verdict.label) == (End.COMPLETE, b'{"x":1}', 7, "success")


@pytest.mark.parametrize("ttl_seconds", [0, -1])
def test_a_time_to_live_of_zero_or_less_is_passed_on_as_it_is(ttl_seconds: int) -> None:
    assert judged(Succeeded(b"1"), result_ttl_seconds=ttl_seconds).ttl_seconds == ttl_seconds


def test_a_failure_is_retried_until_its_attempts_are_used_up() -> None:
    ends = [judged(Failed(message="x"), attempt).end for attempt in (1, 2, 3, 4)]

    assert ends == [End.RETRY, End.RETRY, End.BURY, End.BURY]


@pytest.mark.parametrize("max_retries", [1, 0, -1])
def test_one_none_and_fewer_retries_all_mean_one_attempt(max_retries: int) -> None:
    for outcome in (Failed(message="x"), TimedOut("x"), AskedRetry("x", 1.0)):
        assert judged(outcome, 1, max_retries=max_retries).end is End.BURY


def test_what_is_fatal_is_buried_at_once() -> None:
    verdict = judged(Failed(message="No handler", type="handler_not_found", fatal=True))

    assert (verdict.end, verdict.error, verdict.ttl_seconds, verdict.label) == (End.BURY, "No handler", 200, "fatal")


def test_a_timeout_is_retried_or_buried_as_the_policy_says() -> None:
    retried = judged(TimedOut("slow"), on_timeout="retry")
    buried = judged(TimedOut("slow"), on_timeout="bury")

    assert (retried.end, retried.delay_ms, retried.label) == (End.RETRY, 2000, "timeout")
    assert (buried.end, buried.ttl_seconds, buried.label) == (End.BURY, 200, "timeout")


def test_a_retry_that_was_asked_for_comes_when_it_was_asked_for() -> None:
    assert judged(AskedRetry("later", 12.5)).delay_ms == 12_500
    assert judged(AskedRetry("later", 0.0)).delay_ms == 0
    assert judged(AskedRetry("later", None), attempt=2).delay_ms == 4000
    assert judged(AskedRetry("later", 12.5), attempt=3).end is End.BURY


def test_a_snooze_waits_and_is_never_the_last() -> None:
    for attempt in (1, 3, 99):
        verdict = judged(Snoozed("not yet", 1.5), attempt)
        assert (verdict.end, verdict.delay_ms, verdict.detail) == (End.SNOOZE, 1500, b"")


def test_a_delay_in_the_past_is_none() -> None:
    assert judged(Snoozed("not yet", -5)).delay_ms == 0
    assert judged(AskedRetry("later", -5)).delay_ms == 0


@pytest.mark.parametrize("seconds", [1e300, math.inf])
def test_no_delay_is_longer_than_ten_years(seconds: float) -> None:
    ten_years_ms = 10 * 365 * 86_400 * 1000

    assert judged(Snoozed("not yet", seconds)).delay_ms == ten_years_ms
    assert judged(AskedRetry("later", seconds)).delay_ms == ten_years_ms
    slow = judged(Failed(message="x"), retry_delay_seconds=seconds, max_retry_delay_seconds=seconds)
    assert slow.delay_ms == ten_years_ms


def test_a_cancelled_run_keeps_its_record_for_a_while() -> None:
    verdict = judged(WasCancelled())

    assert (verdict.end, verdict.ttl_seconds, verdict.error) == (End.CANCEL, 300, "Job cancelled while running.")


def test_the_detail_tells_a_person_what_happened() -> None:
    fault = Failed(message="boom", type="ValueError", traceback="Traceback …", details=b'{"row":7}')

    assert msgspec.json.decode(judged(fault, attempt=2).detail) == {
        "type": "ValueError", "message": "boom", "attempt": 2, "traceback": "Traceback …", "details": {"row": 7},
    }  # fmt: skip


def test_the_back_off_doubles_up_to_its_ceiling() -> None:
    waits = [backoff_seconds(made, policy(), MIDDLE) for made in range(1, 9)]

    assert waits == [2, 4, 8, 16, 32, 60, 60, 60]


def test_the_dice_spread_the_back_off_to_both_sides() -> None:
    rules = policy(retry_jitter=0.25)

    assert backoff_seconds(2, rules, 0.0) == pytest.approx(3.0)
    assert backoff_seconds(2, rules, MIDDLE) == pytest.approx(4.0)
    assert backoff_seconds(2, rules, math.nextafter(1.0, 0.0)) == pytest.approx(5.0)


@given(made=st.integers(-5, 10**9), base=SECONDS, ceiling=SECONDS, jitter=st.floats(0, 1), dice=DICE)
def test_a_back_off_is_finite_and_never_above_its_ceiling(
    made: int, base: float, ceiling: float, jitter: float, dice: float
) -> None:
    rules = policy(retry_delay_seconds=base, max_retry_delay_seconds=ceiling, retry_jitter=jitter)
    plain = backoff_seconds(made, policy(retry_delay_seconds=base, max_retry_delay_seconds=ceiling), MIDDLE)

    wait = backoff_seconds(made, rules, dice)

    assert 0 <= wait <= ceiling
    slack = 1e-9 * (1 + plain)
    assert plain * (1 - jitter) - slack <= wait <= plain * (1 + jitter) + slack


@given(attempt=st.integers(1, 100), max_retries=st.integers(-3, 100), dice=DICE, asked=st.none() | SECONDS)
def test_only_whoever_has_attempts_left_comes_back(
    attempt: int, max_retries: int, dice: float, asked: float | None
) -> None:
    for outcome in (Failed(message="x"), TimedOut("x"), AskedRetry("x", asked)):
        verdict = judged(outcome, attempt, dice, max_retries=max_retries, retry_jitter=0.2)
        assert (verdict.end is End.RETRY) == (attempt < max_retries)
        assert verdict.delay_ms >= 0
