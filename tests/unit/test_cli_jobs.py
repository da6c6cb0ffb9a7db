"""What commands make of stored jobs: a life in steps, and another job like it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrqd.cli.debug_load import made_up
from rrqd.cli.job_trace import gaps, steps_of
from rrqd.cli.rows import show_page
from rrqd.job import JobStatus
from rrqd.model.again import CannotReplay, alike
from rrqd.model.job import Job, read_claimed
from rrqd.store.shown import job_page

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
TIMES = ("enqueue_time", "next_scheduled_run_time", "start_time", "completion_time")


def job(**fields: str) -> Job:
    found = Job.read("j", {name.encode(): text.encode() for name, text in {"function_name": "f", **fields}.items()})
    assert found is not None
    return found


def at(seconds: float) -> str:
    return (NOON + timedelta(seconds=seconds)).isoformat()


def test_every_end_is_a_step_and_the_error_stands_with_the_last() -> None:
    """It was buried, revived, and buried again."""
    told = job(
        status="FAILED", enqueue_time=at(0), start_time=at(9), completion_time=at(10), last_error="boom",
        next_scheduled_run_time=at(5),
    )  # fmt: skip
    ends = [((NOON.timestamp() + seconds) * 1000, "FAILED") for seconds in (2, 10)]

    steps = steps_of(told, ends)

    assert [(step.what, step.detail) for step in steps] == [
        ("enqueued", "f in queue "), ("ended", "FAILED"), ("started", ""), ("ended", "FAILED: boom"),
    ]  # fmt: skip
    assert gaps(steps) == [None, 2.0, 7.0, 1.0]


def test_who_waits_is_told_when_and_for_which_attempt() -> None:
    told = job(status="RETRYING", enqueue_time=at(0), next_scheduled_run_time=at(60), current_retries="2")

    enqueued, due = steps_of(told, [])

    assert (enqueued.what, due.what, due.detail) == ("enqueued", "due", "attempt 3")


@given(
    st.sampled_from([one for one in JobStatus if one is not JobStatus.UNKNOWN]),
    st.dictionaries(st.sampled_from(TIMES), st.floats(-1e6, 1e6).map(at) | st.text(max_size=30)),
    st.lists(st.floats(0, 4e12), max_size=3),
)
def test_whatever_clocks_wrote_it_no_step_comes_before_the_last(
    status: JobStatus, times: dict[str, str], ends: list[float]
) -> None:
    steps = steps_of(job(status=status.value, **times), [(ms, "FAILED") for ms in ends])

    assert all(gap >= 0 for gap in gaps(steps) if gap is not None)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"function_name": ""}, "no function_name"),
        ({"job_params": "[1]"}, "no JSON object"),
        ({"job_params": "{"}, "no JSON object"),
    ],
)
def test_what_makes_no_new_job_is_said(fields: dict[str, str], word: str) -> None:
    with pytest.raises(CannotReplay, match=word):
        alike(job(**fields), "default")


def test_other_parameters_make_up_for_broken_ones() -> None:
    assert alike(job(job_params="{"), "default", b'{"a":1}').params == b'{"a":1}'


@pytest.mark.parametrize("status", [one for one in JobStatus if one is not JobStatus.UNKNOWN])
def test_a_made_up_job_is_one_that_could_be(status: JobStatus) -> None:
    fields = made_up("test_1", ["demo"], [status], 24, NOON)

    known = Job.read("test_1", {name.encode(): text.encode() for name, text in fields.items()})
    assert known is not None
    assert (known.status, known.queue) == (status, "demo")
    times = [known.moment(name) for name in ("enqueue_time", "start_time", "completion_time")]
    told = [moment for moment in times if moment is not None]
    assert told == sorted(told)
    assert told[-1] <= NOON
    assert read_claimed("test_1", 1, 0.0, 0.0, False, "demo", fields).function in fields["function_name"]


def test_how_far_a_job_is_stands_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    said = '{"at":"2026-05-01T10:00:00+00:00","value":0.5,"message":"half way","data":{"row":7}}'
    show_page(job_page(job(status="ACTIVE", rrqd_progress=said)))
    show_page(job_page(job(status="ACTIVE", rrqd_progress='{"at":"now"}')))

    told = [line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines() if line.startswith("progress")]
    assert told == ['50%  half way  {"row": 7}  (2026-05-01T10:00:00+00:00)', "(now)"]
