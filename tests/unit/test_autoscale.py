"""A pool's own size, from how long jobs wait and how full its workers are."""

from __future__ import annotations

from rrqd.supervisor.autoscale import GROW_PAUSE_SECONDS, IDLE_SECONDS, Size
from rrqd.supervisor.plans import Scaling

POOL = Scaling(least=1, most=8, latency_seconds=5.0)


def test_it_grows_when_the_oldest_job_has_waited_too_long_and_not_before() -> None:
    size = Size()
    assert size.advise(0.0, POOL, 2, oldest_seconds=4.9, busy=2.0) == 2
    assert size.advise(1.0, POOL, 2, oldest_seconds=5.0, busy=2.0) == 3


def test_new_workers_get_a_moment_before_it_grows_again() -> None:
    size = Size()
    assert size.advise(0.0, POOL, 2, 9.0, 2.0) == 3
    assert size.advise(1.0, POOL, 3, 9.0, 3.0) == 3
    assert size.advise(GROW_PAUSE_SECONDS, POOL, 3, 9.0, 3.0) == 4


def test_a_large_pool_grows_in_larger_steps_and_never_above_its_most() -> None:
    big = Scaling(least=1, most=100, latency_seconds=5.0)
    assert Size().advise(0.0, big, 40, 9.0, 40.0) == 50
    assert Size().advise(0.0, big, 99, 9.0, 99.0) == 100
    assert Size().advise(0.0, big, 100, 9.0, 100.0) == 100


def test_it_shrinks_one_by_one_and_only_after_a_while_of_too_little_work() -> None:
    size = Size()
    assert size.advise(0.0, POOL, 4, 0.0, busy=1.0) == 4
    assert size.advise(IDLE_SECONDS - 1, POOL, 4, 0.0, busy=1.0) == 4
    assert size.advise(IDLE_SECONDS, POOL, 4, 0.0, busy=1.0) == 3
    assert size.advise(IDLE_SECONDS + 1, POOL, 3, 0.0, busy=1.0) == 3
    assert size.advise(2 * IDLE_SECONDS + 1, POOL, 3, 0.0, busy=1.0) == 2


def test_work_for_all_of_them_makes_the_while_begin_anew() -> None:
    size = Size()
    size.advise(0.0, POOL, 4, 0.0, busy=1.0)
    size.advise(20.0, POOL, 4, 0.0, busy=3.5)
    assert size.advise(IDLE_SECONDS + 1, POOL, 4, 0.0, busy=1.0) == 4


def test_it_keeps_at_least_its_least_and_comes_back_between_its_bounds() -> None:
    size = Size()
    assert size.advise(0.0, POOL, 1, 0.0, 0.0) == 1
    assert size.advise(10 * IDLE_SECONDS, POOL, 1, 0.0, 0.0) == 1
    assert Size().advise(0.0, POOL, 20, 0.0, 20.0) == 8
