"""What must be true of every action that `decide` asks for, and of the table after each turn: one method a claim.

The claims rest on what `world` has seen itself (`Process`, `was_ready`, `awake_since` …), not on what the rows say,
wherever the two could differ.
"""

from __future__ import annotations

from dataclasses import dataclass

from rrqd.supervisor import decisions
from rrqd.supervisor.actions import Kill, Start
from rrqd.supervisor.children import LOST_AFTER_SECONDS, Cause, Child, Kind, Mode, Phase, State
from rrqd.supervisor.keeping import DRAINING_GENERATIONS, SURGE_SHARE
from rrqd.supervisor.plans import Plan

SERVICES = (Kind.SERVER, Kind.STEWARD, Kind.WEB)
TURN_SECONDS = 1.4
"""The slowest loop that is not yet a pause of the master's own."""
TOLD_LEAVE_SECONDS = sum(decisions.LEAVE_SECONDS.values())
STOP_SECONDS = TOLD_LEAVE_SECONDS + (1 + len(decisions.LEAVE_SECONDS)) * (LOST_AFTER_SECONDS + 2 * TURN_SECONDS)
"""After the workers' own deadline a stop takes this long at most: everybody is waited for, killed, and given up."""


@dataclass(slots=True)
class Process:
    """What is true of a process, whatever the table says."""

    beat_at: float = 0.0
    silent: bool = False
    frozen: bool = False
    starved: bool = False
    job: str = ""
    deadline: float = 0.0
    thawed_at: float = 0.0
    overdue: str = ""
    bursting: bool = False
    replaced: int = 0
    """How often its pool has been given new code, or been removed, since it was born."""


class Claims:
    """The half of `World` that judges."""

    now: float
    state: State
    processes: dict[int, Process]
    was_ready: set[str]
    """Labels that were ever ready."""
    awake_since: float
    """When the master last woke from a pause of its own."""
    awake_seconds: float
    """Time that the master had to do something in."""
    stop_wishes: list[float]
    """Awake seconds at each wish to stop."""
    pauses: dict[str, float]
    probed: set[str]
    """Until when a label was not to be started, and of which labels only one, at the moment of deciding."""
    exit: int | None

    # -- claims about actions ----------------------------------------------------------------------------

    def claim_a_start_is_due(self, action: Start) -> None:
        state, kind, name = self.state, action.kind, action.name
        assert state.mode is Mode.RUN, "started while stopping"
        label = f"{kind}:{name}" if kind in (Kind.WORKER, Kind.MOLD) else kind.value
        assert self.pauses.get(label, 0.0) <= self.now, f"{label} was started before its pause was over"
        if kind in SERVICES:
            assert not state.of(kind, self.now), f"a second {kind}"
        elif kind is Kind.MOLD:
            assert state.mold(name, action.generation) is None, "a second mold"
            candidate = state.candidate.molds if state.candidate else {}
            assert (name, action.generation) in {**state.plan.molds, **candidate}
        else:
            self._claim_a_worker_is_due(action)

    def _claim_a_worker_is_due(self, action: Start) -> None:
        state, pool = self.state, self.state.plan.pools[action.name]
        assert action.slot < pool.processes
        assert action.generation == pool.generation
        mold = state.mold(pool.mold, pool.generation)
        assert mold is not None
        assert mold.phase is Phase.READY
        assert Kind.STEWARD in self.was_ready
        mine = [one for one in state.workers() if one.name == pool.name and not one.lost(self.now)]
        here = [one for one in mine if one.slot == action.slot]
        assert not any(one.phase is Phase.KILLING for one in here), "started beside one that is being killed"
        starting = sum(one.phase is Phase.STARTING for one in mine)
        if any(one.serving for one in here):
            assert starting < max(1, pool.processes // SURGE_SHARE), "a roll starts more at a time than its surge"
        elif f"{Kind.WORKER}:{pool.name}" in self.probed:
            assert starting == 0, "more than one at a time is tried of a pool that fails"

    def claim_a_drain_costs_nothing(self, child: Child, seconds: float) -> None:
        """Nobody drains whose work is not taken over, unless there is to be less work done; and nobody is hurried
        because of a roll, except those that are too far behind."""
        state, pool = self.state, self.state.plan.pools.get(child.name)
        assert child.kind is Kind.WORKER
        assert seconds >= 0
        if state.mode is Mode.STOP:
            return
        if child.phase is Phase.LEAVING:
            behind = self.processes[child.key].replaced
            assert behind > DRAINING_GENERATIONS, f"hurried, though its pool was replaced only {behind} times since"
            return
        assert seconds == state.plan.limits.longest_job_seconds, "a roll hurries a job"
        if pool is not None and child.slot < pool.processes and child.phase is Phase.READY:
            others = [one for one in state.workers() if (one.name, one.slot) == (child.name, child.slot)]
            ready = [one for one in others if one is not child and one.phase is Phase.READY]
            assert ready, "drained before its replacement was ready"

    def claim_only_unwanted_molds_leave(self, child: Child) -> None:
        state = self.state
        if state.mode is Mode.RUN:
            assert child.kind is Kind.MOLD
            candidate = state.candidate.molds if state.candidate else {}
            assert (child.name, child.generation) not in {**state.plan.molds, **candidate}

    def claim_a_kill_is_deserved(self, action: Kill) -> None:
        child, limits, process = action.child, self.state.plan.limits, self.processes[action.child.key]
        patience = decisions.STOPPED_FACTOR if process.frozen or process.starved else 1.0
        silent_seconds = self.now - max(process.beat_at, process.thawed_at, self.awake_since)
        match action.reason.cause:
            case Cause.BOOT_ERROR:
                assert child.phase is Phase.STARTING
                assert self.now - max(child.started_at, self.awake_since) > limits.boot_seconds
                assert not (child.spoke and child.kind in (Kind.STEWARD, Kind.SERVER))
            case Cause.PLANNED:
                if self.state.mode is Mode.RUN or self.state.stop_step < 2:
                    assert child.phase is Phase.LEAVING
                    assert self.now >= child.leave_by, "killed before its time was over"
            case Cause.OOM:
                assert process.bursting
            case Cause.HANG if child.kind is Kind.MOLD:
                owed = [one for one in self.state.workers() if one.pid is None and one.generation == child.generation]
                since = [max(one.started_at, self.awake_since) for one in owed]
                assert any(self.now - at > limits.boot_seconds for at in since), "it owes no worker"
            case Cause.HANG:
                assert process.silent, "killed for a silence that is over"
                assert silent_seconds >= limits.hang_seconds * patience, "killed for too short a silence"
            case Cause.OVERDUE:
                if not process.overdue:
                    assert process.silent, "killed for a silence that is over"
                    assert silent_seconds >= decisions.SUSPECT_SECONDS, "killed for too short a silence"
                    assert not process.frozen
                    counted_from = max(process.deadline, process.thawed_at, self.awake_since)
                    assert self.now >= counted_from + limits.grace_seconds * patience, "killed within its grace"
            case other:
                raise AssertionError(f"killed for {other}")

    def claim_a_culprit_is_known(self, action: Kill) -> None:
        process = self.processes[action.child.key]
        if action.reason.cause is Cause.OVERDUE:
            assert action.culprit == (process.overdue or process.job) != ""
        elif action.culprit is not None:
            assert action.reason.cause is Cause.HANG, f"a culprit for {action.reason}"
            assert action.culprit == process.job != ""
            assert not process.frozen, "a job is blamed for a worker that somebody froze"

    def claim_a_candidate_failed(self, plan: Plan) -> None:
        state = self.state
        assert plan is state.candidate
        late = self.now - max(state.candidate_since, self.awake_since) > plan.limits.boot_seconds
        assert state.candidate_error or late

    def claim_a_start_is_hopeless(self) -> None:
        """Once a label was ready it is never given up; and what a reload brought ends nobody."""
        assert self.state.mode is Mode.RUN
        failed = [label for label, one in self.state.backoffs.items() if one.boot_failures or one.config_error]
        if self.state.plan.generation > 1:
            failed = [label for label in failed if label in SERVICES]
        assert set(failed) - self.was_ready - {Kind.WEB.value}, "given up, though it was ready before"

    def claim_nobody_is_left(self, code: int) -> None:
        state = self.state
        assert state.mode is Mode.STOP
        assert code == state.exit_code
        assert all(one.lost(self.now) for one in state.children.values()), "left while somebody was there"

    # -- claims about the table, after each turn ---------------------------------------------------------

    def claim_one_of_each_service_serves(self) -> None:
        for kind in SERVICES:
            assert sum(one.kind is kind and one.serving for one in self.state.children.values()) <= 1

    def claim_no_slot_is_doubled(self) -> None:
        seen = set()
        for one in self.state.workers():
            if one.serving and not one.worn:
                place = (one.name, one.slot, one.generation)
                assert place not in seen, f"two workers of one generation in {place}"
                seen.add(place)

    def claim_no_slot_piles_up(self) -> None:
        """However often somebody reloads or restarts: at most one works in a slot, beside what is starting there."""
        if self.state.mode is Mode.RUN:
            ready = [(one.name, one.slot) for one in self.state.workers() if one.phase is Phase.READY]
            assert len(ready) == len(set(ready)), f"several work in one slot: {sorted(ready)}"

    def claim_the_paused_are_quiet(self) -> None:
        state = self.state
        if state.mode is Mode.RUN:
            for one in state.workers():
                if one.phase is Phase.READY:
                    assert one.quiet == (state.quiet or one.name in state.paused)

    def claim_nobody_serves_who_should_not(self) -> None:
        state = self.state
        if state.mode is Mode.RUN:
            for one in state.workers():
                pool = state.plan.pools.get(one.name)
                assert not one.serving or (pool is not None and one.slot < pool.processes)

    def claim_a_stop_ends(self) -> None:
        """Whatever happens: in the time of the jobs and that of all others, counted while the master was awake. The
        second wish takes the jobs' time, the third hands nothing back any more."""
        if self.state.mode is not Mode.STOP or self.exit is not None:
            return
        limits = self.state.plan.limits
        hand_back = limits.hand_back_seconds
        for wish, seconds in zip(self.stop_wishes, (limits.drain_seconds + hand_back, hand_back, 0.0), strict=False):
            since = self.awake_seconds - wish
            assert since <= seconds + STOP_SECONDS, f"still here {since:.1f} s after the wish to stop"
