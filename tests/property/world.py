"""A master without processes: its table, a kernel that does what it is told to, and a claim for everything it may do.

What `acts`, `ends`, `watch`, `reloads` and the master's loop do to the table is done here to the table alone. Every
action that `decide` asks for is held against the claims in `claims` before it is carried out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import fields, replace
from operator import attrgetter
from typing import Any

from rrqd.supervisor import decisions
from rrqd.supervisor.actions import Abandon, Action, Adopt, Drain, Exit, Kill, Leave, Quiet, Report, Start, Stop
from rrqd.supervisor.backoff import Backoff
from rrqd.supervisor.children import (
    Cause,
    Child,
    ExitReason,
    Kind,
    Mode,
    Phase,
    State,
    exit_reason,
)
from rrqd.supervisor.plans import Limits, MoldSpec, Plan, PoolPlan, keeping
from tests.property.claims import TURN_SECONDS, Claims, Process

ROUNDS = 20
"""So often the master decides in one turn. There must be nothing left to do before that."""
PAUSE_SECONDS = decisions.TICK_SECONDS + 1.0
SETTLE_SECONDS = 45.0
"""The longest back-off is 30 s; who is stuck in the kernel is lost after 5."""

Table = dict[str, tuple[int, str]]
"""Pool -> processes and what its mold preloads: what a file says, as far as it matters here."""

_child_fields = attrgetter(*(one.name for one in fields(Child) if one.name != "memory_trail"))
_backoff_fields = attrgetter(*(one.name for one in fields(Backoff)))
_state_fields = attrgetter(
    *(one.name for one in fields(State) if one.name not in ("children", "backoffs", "ever_ready", "paused", "sizes"))
)


def plan_of(table: Table, generation: int, limits: Limits) -> Plan:
    """As from settings: pools with the same preload share a mold, which has the first one's name."""
    molds: dict[str, MoldSpec] = {}
    pools = {}
    for name, (processes, preload) in table.items():
        spec = molds.setdefault(preload, MoldSpec(name, "m:r", (preload,)))
        pools[name] = PoolPlan(name, processes, spec.name, (name,), generation)
    return Plan(generation, pools, {(spec.name, generation): spec for spec in molds.values()}, limits)


def photograph(state: State) -> tuple[Any, ...]:
    """All that the table says, to be compared with what it says later."""
    return (
        _state_fields(state),
        [(key, _child_fields(one), tuple(one.memory_trail)) for key, one in state.children.items()],
        [(label, _backoff_fields(one)) for label, one in state.backoffs.items()],
        (set(state.ever_ready), set(state.paused), dict(state.sizes), dict(state.exits)),
    )


class World(Claims):
    """The table, and what is really there. Events are methods in the words of whoever causes them; `turn` is one turn
    of the master's loop."""

    def __init__(self, table: Table, limits: Limits, server: bool, web: bool, now: float) -> None:
        self.now = now
        self.last_turn = now
        self.awake_since = 0.0
        self.awake_seconds = 0.0
        self.tables = {1: table}
        self.generation = 1
        self.state = State(plan=plan_of(table, 1, limits), server_wanted=server, web_wanted=web)
        self.processes: dict[int, Process] = {}
        self.was_ready: set[str] = set()
        self.pauses: dict[str, float] = {}
        self.probed: set[str] = set()
        self.failing_starts = 0
        self.stop_wishes: list[float] = []
        self.exit: int | None = None

    # -- the master's loop -------------------------------------------------------------------------------

    def turn(self) -> None:
        """Hear, look, decide, act."""
        self._observe()
        actions: list[Action] = []
        for _ in range(ROUNDS):
            actions = self._decide()
            for action in actions:
                self._do(action)
                if self.exit is not None:
                    return
            if not actions:
                break
        assert not actions, f"deciding and acting come to no end: {actions}"
        self.claim_a_stop_ends()

    def let_pass(self, seconds: float) -> None:
        """Time goes by, and the master turns."""
        until = self.now + seconds
        while self.now < until and self.exit is None:
            self.now = min(until, self.now + TURN_SECONDS)
            self.turn()

    def _observe(self) -> None:
        state, away = self.state, self.now - self.last_turn
        self.awake_seconds += min(away, TURN_SECONDS)
        if away > PAUSE_SECONDS:
            state.trust_after = self.awake_since = self.now
        self.last_turn = self.now
        for child in list(state.children.values()):
            process = self.processes[child.key]
            if not process.silent:
                process.beat_at = self.now
            if child.pid is None and child.lost(self.now):
                self.bury(child)
            elif child.kind is Kind.WORKER and child.ready_at is not None and child.phase is not Phase.KILLING:
                self._read_page(child, process)

    def _read_page(self, child: Child, process: Process) -> None:
        child.beat_at = process.beat_at
        if self.now - child.beat_at < decisions.SUSPECT_SECONDS:
            child.reported, child.suspect_job, child.suspect_deadline = False, "", 0.0
            child.stopped = child.starved = False
            return
        child.suspect_job, child.suspect_deadline = process.job, process.deadline
        if child.stopped and not process.frozen:
            child.thawed_at = process.thawed_at = self.now
        child.stopped, child.starved = process.frozen, process.starved

    def _decide(self) -> list[Action]:
        before = photograph(self.state)
        actions = decisions.decide(self.state, self.now)
        assert photograph(self.state) == before, "deciding has changed the table"
        self.pauses = {label: backoff.not_before for label, backoff in self.state.backoffs.items()}
        self.probed = {label for label, backoff in self.state.backoffs.items() if backoff.probing}
        moment = decisions.next_moment(self.state, self.now)
        assert self.now < moment <= self.now + decisions.TICK_SECONDS
        return actions

    # -- acting ------------------------------------------------------------------------------------------

    def _do(self, action: Action) -> None:
        state = self.state
        match action:
            case Start():
                self.claim_a_start_is_due(action)
                self._start(action)
            case Drain(child, seconds):
                self.claim_a_drain_costs_nothing(child, seconds)
                self._leave(child, seconds)
            case Leave(child, seconds):
                assert child.kind is not Kind.WORKER
                self.claim_only_unwanted_molds_leave(child)
                self._leave(child, seconds)
            case Kill(child):
                self.claim_a_kill_is_deserved(action)
                self.claim_a_culprit_is_known(action)
                self.kill(child, action.reason)
            case Quiet(child, quiet):
                child.quiet = quiet
            case Report(child):
                assert self.processes[child.key].silent
                child.reported = True
            case Adopt(plan):
                self._adopt(plan)
            case Abandon(plan):
                self.claim_a_candidate_failed(plan)
                state.candidate = None
            case Stop(code):
                self.claim_a_start_is_hopeless()
                assert code != 0
                self.stop(code)
            case Exit(code):
                self.claim_nobody_is_left(code)
                self.exit = code

    def _start(self, action: Start) -> None:
        child = Child(action.kind, action.name, action.slot, action.generation, started_at=self.now)
        if self.failing_starts:
            self.failing_starts -= 1
            backoff = self.state.backoff(child.label)
            backoff.failures = max(backoff.failures, 1)
            backoff.failed(self.now, 1.0)
            return
        if child.kind is not Kind.WORKER:
            child.pid = child.key
        self.processes[self.state.add(child).key] = Process(self.now)

    def _leave(self, child: Child, seconds: float) -> None:
        if child.phase is not Phase.KILLING:
            child.phase, child.leave_by = Phase.LEAVING, self.now + seconds

    def kill(self, child: Child, reason: ExitReason) -> None:
        if child.phase is not Phase.KILLING:
            child.phase, child.killed_at, child.kill_reason = Phase.KILLING, self.now, reason
            child.leave_by = math.inf

    def _adopt(self, plan: Plan) -> None:
        state, before = self.state, self.state.plan
        assert plan is state.candidate
        for name, generation in plan.molds:
            mold = state.mold(name, generation)
            assert generation != plan.generation or (mold is not None and mold.phase is Phase.READY)
        state.plan, state.candidate = plan, None
        for label in [label for label in state.backoffs if label.startswith((Kind.MOLD, Kind.WORKER))]:
            del state.backoffs[label]
        steward = state.service(Kind.STEWARD)
        if steward is not None and list(before.pools) != list(plan.pools):
            self.kill(steward, ExitReason(Cause.PLANNED))
        for name, pool in before.pools.items():
            if name not in plan.pools or plan.pools[name].generation != pool.generation:
                for one in state.workers():
                    self.processes[one.key].replaced += one.name == name

    # -- events: children --------------------------------------------------------------------------------

    def hello(self, child: Child) -> None:
        """Its first word."""
        child.spoke = True
        child.pid = child.key

    def ready(self, child: Child) -> None:
        if child.phase is not Phase.KILLING and child.ready_at is None:
            self.hello(child)
            self.was_ready.add(child.label)
            self.state.ready(child, self.now)

    def dies(self, child: Child, how: int, bye: str = "", chance: float = 1.0, jobs: int = 0) -> None:
        """`how`: its exit code, or a signal's number below zero."""
        if child.pid is None:
            self.bury(child)
            return
        child.bye = bye or child.bye
        code, number = (how, None) if how >= 0 else (None, -how)
        reason = exit_reason(child, code, number, self.state.mode is Mode.STOP)
        self.state.died(child, reason, self.now, chance, bye.partition(":")[2], jobs)
        del self.processes[child.key]
        if child.kind is Kind.MOLD:
            for worker in list(self.state.workers()):
                if worker.pid is None and worker.generation == child.generation:
                    pool = self.state.plan.pools.get(worker.name)
                    if pool is None or pool.mold == child.name:
                        self.bury(worker)

    def bury(self, child: Child) -> None:
        """It was never born."""
        self.state.died(child, ExitReason(Cause.BOOT_ERROR), self.now, 1.0)
        del self.processes[child.key]

    def falls_silent(self, child: Child, job: str, limit_seconds: float, frozen: bool, starved: bool) -> None:
        process = self.processes[child.key]
        if not process.silent:
            process.silent, process.beat_at = True, self.now
            process.job, process.deadline = job, self.now + limit_seconds if job and limit_seconds else 0.0
            process.frozen, process.starved = frozen, starved and not frozen

    def thaws(self, child: Child) -> None:
        """It runs again, and has not beaten yet."""
        self.processes[child.key].frozen = False

    def beats_again(self, child: Child) -> None:
        process = self.processes[child.key]
        process.silent = process.frozen = process.starved = False
        process.job, process.deadline = "", 0.0

    def is_overdue(self, child: Child, job: str) -> None:
        child.overdue = self.processes[child.key].overdue = job

    def bursts(self, child: Child) -> None:
        child.bursting = self.processes[child.key].bursting = True

    # -- events: the operator ----------------------------------------------------------------------------

    def reload(self, table: Table, limits: Limits, config_only: bool) -> None:
        before = self.state.plan
        self.generation += 1
        unchanged = []
        if config_only:
            for name, entry in table.items():
                there = before.pools.get(name)
                if there is not None and entry == self.tables[there.generation].get(name):
                    unchanged.append(name)
        self.tables[self.generation] = table
        self.state.propose(keeping(plan_of(table, self.generation, limits), before, unchanged), self.now)

    def scale(self, name: str, processes: int) -> None:
        pool = self.state.plan.pools[name]
        pools = {**self.state.plan.pools, name: replace(pool, processes=processes)}
        self.state.plan = replace(self.state.plan, pools=pools)

    def stop(self, code: int = 0) -> None:
        if self.state.mode is Mode.RUN:
            self.state.candidate = None
        self.state.stop(self.now, code)
        self.stop_wishes.append(self.awake_seconds)

    # -- after all trouble -------------------------------------------------------------------------------

    def settle(self, the_lost_stay: bool, jobs_go_on: bool = False) -> None:
        """From here on everybody does at once what is asked. Soon everything is as it should be, or has ended.

        `the_lost_stay`: whoever is stuck in the kernel is so for ever. `jobs_go_on`: who drains does so for long.
        """
        self.failing_starts = 0
        until = self.now + SETTLE_SECONDS
        while self.exit is None:
            while self._everybody_obeys(the_lost_stay, jobs_go_on and self.state.mode is Mode.RUN):
                self.turn()
                if self.exit is not None:
                    return
            if self.as_it_should_be():
                return
            assert self.now < until, f"not settled after {SETTLE_SECONDS:g} s without any trouble"
            self.now += decisions.TICK_SECONDS
            self.turn()

    def _everybody_obeys(self, the_lost_stay: bool, jobs_go_on: bool) -> bool:
        changed = False
        stay = {Phase.KILLING: the_lost_stay, Phase.LEAVING: jobs_go_on}
        for child in list(self.state.children.values()):
            if child.key not in self.state.children:
                continue
            if self.processes[child.key].silent:
                self.beats_again(child)
                changed = True
            if child.phase is Phase.STARTING:
                self.ready(child)
                changed = True
            elif not stay.get(child.phase, True):
                self.dies(child, -9 if child.phase is Phase.KILLING else 0)
                changed = True
        return changed

    def as_it_should_be(self) -> bool:
        """Nothing to do, nothing missing, nobody too many."""
        state = self.state
        serving = sorted((one.name, one.slot, one.generation, one.worn) for one in state.workers() if one.serving)
        wanted = sorted(
            (pool.name, slot, pool.generation, "")
            for pool in state.plan.pools.values()
            for slot in range(pool.processes)
        )
        return state.settled and serving == wanted and not decisions.decide(state, self.now)

    def stop_against_all_odds(self) -> None:
        """The wish to stop, and nobody who listens, dies, or says anything any more."""
        if self.state.mode is Mode.RUN:
            self.stop()
        while self.exit is None:
            self.now += TURN_SECONDS
            self.turn()


def those(children: Iterable[Child], *phases: Phase) -> list[Child]:
    """In these phases."""
    return [one for one in children if one.phase in phases]
