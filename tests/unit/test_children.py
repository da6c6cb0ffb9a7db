"""The table: back-off, reasons, plans."""

from __future__ import annotations

import pytest

from rrqd.config.settings import PoolSettings, Settings
from rrqd.supervisor.children import Cause, Child, ExitReason, Kind, Mode, Phase, State, exit_reason
from rrqd.supervisor.plans import Plan, PoolPlan, plan_of


def _worker(phase: Phase = Phase.READY, **fields: object) -> Child:
    child = Child(Kind.WORKER, "default", phase=phase, pid=7)
    child.ready_at = 1.0 if phase is not Phase.STARTING else None
    for name, value in fields.items():
        setattr(child, name, value)
    return child


@pytest.mark.parametrize(
    ("child", "code", "number", "stopping", "reason"),
    [
        (_worker(), 3, None, False, "crash-exit 3"),
        (_worker(), 0, None, False, "crash-exit 0"),
        (_worker(), None, 9, False, "crash-signal 9"),
        (_worker(Phase.LEAVING, bye="drained"), 0, None, False, "planned"),
        (_worker(Phase.LEAVING), None, 11, False, "crash-signal 11"),
        (_worker(bye="recycle"), 0, None, False, "planned"),
        (_worker(bye="drained"), 0, None, False, "killed-by-operator"),
        (_worker(bye="drained"), 0, None, True, "planned"),
        (_worker(bye="lease-lost"), 0, None, False, "lost-lease"),
        (_worker(Phase.STARTING), 1, None, False, "boot-error 1"),
        (_worker(Phase.STARTING), None, 6, False, "boot-error -6"),
        (_worker(Phase.STARTING), 78, None, False, "boot-config"),
        (_worker(Phase.STARTING, bye="boot-config: no"), 1, None, False, "boot-config"),
        (_worker(Phase.KILLING, kill_reason=ExitReason(Cause.HANG)), None, 9, False, "hang"),
        (_worker(Phase.KILLING, kill_reason=ExitReason(Cause.HANG), bye="drained"), 0, None, False, "planned"),
    ],
)
def test_an_end_has_one_reason(child: Child, code: int | None, number: int | None, stopping: bool, reason: str) -> None:
    assert str(exit_reason(child, code, number, stopping)) == reason


def _state() -> State:
    return State(plan=Plan(1, {}, {}))


def test_failures_in_a_row_wait_longer_and_longer_up_to_a_ceiling() -> None:
    state, waits = _state(), []
    for _ in range(14):
        child = state.add(_worker(Phase.STARTING))
        state.died(child, ExitReason(Cause.BOOT_ERROR, 1), now=2.0, chance=1.0)
        waits.append(round(state.backoff("worker:default").not_before - 2.0, 3))
    assert waits[0] == -2.0  # the first replacement does not wait at all
    assert waits[1:6] == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert waits[-1] == 30.0


def test_what_did_start_never_waits_long() -> None:
    state = _state()
    for _ in range(14):
        state.died(state.add(_worker()), ExitReason(Cause.CRASH_SIGNAL, 9), now=2.0, chance=1.0)
    assert state.backoff("worker:default").not_before == 4.0


def test_a_worker_that_finished_jobs_was_no_failure_in_a_row() -> None:
    state = _state()
    for _ in range(10):
        state.died(state.add(_worker()), ExitReason(Cause.CRASH_SIGNAL, 9), now=2.0, chance=1.0, jobs=1)
    assert state.backoff("worker:default").failures == 1


def test_a_worker_that_was_ready_for_a_minute_was_no_failure_in_a_row() -> None:
    state = _state()
    for _ in range(10):
        state.died(state.add(_worker()), ExitReason(Cause.CRASH_SIGNAL, 9), now=62.0, chance=1.0)
    assert state.backoff("worker:default").failures == 1


def test_a_pool_whose_workers_die_faster_than_they_work_is_degraded_until_jobs_or_time_have_made_up_for_it() -> None:
    state = State(plan=Plan(1, {"default": PoolPlan("default", 2, "default")}, {}))
    for _ in range(10):
        state.died(state.add(_worker()), ExitReason(Cause.CRASH_SIGNAL, 9), now=2.0, chance=1.0)
    backoff = state.backoff("worker:default")
    assert backoff.degraded
    one = state.add(_worker())
    state.worked(one, 1, now=2.0)
    assert not backoff.degraded
    state.died(one, ExitReason(Cause.CRASH_SIGNAL, 9), now=2.0, chance=1.0, jobs=1)  # no second token for that job
    assert backoff.degraded
    state.worked(state.add(_worker()), 0, now=9.0)
    assert not backoff.degraded


def test_whom_a_kill_does_not_end_is_told_and_counted_once() -> None:
    state = _state()
    child = state.add(_worker(Phase.KILLING, killed_at=10.0, kill_reason=ExitReason(Cause.HANG)))
    assert state.newly_lost(15.0) == []
    assert state.newly_lost(15.1) == [child]
    assert state.newly_lost(16.0) == []
    assert state.exits["worker:default", "lost"] == 1
    state.died(child, ExitReason(Cause.HANG), now=99.0, chance=1.0)
    assert state.exits["worker:default", "hang"] == 1


def test_planned_ends_cost_nothing() -> None:
    state = _state()
    state.died(state.add(_worker()), ExitReason(Cause.PLANNED), now=2.0, chance=1.0)
    assert state.backoff("worker:default").failures == 0
    assert state.exits["worker:default", "planned"] == 1


def test_stopping_again_is_more_urgent_and_the_deadline_stays() -> None:
    state = _state()
    state.stop(10.0)
    state.stop(20.0)
    assert (state.mode, state.stop_step, state.stop_deadline) == (Mode.STOP, 1, 32.0)
    state.stop(21.0)
    state.stop(22.0)
    assert state.stop_step == 2


def test_pools_with_the_same_code_share_a_mold() -> None:
    pools = {
        "a": PoolSettings(handlers="m:r"),
        "b": PoolSettings(handlers="m:r", processes=3),
        "c": PoolSettings(handlers="m:r", environment={"X": "1"}),
        "d": PoolSettings(handlers="m:other"),
    }
    settings = Settings.model_validate({"rrqd": {"pools": {name: pool.model_dump() for name, pool in pools.items()}}})
    plan = plan_of(settings, 4)
    assert {name: pool.mold for name, pool in plan.pools.items()} == {"a": "a", "b": "a", "c": "c", "d": "d"}
    assert plan.workers == 6
    assert plan.generation == 4
