"""What lies in the store is read as RRQ wrote it; what could be misread is refused with a reason."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrqd.exc import JobInvalid
from rrqd.job import JobStatus
from rrqd.model.job import ClaimedJob, Job, read_claimed, short_dlq_name, short_queue_name

#: As a real RRQ producer writes it: all twelve fields, nine digits of a second.
FOREIGN = {
    b"id": b"j-1", b"function_name": b"send", b"job_params": b'{"to":"ada","n":[1,2.5,null]}',
    b"enqueue_time": b"2026-01-02T03:04:05.123456789+00:00", b"status": b"PENDING", b"current_retries": b"0",
    b"next_scheduled_run_time": b"2026-01-02T03:04:05.123456789+00:00", b"max_retries": b"5",
    b"job_timeout_seconds": b"300", b"result_ttl_seconds": b"86400", b"queue_name": b"rrq:queue:default",
    b"result": b"null",
}  # fmt: skip
#: As our own producer writes it: what equals the defaults is left out.
BARE = {b"function_name": b"send", b"enqueue_time": b"2026-01-02T03:04:05+00:00"}


def claimed(changes: dict[bytes, bytes] | None = None, base: dict[bytes, bytes] = FOREIGN) -> ClaimedJob:
    raw = {**base, **(changes or {})}
    fields = {name.decode(): value.decode(errors="surrogateescape") for name, value in raw.items()}
    return read_claimed("j-1", 7, 1.5, 2.5, False, "default", fields)


def refused(message: str, **changes: bytes) -> None:
    with pytest.raises(JobInvalid, match=message):
        claimed({name.encode(): value for name, value in changes.items()})


def test_a_job_of_a_real_producer_is_read_whole() -> None:
    job = claimed()

    assert (job.id, job.token, job.function, job.queue) == ("j-1", 7, "send", "default")
    assert job.params == {"to": "ada", "n": [1, 2.5, None]}
    assert job.enqueue_time == datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)
    assert (job.attempt, job.max_retries, job.timeout_seconds, job.result_ttl_seconds) == (1, 5, 300.0, 86_400)
    assert (job.trace_context, job.correlation_context, job.policy) == (None, None, None)


def test_what_is_left_out_is_left_to_the_worker() -> None:
    job = claimed(base=BARE)

    assert (job.params, job.attempt) == ({}, 1)
    assert (job.max_retries, job.timeout_seconds, job.result_ttl_seconds) == (None, None, None)


@pytest.mark.parametrize("empty", [b"", b"null", b"{}"])
def test_empty_parameters_and_contexts_are_none_at_all(empty: bytes) -> None:
    job = claimed({b"job_params": empty, b"trace_context": empty, b"correlation_context": empty, b"rrqd_policy": empty})

    assert (job.params, job.trace_context, job.correlation_context, job.policy) == ({}, None, None, None)


def test_failed_attempts_are_counted() -> None:
    assert claimed({b"current_retries": b"3"}).attempt == 4


@pytest.mark.parametrize(
    "text",
    [b"2026-01-02T03:04:05Z", b"2026-01-02T03:04:05.000000000Z", b"2026-01-02T04:04:05+01:00", b"2026-01-02T03:04:05"],
)
def test_a_time_is_read_in_every_form_that_producers_write(text: bytes) -> None:
    assert claimed({b"enqueue_time": text}).enqueue_time == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize("missing", [b"function_name", b"enqueue_time"])
def test_a_job_needs_a_function_and_a_time(missing: bytes) -> None:
    with pytest.raises(JobInvalid, match=f"The job has no {missing.decode()}"):
        claimed({missing: b""})


@pytest.mark.parametrize(
    "text", [b"[]", b'"x"', b"5", b"nope", b"{", b'{"a":"\xff"}', b'{"a":"\\ud800"}', b'{"a":NaN}', b"[" * 100_000]
)
@pytest.mark.parametrize("field", ["job_params", "trace_context", "correlation_context", "rrqd_policy"])
def test_parameters_and_contexts_are_json_objects(field: str, text: bytes) -> None:
    refused(f"^{field} (is not valid JSON|must be a JSON object)", **{field: text})


def test_values_of_a_context_are_text() -> None:
    job = claimed({b"trace_context": b'{"a":"b","n":1}', b"correlation_context": b'{"user":"7"}'})

    assert (job.trace_context, job.correlation_context) == ({"a": "b", "n": "1"}, {"user": "7"})


@pytest.mark.parametrize("field", ["current_retries", "max_retries", "result_ttl_seconds"])
def test_whole_numbers_are_whole_and_no_larger_than_every_reader_can_hold(field: str) -> None:
    for text in (b"five", b"5.0", b"0x5", b"\xff"):
        refused(f"{field} is not a whole number", **{field: text})
    refused(f"{field} is out of range", **{field: b"9" * 30})
    refused(f"{field} is out of range", **{field: b"-" + b"9" * 30})


@pytest.mark.parametrize("text", [b"0", b"-1", b"nan", b"inf", b"1e400"])
def test_a_timeout_is_positive_and_finite(text: bytes) -> None:
    refused(f"Invalid job timeout: {text.decode()}. Must be positive.", job_timeout_seconds=text)
    refused("job_timeout_seconds is not a number", job_timeout_seconds=b"soon")


def test_a_timeout_may_have_a_fraction() -> None:
    assert claimed({b"job_timeout_seconds": b"0.5"}).timeout_seconds == 0.5


def test_a_functions_name_is_text() -> None:
    refused("function_name is not UTF-8 text", function_name=b"\xff\xfe")


def test_a_jobs_own_policy_is_read_and_spoilt_delays_are_refused() -> None:
    assert claimed({b"rrqd_policy": b'{"on_timeout":"bury","retry_delay_seconds":null}'}).policy is not None
    for text in (b'"5"', b"-1", b"true", b"[]", b"1e300", b"9" * 400):
        spoilt = b'{"retry_delay_seconds":' + text + b"}"
        refused("rrqd_policy has a retry_delay_seconds that is no", rrqd_policy=spoilt)


@given(fields=st.dictionaries(st.sampled_from([*FOREIGN, b"trace_context", b"rrqd_policy"]), st.binary()))
def test_whatever_lies_there_is_a_job_or_a_reason(fields: dict[bytes, bytes]) -> None:
    try:
        job: Any = claimed(fields)
    except JobInvalid as why:
        job = str(why)

    assert job


def test_a_reason_is_short_whatever_the_field_holds() -> None:
    with pytest.raises(JobInvalid) as caught:
        claimed({b"max_retries": b"x" * 10_000})

    assert len(str(caught.value)) < 200


def test_names_are_the_same_with_and_without_their_prefix() -> None:
    assert short_queue_name("rrq:queue:mail") == short_queue_name("mail") == "mail"
    assert short_dlq_name("rrq:dlq:mail") == short_dlq_name("mail") == "mail"


def test_a_stored_job_is_read_for_people_whatever_it_holds() -> None:
    job = Job.read("j-1", {b"status": b"ODD", b"result": b"{broken", b"job_params": b"\xff", b"max_retries": b"many"})

    assert job is not None
    assert (job.status, job.result, job.params, job.number("max_retries")) == (JobStatus.UNKNOWN, None, None, None)
    assert (job.function, job.queue, job.last_error, job.error, job.progress) == ("", "", None, None, None)
    assert job.moment("enqueue_time") is None
    assert Job.read("j-1", {}) is None


def test_a_stored_job_shows_its_fields_decoded() -> None:
    job = Job.read("j-1", {**FOREIGN, b"result": b'{"ok":1}', b"last_error": b"boom", b"rrqd_error": b'{"type":"X"}'})

    assert job is not None
    assert (job.function, job.queue, job.params["to"], job.result) == ("send", "default", "ada", {"ok": 1})
    assert (job.last_error, job.error, job.number("max_retries")) == ("boom", {"type": "X"}, 5)
    assert job.moment("enqueue_time") == datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)


@pytest.mark.parametrize("word", ["PENDING", "ACTIVE", "COMPLETED", "FAILED", "RETRYING", "CANCELLED"])
def test_rrqs_six_words_are_read_and_three_are_final(word: str) -> None:
    assert JobStatus.read(word) == word
    assert JobStatus(word).is_final == (word in ("COMPLETED", "FAILED", "CANCELLED"))


@pytest.mark.parametrize("word", [None, "", "pending", "QUEUED"])
def test_any_other_word_is_unknown(word: str | None) -> None:
    assert JobStatus.read(word) is JobStatus.UNKNOWN
