"""Whatever a handler returns or raises becomes one outcome, within limits, that can be judged and stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from rrqd.exc import RetryJob, SnoozeJob
from rrqd.model.policy import RunPolicy
from rrqd.model.verdict import AskedRetry, Failed, Outcome, Snoozed, Succeeded, TimedOut, judge
from rrqd.runner import ExecutionError, ExecutionOutcome
from rrqd.runtime.outcomes import capped, from_exception, from_value

RESULT_BYTES = 100
ERROR_BYTES = 256
POLICY = RunPolicy(
    max_retries=3, retry_delay_seconds=1.0, max_retry_delay_seconds=9.0, retry_jitter=0.0, on_timeout="retry",
    result_ttl_seconds=1, dlq_retention_seconds=1, cancelled_retention_seconds=1,
)  # fmt: skip


def returned(value: Any) -> Outcome:
    return from_value(value, RESULT_BYTES, ERROR_BYTES)


def raised(fault: BaseException) -> Outcome:
    return from_exception(fault, ERROR_BYTES)


def said(status: Any, **fields: Any) -> Outcome:
    """What comes of a handler's own ExecutionOutcome."""
    return returned(ExecutionOutcome(status=status, **fields))


def failed(outcome: Outcome) -> Failed:
    assert isinstance(outcome, Failed)
    return outcome


class Colour(Enum):
    RED = "red"


class Model(BaseModel):
    name: str


@dataclass
class Point:
    x: int


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class Stubborn:
    def model_dump(self, mode: str) -> Any:
        raise ConnectionError(f"no database for {mode}")


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (None, b"null"),
        (0, b"0"),
        ("ü", '"ü"'.encode()),
        ({"a": [1, 2.5, None]}, b'{"a":[1,2.5,null]}'),
        ((1, 2), b"[1,2]"),
        (Point(3), b'{"x":3}'),
        (Model(name="n"), b'{"name":"n"}'),
        (Colour.RED, b'"red"'),
        (2**70, b"1180591620717411303424"),
    ],
)
def test_an_answer_is_stored_as_json(value: Any, encoded: bytes) -> None:
    assert returned(value) == Succeeded(encoded)


@pytest.mark.parametrize(
    "value", [float("nan"), [float("inf")], {"a": {"b": float("-inf")}}, object(), "\ud800", {"\ud800": 1}]
)
def test_an_answer_that_is_no_json_fails_the_job(value: Any) -> None:
    outcome = failed(returned(value))

    assert outcome.type == "ResultNotSerializable"
    assert outcome.message.startswith("The result cannot be stored as JSON: ")


def test_an_object_that_fails_to_write_itself_fails_its_own_job_only() -> None:
    assert "no database for json" in failed(returned(Stubborn())).message


def test_an_answer_that_holds_itself_is_refused() -> None:
    ring: list[Any] = []
    ring.append(ring)
    outcome = ExecutionOutcome(status="success")
    outcome.result = outcome

    assert failed(returned(ring)).type == "ResultNotSerializable"
    assert failed(returned(outcome)).type == "ResultNotSerializable"


def test_an_answer_may_be_as_long_as_the_limit_and_no_longer() -> None:
    assert isinstance(returned("x" * (RESULT_BYTES - 2)), Succeeded)
    assert failed(returned("x" * (RESULT_BYTES - 1))).message == (
        "The result is 101 bytes of JSON; max_result_bytes is 100."
    )


def test_an_exception_keeps_its_type_its_text_and_where_it_came_from() -> None:
    try:
        {}["missing"]
    except KeyError as fault:
        outcome = failed(raised(fault))

    assert (outcome.type, outcome.message, outcome.fatal) == ("KeyError", "'missing'", False)
    assert "test_outcomes.py" in (outcome.traceback or "")


def test_an_exception_without_a_text_is_called_by_its_name() -> None:
    assert failed(raised(ValueError())).message == "ValueError"
    assert failed(raised(Mute())).message == "Mute (its text cannot be read)"
    assert failed(raised(SystemExit(3))).message == "3"


def test_a_long_text_keeps_its_head_and_its_tail() -> None:
    outcome = failed(raised(ValueError("head" + "-" * 10_000 + "tail")))

    assert outcome.message.startswith("head---")
    assert outcome.message.endswith("---tail")
    assert "bytes left out" in outcome.message
    assert len(outcome.message.encode()) <= ERROR_BYTES
    assert len((outcome.traceback or "").encode()) <= ERROR_BYTES


@given(text=st.text(st.characters(codec=None)), limit=st.integers(64, 400))
def test_a_capped_text_fits_and_can_be_written_down(text: str, limit: int) -> None:
    assert len(capped(text * 7, limit).encode()) <= limit


def test_a_wish_of_the_handler_is_no_failure() -> None:
    assert raised(RetryJob("again", 2.5)) == AskedRetry("again", 2.5)
    assert raised(RetryJob()) == AskedRetry("Job requested retry", None)
    assert raised(SnoozeJob(5)) == Snoozed("Job snoozed", 5)


@pytest.mark.parametrize("asked", ["soon", float("inf"), float("nan"), timedelta(seconds=3), 10**400, object()])
def test_a_wish_for_a_time_that_is_none_is_a_failure_that_says_so(asked: Any) -> None:
    for outcome in (
        raised(RetryJob("again", asked)),
        raised(SnoozeJob(asked)),
        said("retry", retry_after_seconds=asked),
    ):
        assert failed(outcome).type == "InvalidDelay"
        assert failed(outcome).message.endswith("which is no number of seconds)")


def test_an_outcome_of_the_handlers_own_is_taken_at_its_word() -> None:
    error = ExecutionError(message="no such user", type="LookupError", details={"id": 7})

    assert said("success", result=[1]) == Succeeded(b"[1]")
    assert said("retry", retry_after_seconds=3) == AskedRetry("Job requested retry", 3)
    assert said("retry", error=error) == AskedRetry("no such user", None)
    assert said("timeout", error=error) == TimedOut("no such user")
    assert said("error", error=error) == Failed(message="no such user", type="LookupError", details=b'{"id":7}')
    assert said("error") == Failed(message="Job failed")


def test_a_handler_that_is_not_there_is_fatal() -> None:
    error = ExecutionError(message="No handler registered for 'x'", type="handler_not_found")

    assert failed(said("error", error=error)).fatal


def test_details_that_are_no_json_are_left_out() -> None:
    assert failed(said("error", error=ExecutionError(message="x", details=object()))).details is None


@pytest.mark.parametrize("error", ["plain text", ExecutionError(message=ValueError("an object")), ValueError("itself")])  # type: ignore[arg-type]
def test_an_error_of_a_wrong_kind_is_read_as_well_as_can_be(error: Any) -> None:
    assert failed(said("error", error=error)).message in ("plain text", "an object", "itself")


WILD: tuple[Any, ...] = (
    "\ud800", "x" * 5000, 5, object(), ValueError("\ud800"), ["x" * 5000], b"\xff", float("nan"), Mute(), Stubborn(),
)  # fmt: skip


@pytest.mark.parametrize("wild", WILD, ids=range(len(WILD)))
def test_every_outcome_can_be_judged_and_written_down(wild: Any) -> None:
    error = ExecutionError(message=wild, type=wild, details=wild)
    outcomes = [raised(ValueError(wild)), raised(RetryJob(wild, wild)), raised(SnoozeJob(wild, wild)), returned(wild)]
    for status in ("success", "retry", "timeout", "error", wild):
        outcomes.append(said(status, error=error, retry_after_seconds=wild, result=wild))
    for outcome in outcomes:
        verdict = judge(outcome, POLICY, 1, 0.5)
        assert len(verdict.error.encode()) <= ERROR_BYTES
        assert msgspec.json.decode(verdict.detail or b"{}") is not None
        assert verdict.delay_ms >= 0


def test_a_nan_inside_an_object_is_refused_like_a_plain_one() -> None:
    @dataclass
    class Reading:
        value: float

    nan = float("nan")
    for value in (Reading(nan), [Reading(float("inf"))], {"a": Reading(nan)}):
        outcome = returned(value)
        assert isinstance(outcome, Failed)
        assert outcome.type == "ResultNotSerializable"
    assert returned(Reading(1.5)) == Succeeded(b'{"value":1.5}')
