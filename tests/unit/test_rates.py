"""How a rate is written, and what a job's record tells of its past."""

from __future__ import annotations

from typing import Any

import pytest

from rrqd.exc import InvalidRequest
from rrqd.job import JobStatus
from rrqd.model.history import history_of
from rrqd.model.job import Job, Rate
from rrqd.model.rates import read_rate


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("api:100/m", "600000 1 api"), ("a:b:1/s", "1000000 1 a:b"), ("x:10/30s", "3000000 1 x"),
        ("x:1/2d", "172800000000 1 x"),
        ({"name": "x", "limit": 4, "per_seconds": 2, "burst": 3}, "500000 3 x"),
        (Rate(name="x y", limit=1), "60000000 1 x y"),
    ],
)  # fmt: skip
def test_a_rate_is_text_a_mapping_or_itself(written: Any, stored: str) -> None:
    rate = read_rate(written)
    assert rate is not None
    assert rate.stored == stored


@pytest.mark.parametrize(
    "written",
    [
        "", "api", "api:0/m", "api:1/y", "api:1", ":1/m", 7, [], {"name": "x"}, {"name": "x", "limit": "1"},
        {"name": "x", "limit": 1, "burst": 0}, {"name": "x", "limit": 1, "per_seconds": 0}, {"name": "\n", "limit": 1},
        {"name": "x", "limit": True}, "api:1/0s",
    ],
)  # fmt: skip
def test_what_is_no_rate_is_refused_by_name(written: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^rate "):
        read_rate(written)


def test_no_rate_is_none() -> None:
    assert read_rate(None) is None


def test_a_spoilt_past_hides_nothing_else() -> None:
    job = Job(
        id="a", status=JobStatus.PENDING, fields={"enqueue_time": "2026-01-31T00:00:00+00:00", "rrqd_history": "{"}
    )
    assert [one.what for one in history_of(job)] == ["enqueued"]
