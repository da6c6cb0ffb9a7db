"""Who waits for a pause, and who holds it up."""

from __future__ import annotations

import math

from rrqd.supervisor.children import Child, Kind, Phase, State
from rrqd.supervisor.pauses import HEAR_SECONDS, Pauses
from tests.unit.test_decisions import plan


def a_state(*workers: Child) -> State:
    state = State(plan())
    for worker in workers:
        state.children[worker.key] = worker
    return state


def worker(slot: int, phase: Phase = Phase.READY, pool: str = "default") -> Child:
    return Child(Kind.WORKER, pool, slot, phase=phase)


def test_it_answers_when_all_have_said_so() -> None:
    one, two = worker(0), worker(1)
    pauses, answers = Pauses(a_state(one, two, worker(0, pool="other"))), []
    pauses.begin(10.0, ["default"], answers.append)
    one.hushed = True
    pauses.turn(10.1)
    assert (answers, pauses.next_moment) == ([], 10.0 + HEAR_SECONDS)
    two.hushed = True
    pauses.turn(10.2)
    assert (answers, pauses.next_moment) == ([[]], math.inf)


def test_it_waits_no_longer_than_it_says_and_names_who_was_not_heard() -> None:
    one, two = worker(0), worker(1)
    one.hushed = True
    pauses, answers = Pauses(a_state(one, two)), []
    pauses.begin(10.0, ["default"], answers.append)
    pauses.turn(10.0 + HEAR_SECONDS)
    assert answers == [["default/1"]]


def test_workers_that_start_or_leave_hold_nothing_up() -> None:
    pauses, answers = Pauses(a_state(worker(0, Phase.STARTING), worker(1, Phase.LEAVING))), []
    pauses.begin(10.0, ["default"], answers.append)
    pauses.turn(10.0)
    assert answers == [[]]
