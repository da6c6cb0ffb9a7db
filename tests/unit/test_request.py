"""A request becomes a job, or one line that names the option and what is allowed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrqd import clock
from rrqd.exc import InvalidRequest
from rrqd.model.checks import MAX_SECONDS
from rrqd.model.job import NOTHING, NewJob
from rrqd.model.request import OPTIONS, Defaults, new_job

NEVER_TYPED = "\ud800"  # half of a pair: text that cannot be written down
MOMENT = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def asked(function: Any = "send", defaults: Defaults | None = None, **options: Any) -> NewJob:
    return new_job(function, options, defaults or Defaults())


def refused(message: str, function: Any = "send", **options: Any) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        asked(function, **options)
    assert "\n" not in str(caught.value)


def test_a_bare_request_writes_only_what_was_asked_for() -> None:
    job = new_job("send", None, Defaults())

    assert (job.function, job.queue, job.params) == ("send", "default", b"{}")
    assert (job.due_ms, job.delay_ms, job.enqueue_time) == (None, 0, None)
    assert (job.max_retries, job.timeout_seconds, job.result_ttl_seconds) == (None, None, None)
    assert (job.trace_context, job.correlation_context, job.once, job.policy) == (None, None, NOTHING, None)
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", job.id)


def test_every_option_may_be_left_open_with_none() -> None:
    job = asked(**dict.fromkeys(OPTIONS))

    assert (job.queue, job.params, job.delay_ms) == ("default", b"{}", 0)


def test_the_defaults_of_the_client_fill_in_what_is_left_open() -> None:
    own = Defaults(queue="mail", max_retries=2, timeout_seconds=9, result_ttl_seconds=8, unique_ttl_seconds=7)
    job = asked(defaults=own)
    other = asked(defaults=own, queue_name="fast", max_retries=3, job_timeout_seconds=4, result_ttl_seconds=5)

    assert (job.queue, job.max_retries, job.timeout_seconds, job.result_ttl_seconds) == ("mail", 2, 9, 8)
    assert (other.queue, other.max_retries, other.timeout_seconds, other.result_ttl_seconds) == ("fast", 3, 4, 5)


@pytest.mark.parametrize(
    ("given_name", "hint"),
    [("job_timout_seconds", "job_timeout_seconds"), ("queue", "queue_name"), ("defer_untill", "defer_until")],
)
def test_an_unknown_option_is_refused_with_the_nearest_name(given_name: str, hint: str) -> None:
    refused(f"^unknown option '{given_name}'; did you mean '{hint}'\\?$", **{given_name: 1})


def test_an_option_like_no_other_is_refused_without_a_guess() -> None:
    refused("^unknown option 'zzz'$", zzz=1)
    with pytest.raises(InvalidRequest, match=r"^unknown option 7$"):
        new_job("send", {7: 1}, Defaults())  # type: ignore[dict-item]


@pytest.mark.parametrize("option", ["job_id", "unique_key", "queue_name"])
def test_names_are_text_that_can_be_read_aloud(option: str) -> None:
    refused(f"{option} cannot be blank", **{option: ""})
    refused(f"{option} cannot be blank", **{option: " \t"})
    refused(f"{option} must be text, not int", **{option: 0})
    refused(f"{option} has characters that cannot be printed", **{option: "a\nb"})
    refused(f"{option} has characters that cannot be printed", **{option: NEVER_TYPED})
    refused(f"{option} is longer than 512 bytes", **{option: "ü" * 257})
    asked(**{option: "ü" * 256})


@pytest.mark.parametrize("function", ["", "  ", None, 5, "a\0b", "x" * 513])
def test_a_functions_name_keeps_the_same_rules(function: Any) -> None:
    refused("^function_name ", function)


def test_a_queue_is_the_same_with_and_without_its_prefix() -> None:
    assert asked(queue_name="rrq:queue:mail").queue == asked(queue_name="mail").queue == "mail"
    refused("queue_name cannot be just 'rrq:queue:'", queue_name="rrq:queue:")
    refused("queue_name cannot be just 'rrq:queue:'", queue_name="rrq:queue: ")


def test_parameters_are_a_mapping_written_as_json() -> None:
    assert asked(params={"b": [1, None], "a": "ü"}).params == '{"b":[1,null],"a":"ü"}'.encode()
    assert asked(params=MappingProxyType({"a": 1})).params == b'{"a":1}'


@pytest.mark.parametrize("params", [[], 0, "", [("a", 1)], "text", object()])
def test_parameters_that_are_no_mapping_are_refused(params: Any) -> None:
    refused("params must be a mapping of names to values, not ", params=params)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"), [1, float("inf")], {"deep": (float("-inf"),)}, object(), {"x": object()}, NEVER_TYPED,
        {NEVER_TYPED: 1},
    ],
)  # fmt: skip
def test_what_is_no_json_is_refused(value: Any) -> None:
    refused("params cannot be written as JSON: ", params={"value": value})


def test_parameters_that_hold_themselves_are_refused() -> None:
    ring: dict[str, Any] = {}
    ring["ring"] = ring

    refused("nested deeper than 100 levels", params=ring)


def test_parameters_may_be_as_large_as_the_limit_and_no_larger() -> None:
    small = Defaults(max_params_bytes=len(b'{"a":"xx"}'))

    assert asked(defaults=small, params={"a": "xx"})
    with pytest.raises(InvalidRequest, match="params are 11 bytes of JSON; the limit is 10"):
        asked(defaults=small, params={"a": "xxx"})


@pytest.mark.parametrize("option", ["max_retries", "result_ttl_seconds", "job_timeout_seconds", "unique_ttl_seconds"])
def test_whole_numbers_are_whole_and_in_range(option: str) -> None:
    for value in ("5", 5.0, True, [5]):
        refused(f"{option} must be a whole number, not ", **{option: value})
    refused(f"{option} is out of range", **{option: 2**53 + 1})


@pytest.mark.parametrize("value", [0, -1, 5])
def test_attempts_and_times_to_live_may_be_zero_or_less(value: int) -> None:
    job = asked(max_retries=value, result_ttl_seconds=value)

    assert (job.max_retries, job.result_ttl_seconds) == (value, value)


def test_a_timeout_is_positive_and_at_most_a_year() -> None:
    refused("^job_timeout_seconds must be positive$", job_timeout_seconds=0)
    refused("^job_timeout_seconds must be positive$", job_timeout_seconds=-1)
    refused("job_timeout_seconds must be at most 31536000", job_timeout_seconds=31_536_001)
    assert asked(job_timeout_seconds=31_536_000).timeout_seconds == 31_536_000


@pytest.mark.parametrize("option", ["defer_by_seconds", "retry_delay_seconds", "failure_ttl_seconds"])
def test_seconds_are_a_number_from_zero_to_ten_years(option: str) -> None:
    for value in (-0.001, float("nan"), float("inf"), "5", True, timedelta(seconds=1)):
        refused(f"{option} must be a number >= 0, not ", **{option: value})
    for value in (MAX_SECONDS + 1, 1e300, 10**400):
        refused(f"{option} must be at most {MAX_SECONDS}", **{option: value})
    for value in (0, 0.5, MAX_SECONDS):
        asked(**{option: value})


def test_a_delay_counts_from_the_servers_now_and_is_rounded_up() -> None:
    assert (asked(defer_by_seconds=0.0001).delay_ms, asked(defer_by_seconds=2).delay_ms) == (1, 2000)
    assert asked(defer_by_seconds=0).delay_ms == 0
    assert asked(defer_by_seconds=1).due_ms is None


def test_a_delay_counts_from_the_time_of_enqueueing_if_that_is_given() -> None:
    job = asked(defer_by_seconds=1.5, enqueue_time=MOMENT)

    assert (job.due_ms, job.delay_ms) == (MOMENT.timestamp() * 1000 + 1500, 0)
    assert job.enqueue_time == "2030-01-02T03:04:05+00:00"


def test_until_wins_over_by() -> None:
    job = asked(defer_until=MOMENT, defer_by_seconds=5)

    assert (job.due_ms, job.delay_ms) == (MOMENT.timestamp() * 1000, 0)


@pytest.mark.parametrize(
    "moment",
    [
        MOMENT,
        MOMENT.replace(tzinfo=None),
        MOMENT.astimezone(timezone(timedelta(hours=5, minutes=30))),
        "2030-01-02T03:04:05Z",
        "2030-01-02T03:04:05",
        "2030-01-02T08:34:05.000+05:30",
    ],
)
def test_a_moment_is_a_datetime_or_its_text_and_naive_ones_are_utc(moment: Any) -> None:
    assert asked(defer_until=moment).due_ms == MOMENT.timestamp() * 1000
    assert asked(enqueue_time=moment).enqueue_time == "2030-01-02T03:04:05+00:00"


@pytest.mark.parametrize("option", ["defer_until", "enqueue_time"])
def test_a_moment_that_is_none_is_refused(option: str) -> None:
    refused(f"{option} is not an RFC 3339 time: 'tomorrow'", **{option: "tomorrow"})
    refused(f"{option} must be a datetime or RFC 3339 text, not int", **{option: 5})
    before_time = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))
    refused(f"{option} is out of range", **{option: before_time})


def test_a_moment_in_the_past_is_accepted() -> None:
    assert asked(defer_until="2001-01-01T00:00:00Z").due_ms == 978_307_200_000


def test_a_unique_key_is_held_until_its_job_is_due() -> None:
    own = Defaults(unique_ttl_seconds=60)
    in_an_hour = clock.wall() + timedelta(hours=1)

    assert asked(defaults=own, unique_key="k").once.unique_ttl_seconds == 60
    assert asked(unique_key="k", unique_ttl_seconds=5).once.unique_ttl_seconds == 5
    assert asked(unique_key="k", unique_ttl_seconds=5, defer_by_seconds=100.2).once.unique_ttl_seconds == 101
    assert 3590 < asked(unique_key="k", unique_ttl_seconds=5, defer_until=in_an_hour).once.unique_ttl_seconds <= 3601
    assert asked(unique_key="k", unique_ttl_seconds=5, defer_until="2001-01-01").once.unique_ttl_seconds == 5
    refused("^unique_ttl_seconds must be positive", unique_ttl_seconds=0)


def test_a_jobs_own_policy_is_written_only_when_asked_for() -> None:
    job = asked(on_timeout="bury", retry_delay_seconds=0.5, max_retry_delay_seconds=9, failure_ttl_seconds=60)

    assert json.loads(job.policy or b"") == {
        "on_timeout": "bury", "retry_delay_seconds": 0.5, "max_retry_delay_seconds": 9, "failure_ttl_seconds": 60,
    }  # fmt: skip
    refused("on_timeout must be 'retry' or 'bury', not 'wait'", on_timeout="wait")
    refused("on_timeout must be 'retry' or 'bury', not \\[\\]", on_timeout=[])


def test_a_trace_context_is_text_to_text() -> None:
    assert asked(trace_context={"traceparent": "00-ü"}).trace_context == '{"traceparent":"00-ü"}'.encode()
    assert asked(trace_context={}).trace_context is None
    for value in ([("a", "b")], {"a": 1}, {1: "a"}, "text"):
        refused("trace_context must be a mapping of text to text", trace_context=value)
    refused("trace_context has text that is not Unicode", trace_context={"a": NEVER_TYPED})


def correlated(mappings: dict[str, str], params: Mapping[str, Any], **options: Any) -> Any:
    job = asked(defaults=Defaults(correlation=mappings), params=params, **options)
    return json.loads(job.correlation_context) if job.correlation_context else None


def test_correlations_are_scalars_found_by_their_path() -> None:
    params = {"user": {"id": 7, "name": "ada", "tags": ["x"]}, "dry": True, "ratio": 0.5, "empty": ""}
    paths = {
        "id": "user.id", "name": "params.user.name", "dry": "dry", "ratio": " ratio ", " spaced ": "user.id",
        "list": "user.tags", "map": "user", "empty": "empty", "missing": "user.none.deeper",
    }  # fmt: skip

    assert correlated(paths, params) == {"id": "7", "name": "ada", "dry": "true", "ratio": "0.5", "spaced": "7"}
    assert correlated({"missing": "x"}, params) is None


def test_the_trace_context_wins_unless_it_is_empty() -> None:
    assert correlated({"id": "id"}, {"id": 1}, trace_context={"id": "traced"}) == {"id": "traced"}
    assert correlated({"id": "id"}, {"id": 1}, trace_context={"id": ""}) == {"id": "1"}


def test_correlations_are_few_and_short() -> None:
    many = {f"key{n:02}": "a" for n in range(20)}

    assert list(correlated(many, {"a": 1})) == [f"key{n:02}" for n in range(16)]
    assert correlated({"": "a", "x" * 65: "a", "ü" * 32: "a"}, {"a": 1}) == {"ü" * 32: "1"}
    assert correlated({"k": "a"}, {"a": "ü" * 200}) == {"k": "ü" * 128}
    assert correlated({"k": "a"}, {"a": "x" + "ü" * 200}) == {"k": "x" + "ü" * 127}


JUNK = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.just([]) | st.just({})


@given(options=st.dictionaries(st.sampled_from(sorted(OPTIONS)), JUNK))
def test_a_request_is_a_job_or_one_line_that_begins_with_the_option(options: dict[str, Any]) -> None:
    try:
        outcome = new_job("send", options, Defaults()).id
    except InvalidRequest as why:
        outcome = str(why)

    assert re.match(rf"[0-9a-f-]{{36}}$|({'|'.join(OPTIONS)}) ", outcome) or options.get("job_id") == outcome
