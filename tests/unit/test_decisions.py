"""`decide`, in microseconds: each rule as a table, and then a simulated kernel that does anything in any order."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from rrqd.supervisor import decisions
from rrqd.supervisor.actions import Abandon, Adopt, Drain, Exit, Kill, Leave, Report, Start, Stop
from rrqd.supervisor.children import (
    Cause,
    Child,
    ExitReason,
    Kind,
    Mode,
    Phase,
    State,
)
from rrqd.supervisor.decisions import decide
from rrqd.supervisor.plans import Limits, MoldSpec, Plan, PoolPlan, keeping


def plan(generation: int = 1, processes: int = 2, **limits: float) -> Plan:
    return Plan(
        generation,
        {"default": PoolPlan("default", processes, "default", generation=generation)},
        {("default", generation): MoldSpec("default", "m:r")},
        Limits(**limits),
    )


def child(kind: Kind, phase: Phase = Phase.READY, name: str = "", slot: int = 0, generation: int = 1) -> Child:
    made = Child(kind, name or ("default" if kind in (Kind.MOLD, Kind.WORKER) else kind.value), slot, generation)
    made.phase, made.pid, made.ready_at = phase, 100 + made.key, 0.0 if phase is Phase.READY else None
    return made


def running(processes: int = 2, **limits: float) -> State:
    """Everybody there and ready."""
    state = State(plan=plan(processes=processes, **limits), server_wanted=True, web_wanted=True)
    for kind in (Kind.SERVER, Kind.STEWARD, Kind.WEB, Kind.MOLD):
        state.ready(state.add(child(kind, Phase.STARTING)), 0.0)
    for slot in range(processes):
        state.ready(state.add(child(Kind.WORKER, Phase.STARTING, slot=slot)), 0.0)
    return state


def worker(state: State, slot: int = 0) -> Child:
    return next(one for one in state.workers() if one.slot == slot)


def test_nothing_is_done_when_all_is_well() -> None:
    assert decide(running(), 1.0) == []


def test_deciding_touches_nothing() -> None:
    state = State(plan=plan(), server_wanted=True, web_wanted=True)
    state.ready(state.add(child(Kind.MOLD, Phase.STARTING)), 0.0)
    before = repr(state)
    decide(state, 0.0)
    assert repr(state) == before


def test_first_come_the_server_the_pages_and_the_molds() -> None:
    state = State(plan=plan(), server_wanted=True, web_wanted=True)
    assert [action.kind for action in decide(state, 0.0) if isinstance(action, Start)] == ["valkey", "web", "mold"]


def test_the_steward_waits_for_the_server_and_the_workers_for_both_steward_and_mold() -> None:
    state = State(plan=plan(), server_wanted=True)
    server = state.add(child(Kind.SERVER, Phase.STARTING))
    mold = state.add(child(Kind.MOLD, Phase.STARTING))
    assert decide(state, 0.0) == []
    state.ready(server, 0.0)
    assert decide(state, 0.0) == [Start(Kind.STEWARD, "steward", 0, 1)]
    steward = state.add(child(Kind.STEWARD, Phase.STARTING))
    state.ready(mold, 0.0)
    assert decide(state, 0.0) == []
    state.ready(steward, 0.0)
    assert [(one.kind, one.slot) for one in decide(state, 0.0) if isinstance(one, Start)] == [
        (Kind.WORKER, 0),
        (Kind.WORKER, 1),
    ]


def test_a_worker_is_replaced_even_while_the_steward_is_away() -> None:
    state = running()
    state.children = {key: one for key, one in state.children.items() if one.kind is not Kind.STEWARD}
    state.died(worker(state), ExitReason(Cause.CRASH_SIGNAL, 9), 1.0, 0.5)
    assert {one.kind for one in decide(state, 1.0) if isinstance(one, Start)} == {Kind.STEWARD, Kind.WORKER}


def test_a_dying_worker_keeps_its_slot_until_it_is_gone_or_lost() -> None:
    state = running()
    one = worker(state)
    one.phase, one.killed_at = Phase.KILLING, 10.0
    assert decide(state, 14.0) == []
    assert decide(state, 16.0) == [Start(Kind.WORKER, "default", 0, 1)]


def test_back_off_holds_a_pool_back_and_then_sends_one_at_a_time() -> None:
    state = running()
    for _ in range(2):
        state.died(worker(state, 0) if _ == 0 else worker(state, 1), ExitReason(Cause.CRASH_EXIT, 1), 1.0, 1.0)
    backoff = state.backoff("worker:default")
    backoff.failures, backoff.not_before = 5, 3.0
    assert decide(state, 2.9) == []
    assert decisions.next_moment(state, 2.9) == 3.0
    assert decide(state, 3.0) == [Start(Kind.WORKER, "default", 0, 1)]


# -- silence -----------------------------------------------------------------------------------------------


def silent(state: State, since: float, **fields: object) -> Child:
    one = worker(state)
    one.beat_at = since
    for name, value in fields.items():
        setattr(one, name, value)
    return one


def test_a_silent_loop_is_reported_once() -> None:
    state = running()
    one = silent(state, 10.0)
    assert decide(state, 11.2) == []
    assert decide(state, 11.25) == [Report(one)]
    one.reported = True
    assert decide(state, 13.0) == []


def test_one_that_gets_no_processor_gets_more_patience_than_one_that_hangs() -> None:
    state = running(hang_seconds=30, grace_seconds=5)
    one = silent(state, 10.0, reported=True)
    one.starved = True
    assert decide(state, 40.0) == []
    assert decide(state, 10.0 + 30.0 * decisions.STOPPED_FACTOR) == [Kill(one, ExitReason(Cause.HANG))]
    one.suspect_job, one.suspect_deadline = "slow", 20.0
    assert decide(state, 26.0) == []
    assert decide(state, 70.0) == [Kill(one, ExitReason(Cause.OVERDUE), "slow", "timeout")]


def test_a_hang_without_a_suspect_ends_at_the_hang_timeout() -> None:
    state = running(hang_seconds=30)
    one = silent(state, 10.0, reported=True)
    assert decide(state, 39.9) == []
    assert decide(state, 40.0) == [Kill(one, ExitReason(Cause.HANG))]


def test_a_suspect_gets_its_timeout_and_the_grace_however_long_the_loop_is_silent() -> None:
    state = running(hang_seconds=30, grace_seconds=5)
    one = silent(state, 10.0, reported=True, suspect_job="j", suspect_deadline=100.0)
    assert decide(state, 104.9) == []
    assert decide(state, 105.0) == [Kill(one, ExitReason(Cause.OVERDUE), "j", "timeout")]


def test_a_suspect_without_a_limit_has_the_hang_timeout() -> None:
    state = running(hang_seconds=30)
    one = silent(state, 10.0, reported=True, suspect_job="j")
    assert decide(state, 40.0) == [Kill(one, ExitReason(Cause.HANG), "j")]


def test_a_pause_of_the_master_wipes_all_suspicion() -> None:
    state = running(hang_seconds=30)
    silent(state, 10.0)
    state.trust_after = 1000.0
    assert decide(state, 1001.0) == []


def test_a_frozen_worker_has_ten_times_the_patience() -> None:
    state = running(hang_seconds=30)
    one = silent(state, 10.0, reported=True, stopped=True)
    assert decide(state, 200.0) == []
    assert decide(state, 310.0) == [Kill(one, ExitReason(Cause.HANG))]


def test_a_thawed_worker_gets_a_moment_to_beat() -> None:
    state = running(hang_seconds=30)
    silent(state, 10.0, reported=True, thawed_at=300.0)
    assert decide(state, 301.0) == []


def test_a_mold_that_owes_a_worker_for_too_long_hangs_and_one_whose_worker_is_only_slow_does_not() -> None:
    state = running(boot_seconds=60.0)
    mold = state.mold("default", 1)
    slow, unborn = worker(state, 0), worker(state, 1)
    for one in (slow, unborn):
        one.phase, one.ready_at, one.started_at = Phase.STARTING, None, 0.0
    boot_error, hang = ExitReason(Cause.BOOT_ERROR), ExitReason(Cause.HANG)
    assert decide(state, 61.0) == [Kill(slow, boot_error), Kill(unborn, boot_error)]
    slow.pid = unborn.pid = None
    assert decide(state, 61.0) == [Kill(slow, boot_error), Kill(mold, hang), Kill(unborn, boot_error)]


def test_a_boot_that_takes_too_long_is_ended_but_a_waiting_steward_is_not() -> None:
    state = State(plan=plan(boot_seconds=60))
    mold, steward = state.add(child(Kind.MOLD, Phase.STARTING)), state.add(child(Kind.STEWARD, Phase.STARTING))
    steward.spoke = True
    assert decide(state, 61.0) == [Kill(mold, ExitReason(Cause.BOOT_ERROR))]


# -- stop --------------------------------------------------------------------------------------------------


def test_a_stop_drains_workers_first_with_what_is_left_of_one_deadline() -> None:
    state = running(stop_seconds=25)
    state.stop(100.0)
    assert state.plan.limits.drain_seconds == 22.0  # the rest of the 25 is for handing back and for all others
    assert decide(state, 105.0) == [Drain(one, 17.0) for one in state.workers()]


def test_a_worker_that_drained_for_a_reload_gets_the_stops_deadline() -> None:
    state = running(processes=1, stop_seconds=25)
    one = worker(state)
    one.phase, one.leave_by = Phase.LEAVING, 1e9
    state.stop(100.0)
    assert decide(state, 100.0) == [Drain(one, 22.0)]


def test_a_stop_that_was_noticed_after_its_deadline_is_told_once_and_ends() -> None:
    state = running(processes=1, stop_seconds=25)
    one = worker(state)
    state.stop(100.0)
    assert decide(state, 190.0) == [Drain(one, 0.0)]
    one.phase, one.leave_by = Phase.LEAVING, 190.0
    assert decide(state, 190.0) == []
    assert decide(state, 193.0) == [Kill(one, ExitReason(Cause.PLANNED))]


def test_the_rest_leaves_one_kind_after_the_other_then_the_master() -> None:
    state = running(processes=1)
    state.stop(0.0)
    order = []
    for _ in range(20):
        for action in decide(state, 1.0):
            if isinstance(action, Exit):
                assert order == ["worker", "mold", "web", "steward", "valkey"]
                return
            assert isinstance(action, Drain | Leave)
            order.append(action.child.kind.value)
            state.children.pop(action.child.key)
    pytest.fail("no exit")


def test_a_second_wish_hands_back_and_a_third_kills() -> None:
    state = running(processes=1)
    one = worker(state)
    state.stop(0.0)
    one.phase, one.leave_by = Phase.LEAVING, 25.0
    state.stop(1.0)
    assert decide(state, 1.0) == [Drain(one, 0.0)]
    state.stop(2.0)
    assert decide(state, 2.0) == [Kill(one, ExitReason(Cause.PLANNED))]


def test_a_worker_lost_in_the_kernel_holds_nobody_up() -> None:
    state = running(processes=1)
    state.children = {key: one for key, one in state.children.items() if one.kind is Kind.WORKER}
    one = worker(state)
    one.phase, one.killed_at = Phase.KILLING, 1.0
    state.stop(0.0, 3)
    assert decide(state, 4.0) == []
    assert decide(state, 7.0) == [Exit(3)]


# -- hopeless starts ---------------------------------------------------------------------------------------


def test_a_configuration_error_before_ever_being_ready_stops_with_78() -> None:
    state = State(plan=plan())
    mold = state.add(child(Kind.MOLD, Phase.STARTING))
    state.died(mold, ExitReason(Cause.BOOT_CONFIG), 1.0, 0.0, "no module")
    assert decide(state, 1.0) == [Stop(78, "no module")]


def test_the_same_error_later_is_retried() -> None:
    state = running()
    mold = state.mold("default", 1)
    assert mold is not None
    state.died(mold, ExitReason(Cause.CRASH_SIGNAL, 9), 1.0, 0.0)
    again = state.add(child(Kind.MOLD, Phase.STARTING))
    state.died(again, ExitReason(Cause.BOOT_CONFIG), 1.0, 0.0, "no module")
    assert decide(state, 2.0) == [Start(Kind.MOLD, "default", 0, 1)]


def test_pages_that_do_not_come_up_never_end_the_daemon() -> None:
    state = State(plan=plan(), web_wanted=True)
    for _ in range(9):
        state.died(state.add(child(Kind.WEB, Phase.STARTING)), ExitReason(Cause.BOOT_ERROR, 1), 1.0, 0.0)
    assert not any(isinstance(one, Stop) for one in decide(state, 2.0))


# -- reload ------------------------------------------------------------------------------------------------


def test_a_candidate_is_adopted_when_its_molds_are_ready() -> None:
    state = running()
    state.propose(plan(2), 5.0)
    assert decide(state, 5.0) == [Start(Kind.MOLD, "default", 0, 2)]
    mold = state.add(child(Kind.MOLD, Phase.STARTING, generation=2))
    assert decide(state, 5.0) == []
    state.ready(mold, 6.0)
    assert state.candidate is not None
    assert decide(state, 6.0) == [Adopt(state.candidate)]


def test_a_candidate_whose_mold_dies_is_abandoned_and_leaves_no_trace() -> None:
    state = running()
    state.propose(plan(2), 5.0)
    mold = state.add(child(Kind.MOLD, Phase.STARTING, generation=2))
    state.died(mold, ExitReason(Cause.BOOT_CONFIG), 6.0, 0.0, "no module")
    assert state.candidate is not None
    assert decide(state, 6.0) == [Abandon(state.candidate, "no module")]
    state.candidate = None
    assert decide(state, 6.0) == []


def test_a_roll_starts_beside_the_old_one_and_drains_it_only_when_the_new_one_is_ready() -> None:
    state = running(processes=2)
    state.plan = plan(2)
    state.ready(state.add(child(Kind.MOLD, Phase.STARTING, generation=2)), 1.0)
    actions = decide(state, 1.0)
    assert Start(Kind.WORKER, "default", 0, 2) in actions
    assert not any(isinstance(one, Drain) for one in actions)
    assert sum(isinstance(one, Start) for one in actions) == 1
    new = state.add(child(Kind.WORKER, Phase.STARTING, slot=0, generation=2))
    state.ready(new, 2.0)
    old = next(one for one in state.workers() if one.slot == 0 and one.generation == 1)
    assert Drain(old, plan().limits.longest_job_seconds) in decide(state, 2.0)


def test_the_third_draining_generation_is_hurried() -> None:
    state = running(processes=1)
    state.plan = plan(4, processes=1)
    oldest = worker(state)
    older = [state.add(child(Kind.WORKER, generation=generation)) for generation in (2, 3)]
    for one in (oldest, *older):
        one.phase, one.leave_by = Phase.LEAVING, 1e9
    assert [action for action in decide(state, 1.0) if isinstance(action, Drain)] == [Drain(oldest, 0.0)]
    oldest.leave_by = 1.0
    assert not any(isinstance(action, Drain) for action in decide(state, 1.0))


def test_reloads_that_failed_or_left_a_pool_alone_hurry_nobody_at_the_next_one() -> None:
    state = running(processes=1)
    state.plan = plan(7, processes=1)
    one = worker(state)
    one.phase, one.leave_by = Phase.LEAVING, 1e9
    assert not any(isinstance(one, Drain) for one in decide(state, 1.0))


def test_a_worker_that_is_too_many_in_a_pool_of_an_old_generation_is_not_hurried() -> None:
    state = running(processes=2)
    old = state.plan
    state.plan = keeping(plan(9), old, ["default"])
    state.plan = replace(state.plan, pools={"default": replace(old.pools["default"], processes=1)})
    one = worker(state, 1)
    assert decide(state, 1.0) == [Drain(one, old.limits.longest_job_seconds)]
    one.phase, one.leave_by = Phase.LEAVING, 1e9
    assert decide(state, 1.0) == []


def test_a_plan_is_adopted_before_anything_else_is_decided() -> None:
    state = running(processes=1)
    state.died(worker(state), ExitReason(Cause.CRASH_SIGNAL, 9), 4.0, 0.0)
    state.propose(replace(plan(2), pools={"other": PoolPlan("other", 1, "default", generation=2)}), 5.0)
    state.ready(state.add(child(Kind.MOLD, Phase.STARTING, generation=2)), 6.0)
    assert state.candidate is not None
    assert decide(state, 6.0) == [Adopt(state.candidate)]  # and no worker for a pool that is gone with it


def test_nobody_drains_for_a_new_worker_that_is_killed_at_the_same_moment() -> None:
    state = running(processes=1)
    worker(state).worn = "restart by hand"
    new = state.add(child(Kind.WORKER))
    new.overdue = "j"
    assert decide(state, 1.0) == [Kill(new, ExitReason(Cause.OVERDUE), "j", "timeout")]


def test_a_mold_that_could_not_be_started_for_a_reload_is_tried_again_after_a_pause() -> None:
    state = running()
    state.backoff("mold:default").not_before = 35.0
    state.propose(plan(2), 5.0)
    assert decide(state, 5.0) == [Start(Kind.MOLD, "default", 0, 2)]  # what failed before does not hold it up
    state.backoff("mold:default").not_before = 5.1
    assert decide(state, 5.0) == []
    assert decide(state, 5.1) == [Start(Kind.MOLD, "default", 0, 2)]


def test_a_reload_or_restart_during_a_roll_makes_no_heap_of_old_workers() -> None:
    state = running(processes=1)
    state.plan = plan(3, processes=1)
    state.ready(state.add(child(Kind.MOLD, Phase.STARTING, generation=3)), 1.0)
    first = worker(state)
    second = state.add(child(Kind.WORKER, generation=2))
    actions = decide(state, 1.0)
    assert [one for one in actions if isinstance(one, Drain)] == [Drain(first, plan().limits.longest_job_seconds)]
    assert Start(Kind.WORKER, "default", 0, 3) in actions
    assert second.phase is Phase.READY


# -- anything in any order ---------------------------------------------------------------------------------


class Simulation:
    """A kernel without mercy: what was started may become ready, die, hang or be silent; signals come any time."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.now = 0.0
        self.generation = 1
        self.state = State(plan=plan(), server_wanted=True, web_wanted=True)
        self.exit: int | None = None

    def act(self) -> None:
        for _ in range(50):
            actions = decide(self.state, self.now)
            if not actions or self.exit is not None:
                return
            for action in actions:
                self.do(action)
        pytest.fail(f"deciding does not end: {actions}")

    def do(self, action: decisions.Action) -> None:
        state = self.state
        match action:
            case Start(kind, name, slot, generation):
                assert state.mode is Mode.RUN
                made = state.add(Child(kind, name, slot, generation, started_at=self.now))
                made.pid = made.key
            case Drain(one, seconds) | Leave(one, seconds):
                assert one.key in state.children
                if one.phase is not Phase.KILLING:
                    one.phase, one.leave_by = Phase.LEAVING, self.now + seconds
            case Kill(one, reason):
                assert one.phase is not Phase.KILLING
                one.phase, one.killed_at, one.kill_reason = Phase.KILLING, self.now, reason
                one.leave_by = float("inf")
            case Report(one):
                one.reported = True
            case Adopt(new):
                assert new is state.candidate
                state.plan, state.candidate = new, None
            case Abandon():
                state.candidate = None
            case Stop(code):
                state.stop(self.now, code)
            case Exit(code):
                assert not [one for one in state.children.values() if not one.lost(self.now)]
                self.exit = code

    def chance(self) -> None:
        state, dice = self.state, self.dice
        for one in list(state.children.values()):
            roll = dice.random()
            if one.phase is Phase.KILLING:
                if roll < 0.9:
                    state.died(one, one.kill_reason or ExitReason(Cause.PLANNED), self.now, dice.random())
            elif one.phase is Phase.LEAVING and roll < 0.5:
                state.died(one, ExitReason(Cause.PLANNED), self.now, dice.random())
            elif one.phase is Phase.STARTING and roll < 0.6:
                state.ready(one, self.now)
            elif roll > 0.98:
                state.died(one, ExitReason(Cause.CRASH_SIGNAL, 9), self.now, dice.random(), jobs=1)
            elif one.kind is Kind.WORKER and roll < 0.9:
                one.beat_at = self.now
        if dice.random() < 0.05 and state.mode is Mode.RUN:
            self.generation += 1
            state.propose(plan(self.generation, processes=dice.randint(1, 4)), self.now)

    def check(self) -> None:
        state = self.state
        for pool in state.plan.pools.values():
            current = [
                one.slot
                for one in state.workers()
                if one.serving and one.generation == state.plan.generation and one.name == pool.name
            ]
            assert len(current) == len(set(current)), "two workers of one generation in a slot"
        for kind in (Kind.SERVER, Kind.STEWARD, Kind.WEB):
            assert len(state.of(kind, self.now)) <= 1


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_slots_are_never_doubled_and_a_stop_always_ends(seed: int) -> None:
    world = Simulation(seed)
    for _ in range(300):
        world.act()
        world.check()
        world.chance()
        world.now += world.dice.choice([0.01, 0.5, 0.5, 3.0])
        if world.exit is not None:
            return
    world.state.stop(world.now)
    stopped_at = world.now
    while world.exit is None:
        world.act()
        world.check()
        world.chance()
        world.now += 0.5
        assert world.now - stopped_at < 120


@pytest.mark.parametrize("seed", range(10))
def test_left_alone_everything_comes_up_and_stays(seed: int) -> None:
    world = Simulation(seed)
    for _ in range(200):
        world.act()
        for one in list(world.state.children.values()):
            if one.phase is Phase.STARTING and world.dice.random() < 0.5:
                world.state.ready(one, world.now)
            one.beat_at = world.now
        world.now += 0.1
    assert world.state.settled
    assert decide(world.state, world.now) == []
