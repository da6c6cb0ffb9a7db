"""When a worker has served long enough."""

from __future__ import annotations

import math

import pytest

from rrqd.supervisor.children import Child, Kind
from rrqd.supervisor.plans import Wear
from rrqd.supervisor.wear import draw, worn_by

MIB = 1_048_576


NO_WEAR = Wear()


def worker(wear: Wear = NO_WEAR, chance: float = 0.0, **fields: object) -> Child:
    """One that was born at 100 s, with limits drawn."""
    child = Child(Kind.WORKER, "default", started_at=100.0)
    draw(child, wear, chance)
    for name, value in fields.items():
        setattr(child, name, value)
    return child


def test_without_limits_a_worker_serves_for_ever() -> None:
    child = worker(private_bytes=1 << 60)
    assert (child.jobs_limit, child.age_limit) == (math.inf, math.inf)
    assert worn_by(child, Wear(), 10**12, 1e12) == ""


@pytest.mark.parametrize(
    ("jitter", "chance", "limits"),
    [
        (0.0, 0.99, (100, 600)),
        (0.1, 0.0, (100, 600)),
        (0.1, 0.5, (95, 570)),
        (1.0, 0.5, (50, 300)),
        (1.0, 0.999, (1, 0.6)),
    ],
)
def test_the_limits_are_drawn_up_to_the_jitter_below_the_pools(
    jitter: float, chance: float, limits: tuple[float, float]
) -> None:
    child = worker(Wear(max_jobs=100, max_age_seconds=600.0, jitter=jitter), chance)
    assert (child.jobs_limit, child.age_limit) == pytest.approx(limits)


def test_everybody_may_do_one_job_at_least() -> None:
    child = worker(Wear(max_jobs=1, jitter=1.0), 0.9)
    assert child.jobs_limit == 1
    assert worn_by(child, Wear(), 0, 100.0) == ""


def test_a_limit_is_reached_when_it_is_reached_and_not_before() -> None:
    wear = Wear(max_jobs=10, max_age_seconds=60.0, max_memory_bytes=64 * MIB)
    child = worker(wear, private_bytes=64 * MIB - 1)
    assert worn_by(child, wear, 9, 159.9) == ""
    assert worn_by(child, wear, 10, 159.9) == "10 jobs"
    assert worn_by(child, wear, 9, 160.0) == "60 s old"
    child.private_bytes = 64 * MIB
    assert worn_by(child, wear, 9, 159.9) == "64 MiB of its own"
