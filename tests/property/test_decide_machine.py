"""`decide` against a kernel, workers and an operator that do anything in any order: hypothesis looks for the order that
breaks a claim of `world`, and shows the shortest one.

The normal suite tries the same orders every time. ``RRQD_MACHINE_EXAMPLES=5000`` tries that many new ones.
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from rrqd.supervisor.children import Child, Kind, Mode, Phase, State
from rrqd.supervisor.plans import Limits
from tests.property.claims import TURN_SECONDS
from tests.property.world import Table, World, those

LONG = int(os.environ.get("RRQD_MACHINE_EXAMPLES", "0"))
EXAMPLES = LONG or 500
STEPS = 50
STEPS_AT_LEAST = 0 if LONG else 20_000
"""Hypothesis tries short orders, too: not all steps that there could be are made."""
NOTICED_SECONDS = 0.003
"""From an event to the turn of the master that it causes."""
GROWN_UP = 12
"""Steps that a daemon has seen before anybody stops it: a short life is no test."""

PATIENT = Limits()
HASTY = Limits(boot_seconds=10, stop_seconds=5, grace_seconds=2.9, hang_seconds=4.1)
AT_ONCE = replace(HASTY, stop_seconds=0)

limits = st.sampled_from([PATIENT, HASTY, AT_ONCE])
sizes = st.sampled_from([1, 2, 3, 8])
pool_names = st.sampled_from(["a", "b"])
tables = st.dictionaries(pool_names, st.tuples(sizes, st.sampled_from(["numpy", "pandas"])), min_size=1)
places = st.integers(0, 40)
ends = st.one_of(st.sampled_from([0, 1, 70, 78, -9, -11, -15]), st.integers(-64, 255))
byes = st.sampled_from(["", "", "", "drained", "boot-config:no module", "lease-lost"])
silences = st.sampled_from(["hangs", "frozen", "starved"])
jobs = st.sampled_from([("", 0.0), ("j", 0.0), ("j", 1.0), ("j", 7.7)])
"""Whom a silence may be the fault of, and its time limit in seconds."""
waits = st.sampled_from([0.01, 0.1, 0.3, 0.7, 1.3, 2.1, 4.7, 5.3, 11.0, 31.0, 65.0])


class Machine(RuleBasedStateMachine):
    """Each rule is one event; the master turns after each, but for those that come together."""

    steps = 0
    whole = False
    """No claim has failed yet."""

    @initialize(table=tables, limits=limits, server=st.booleans(), web=st.booleans(), warm=st.booleans())
    def begin(self, table: Table, limits: Limits, server: bool, web: bool, warm: bool) -> None:
        self.first = (table, limits, server, web)
        self.together = self.age = 0
        self.world = World(*self.first, now=1000.1)
        if warm:
            self.world.turn()
            self.world.settle(the_lost_stay=False)
        self.happened()

    def happened(self) -> None:
        """Something has; the master may notice."""
        Machine.steps += 1
        self.age += 1
        self.whole = False
        self.noticed = not self.together
        if self.noticed:
            self.world.now += NOTICED_SECONDS
            self.world.turn()
        else:
            self.together -= 1
        self.begin_again_after_an_exit()
        self.whole = True

    def begin_again_after_an_exit(self) -> None:
        if self.world.exit is not None:
            self.world = World(*self.first, now=self.world.now)
            self.age = 0
            self.world.turn()

    @property
    def state(self) -> State:
        return self.world.state

    def one(self, place: int, *phases: Phase, workers: bool = False) -> Child | None:
        """One of those in these phases."""
        there = those(self.state.children.values(), *phases)
        if workers:
            there = [one for one in there if one.kind is Kind.WORKER]
        return there[place % len(there)] if there else None

    # -- time ----------------------------------------------------------------------------------------------

    @rule(seconds=waits)
    def time_goes_by(self, seconds: float) -> None:
        self.world.let_pass(seconds)
        self.happened()

    @rule(seconds=waits)
    def the_master_sleeps(self, seconds: float) -> None:
        self.world.now += seconds
        self.happened()

    @rule(events=st.integers(1, 4))
    def the_next_come_together(self, events: int) -> None:
        self.happened()
        self.together = events

    # -- children ------------------------------------------------------------------------------------------

    @rule(place=places)
    def a_child_says_hello(self, place: int) -> None:
        child = self.one(place, Phase.STARTING, Phase.LEAVING, Phase.KILLING)
        if child is not None:
            self.world.hello(child)
        self.happened()

    @rule(place=places)
    def a_child_is_ready(self, place: int) -> None:
        child = self.one(place, Phase.STARTING) or self.one(place, Phase.LEAVING)
        if child is not None:
            self.world.ready(child)
        self.happened()

    @rule()
    def all_are_ready(self) -> None:
        for child in those(self.state.children.values(), Phase.STARTING):
            self.world.ready(child)
        self.happened()

    @rule(place=places, how=ends, bye=byes, chance=st.sampled_from([0.0, 0.3, 1.0]), jobs=st.integers(0, 1))
    def a_child_dies(self, place: int, how: int, bye: str, chance: float, jobs: int) -> None:
        child = self.one(place, *Phase)
        if child is not None:
            self.world.dies(child, how, bye, chance, jobs)
        self.happened()

    @rule(how=ends, bye=byes)
    def all_that_start_die(self, how: int, bye: str) -> None:
        for child in those(self.state.children.values(), Phase.STARTING):
            if child.key in self.state.children:
                self.world.dies(child, how, bye)
        self.happened()

    @rule(how=st.sampled_from([0, 1, -9, -15]))
    def all_that_should_go_are_gone(self, how: int) -> None:
        for child in those(self.state.children.values(), Phase.LEAVING, Phase.KILLING):
            if child.key in self.state.children:
                self.world.dies(child, how)
        self.happened()

    @rule(place=places, why=silences, job=jobs, seconds=st.sampled_from([0.0, 4.7, 45.0]), asleep=st.booleans())
    def a_worker_falls_silent(self, place: int, why: str, job: tuple[str, float], seconds: float, asleep: bool) -> None:
        """And the master, too, perhaps, before it has seen that."""
        child = self.one(place, Phase.READY, workers=True) or self.one(place, Phase.LEAVING, workers=True)
        if child is not None:
            self.world.falls_silent(child, *job, frozen=why == "frozen", starved=why == "starved")
            if asleep:
                self.world.now += seconds
            self.world.let_pass(TURN_SECONDS if asleep else seconds)
        self.happened()

    @rule(place=places, beats=st.booleans())
    def a_worker_comes_to_itself(self, place: int, beats: bool) -> None:
        silent = [one for one in self.state.workers() if self.world.processes[one.key].silent]
        if silent:
            child = silent[place % len(silent)]
            (self.world.beats_again if beats else self.world.thaws)(child)
        self.happened()

    @rule(place=places, bursts=st.booleans())
    def a_worker_is_past_bearing(self, place: int, bursts: bool) -> None:
        child = self.one(place, Phase.READY, Phase.LEAVING, workers=True)
        if child is not None and bursts:
            self.world.bursts(child)
        elif child is not None:
            self.world.is_overdue(child, "late")
        self.happened()

    @rule(times=st.sampled_from([1, 2, 25]))
    def forks_fail(self, times: int) -> None:
        self.world.failing_starts = times
        self.happened()

    # -- the operator --------------------------------------------------------------------------------------

    @precondition(lambda self: self.state.mode is Mode.RUN)
    @rule(table=tables, limits=limits, config_only=st.booleans(), same=st.booleans())
    def somebody_reloads(self, table: Table, limits: Limits, config_only: bool, same: bool) -> None:
        self.world.reload(self.world.tables[self.state.plan.generation] if same else table, limits, config_only)
        self.happened()

    @precondition(lambda self: self.state.mode is Mode.RUN)
    @rule(place=places, processes=sizes)
    def somebody_scales(self, place: int, processes: int) -> None:
        pools = list(self.state.plan.pools)
        self.world.scale(pools[place % len(pools)], processes)
        self.happened()

    @rule(names=st.sets(pool_names), node=st.booleans())
    def somebody_pauses_these_and_resumes_the_others(self, names: set[str], node: bool) -> None:
        self.state.paused, self.state.quiet = names, node and not names
        self.happened()

    @rule(place=places, everybody=st.booleans())
    def workers_are_worn(self, place: int, everybody: bool) -> None:
        there = [one for one in self.state.workers() if one.serving]
        for child in there if everybody or not there else [there[place % len(there)]]:
            child.worn = "restart by hand"
        self.happened()

    @precondition(lambda self: self.state.mode is Mode.STOP or self.age >= GROWN_UP)
    @rule(times=st.sampled_from([1, 1, 2, 3]), asleep_seconds=st.sampled_from([0.0, 0.0, 4.7, 31.0]))
    def somebody_stops_it(self, times: int, asleep_seconds: float) -> None:
        for _ in range(times):
            self.world.stop()
        self.world.now += asleep_seconds
        self.happened()

    # -- the end of all trouble ----------------------------------------------------------------------------

    @rule(the_lost_stay=st.booleans(), jobs_go_on=st.booleans())
    def all_trouble_ends(self, the_lost_stay: bool, jobs_go_on: bool) -> None:
        self.happened()
        self.world.turn()
        self.world.settle(the_lost_stay, jobs_go_on)
        self.begin_again_after_an_exit()

    def teardown(self) -> None:
        if self.whole:
            self.world.turn()
            self.world.settle(the_lost_stay=True)
            if self.world.exit is None:
                self.world.stop_against_all_odds()

    # -- claims --------------------------------------------------------------------------------------------

    @invariant()
    def the_table_is_as_claimed(self) -> None:
        if self.noticed:
            self.world.claim_one_of_each_service_serves()
            self.world.claim_no_slot_is_doubled()
            self.world.claim_no_slot_piles_up()
            self.world.claim_the_paused_are_quiet()
            self.world.claim_nobody_serves_who_should_not()


@pytest.mark.timeout(0 if LONG else 240)
def test_whatever_happens_in_whatever_order_every_claim_holds() -> None:
    Machine.steps = 0
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            derandomize=not LONG,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
            report_multiple_bugs=False,
        ),
    )
    print(f"{Machine.steps} steps")
    assert Machine.steps >= STEPS_AT_LEAST
