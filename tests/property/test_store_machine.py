"""The real store beside its model, under moves in any order: after each one every job lies in exactly one place, the
same one in both, and no key is left of what is over.

The normal suite tries the same orders every time. ``RRQD_MACHINE_EXAMPLES=5000`` tries that many new ones.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from rrqd.exc import InvalidRequest, UnknownParent
from rrqd.model.lifecycle import End
from rrqd.model.steps import Step
from rrqd.model.verdict import Verdict
from rrqd.store import Charge, Settlement, Store, StorePolicy
from rrqd.store.keys import DUE_DIGITS
from rrqd.upkeep.kin import Kin
from tests.property.model import Model, ModelJob
from tests.support.moves import Hand, hand, job

T = TypeVar("T")

LONG = int(os.environ.get("RRQD_MACHINE_EXAMPLES", "0"))
EXAMPLES, STEPS = LONG or 125, 50
STEPS_AT_LEAST = 0 if LONG else 5_000
QUEUES = ("a", "b")
WORKERS = ("worker-1", "worker-2")
FAR_MS = 3_600_000
#: Kinds of our own keys in which jobs wait, and the turns of tenants.
PLACES = ("prio", "fair", "turns", "later", "alone", "depends")

queues = st.sampled_from(QUEUES)
workers = st.sampled_from(WORKERS)
priorities = st.sampled_from([0, 0, 1, 1, 5, -1, 2**53, -0.5])
tenants = st.sampled_from(["", "", "x", "y"])
policies = st.sampled_from(["hold", "cancel", "run"])
picks = st.integers(0, 10_000)
some_picks = st.lists(picks, max_size=3)
ends = st.sampled_from([End.COMPLETE, End.COMPLETE, End.RETRY, End.SNOOZE, End.BURY, End.CANCEL])


class Machine(RuleBasedStateMachine):
    """Each rule is one move, made on both."""

    runner: asyncio.Runner
    store: Store
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.tokens: dict[str, int] = {}
        self.hands: dict[str, Hand] = {}
        self.number = 0
        self.wait_for(self.begin())

    async def begin(self) -> None:
        self.link = await self.store.link()
        await self.link.call("FLUSHALL")
        for name in WORKERS:
            self.hands[name] = await hand(self.store, name)

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def pick(self, ids: list[str], number: int) -> str | None:
        return ids[number % len(ids)] if ids else None

    def some(self, numbers: list[int]) -> tuple[str, ...]:
        ids = self.model.ids()
        return tuple(dict.fromkeys(ids[number % len(ids)] for number in numbers)) if ids else ()

    # -- the moves -----------------------------------------------------------------------------------------

    @rule(
        queue=queues, priority=priorities, far=st.booleans(), numbers=some_picks, on_parent=policies, tenant=tenants
    )  # fmt: skip
    def enqueue(self, queue: str, priority: float, far: bool, numbers: list[int], on_parent: str, tenant: str) -> None:
        self.number += 1
        parents = self.some(numbers)
        policy = on_parent if parents else "hold"
        mine = ModelJob(f"j{self.number}", queue, priority, far, on_parent=policy, tenant=tenant)
        new = job(
            mine.id, queue=queue, priority=priority or None, delay_ms=FAR_MS if far else 0, parents=parents,
            on_parent=on_parent, tenant=tenant or None,
        )  # fmt: skip
        assert self.model.enqueue(mine, parents)
        self.wait_for(self.store.enqueue_many([new]))

    @rule(queue=queues, count=st.integers(2, 6), priority=priorities, tenant=tenants)
    def enqueue_a_batch(self, queue: str, count: int, priority: float, tenant: str) -> None:
        batch = []
        for _ in range(count):
            self.number += 1
            self.model.enqueue(ModelJob(f"j{self.number}", queue, priority, tenant=tenant), ())
            batch.append(job(f"j{self.number}", queue=queue, priority=priority or None, tenant=tenant or None))
        self.wait_for(self.store.enqueue_many(batch))

    @rule(numbers=some_picks)
    def enqueue_for_a_stranger(self, numbers: list[int]) -> None:
        with pytest.raises(UnknownParent):
            self.wait_for(self.store.enqueue_many([job("never", parents=(*self.some(numbers), "stranger"))]))

    @rule(
        worker=workers, queues=st.sampled_from([["a"], ["b"], ["a", "b"]]), limit=st.integers(1, 4), again=st.booleans()
    )
    def claim(self, worker: str, queues: list[str], limit: int, again: bool) -> None:
        hand = self.hands[worker]
        hand.queues = queues
        claim = self.wait_for(hand.claim(limit))
        first = hand.turn % len(queues)
        expected = self.model.claim(worker, queues[first:] + queues[:first], limit, hand.turn)
        assert [one.id for one in claim.jobs] == expected
        if again and expected:
            claim = self.wait_for(hand.claim(limit, again=True))
            assert sorted(one.id for one in claim.jobs) == sorted(expected)
        self.tokens.update({one.id: one.token for one in claim.jobs})

    @rule(worker=workers, number=picks, end=ends, far=st.booleans(), twice=st.booleans())
    def settle(self, worker: str, number: int, end: End, far: bool, twice: bool) -> None:
        job_id = self.pick(self.model.held_by(worker), number)
        if job_id is None:
            return
        result = b"1" if end is End.COMPLETE else b""
        verdict = Verdict(end=end, result=result, error="why", ttl_seconds=600, delay_ms=FAR_MS if far else 0)
        for _ in range(1 + twice):
            assert self.settle_one(worker, job_id, verdict) == "ok"
        self.model.settle(job_id, end.value, far)

    def settle_one(self, worker: str, job_id: str, verdict: Verdict) -> str:
        settlement = Settlement(job_id, self.tokens[job_id], verdict)
        return self.wait_for(self.store.settle(worker, [settlement]))[0]

    @rule(worker=workers, number=picks, queue=queues, numbers=some_picks, on_parent=policies)
    def advance(self, worker: str, number: int, queue: str, numbers: list[int], on_parent: str) -> None:
        job_id = self.pick(self.model.held_by(worker), number)
        if job_id is not None:
            parents = self.some(numbers)
            step = Step(queue=queue, parents=parents, on_parent=on_parent)
            assert self.settle_one(worker, job_id, Verdict(end=End.ADVANCE, result=b"1", step=step)) == "ok"
            self.model.advance(job_id, queue, parents, on_parent)

    @rule(worker=workers, death=st.booleans())
    def lose_a_worker(self, worker: str, death: bool) -> None:
        death = death and len(self.model.held_by(worker)) == 1
        charge = Charge.DEATH if death else Charge.NOBODY
        self.wait_for(self.store.close_worker(worker, reason="test", charge=charge))
        self.hands[worker] = self.wait_for(hand(self.store, worker))
        self.model.release(worker, death)

    @rule(number=picks)
    def cancel(self, number: int) -> None:
        job_id = self.pick(self.model.ids(), number)
        if job_id is not None:
            assert self.wait_for(self.store.cancel(job_id)) == self.model.cancel(job_id)

    @rule(number=picks)
    def revive(self, number: int) -> None:
        job_id = self.pick(self.model.ids(lambda one: one.place == "dlq"), number)
        if job_id is not None:
            assert self.wait_for(self.store.revive([job_id])) == [job_id]
            self.model.revive(job_id)

    @rule(
        number=picks,
        queue=queues,
        far=st.none() | st.booleans(),
        priority=st.none() | priorities,
        running=st.booleans(),
    )
    def move(self, number: int, queue: str, far: bool | None, priority: float | None, running: bool) -> None:
        job_id = self.pick(self.model.ids(), number)
        if job_id is not None:
            states = ("waiting", "buried", "running") if running else ("waiting", "buried")
            delay_ms = None if far is None else FAR_MS if far else 0
            said = self.wait_for(
                self.store.move([job_id], queue=queue, delay_ms=delay_ms, priority=priority, states=states)
            )
            assert said == [self.model.move(job_id, queue, far, priority, running)]

    @rule(number=picks, priority=priorities)
    def prioritise(self, number: int, priority: float) -> None:
        job_id = self.pick(self.model.ids(), number)
        if job_id is not None:
            answer = self.wait_for(self.store.prioritise(job_id, priority or None))
            assert answer == self.model.prioritise(job_id, priority)

    @precondition(lambda self: self.model.jobs)
    @rule(number=picks, other=picks)
    def depend(self, number: int, other: int) -> None:
        ids = self.model.ids()
        job_id, parent = ids[number % len(ids)], ids[other % len(ids)]
        expected = self.model.depend(job_id, parent)
        if expected == "cycle":
            with pytest.raises(InvalidRequest):
                self.wait_for(self.store.depend(job_id, [parent]))
        else:
            assert self.wait_for(self.store.depend(job_id, [parent])) == expected

    @rule(number=picks, other=picks)
    def undepend(self, number: int, other: int) -> None:
        job_id = self.pick(self.model.ids(lambda one: bool(one.waits)), number)
        if job_id is not None:
            parent = sorted(self.model.jobs[job_id].waits)[other % len(self.model.jobs[job_id].waits)]
            answer = self.wait_for(self.store.undepend(job_id, [parent]))
            assert answer == self.model.undepend(job_id, parent)

    @rule(number=picks)
    def purge(self, number: int) -> None:
        """And the steward looks for parents that are gone."""
        job_id = self.pick(self.model.ids(lambda one: not one.place.startswith("held:")), number)
        if job_id is not None:
            assert self.wait_for(self.store.purge([job_id])).removed == [job_id]
            self.model.purge(job_id)
            self.wait_for(Kin(self.store).run_once(0))

    # -- what always holds ---------------------------------------------------------------------------------

    @invariant()
    def both_are_the_same(self) -> None:
        type(self).steps += 1
        self.wait_for(self.compare())

    async def compare(self) -> None:
        call, keys = self.link.call, self.store.keys
        zsets = {
            (kind, queue): call("ZRANGE", getattr(keys, kind)(queue), 0, -1)
            for kind in ("queue", "prio", "fair", "later", "alone", "depends")
            for queue in QUEUES
        }
        held = {name: call("HKEYS", keys.held(name)) for name in WORKERS}
        dlq = call("LRANGE", keys.dlq("default"), 0, -1)
        statuses = {one: call("HGET", keys.job(one), "status") for one in self.model.jobs}
        turns = {queue: call("ZRANGE", keys.turns(queue), 0, -1, "WITHSCORES") for queue in QUEUES}
        times = {queue: call("HGET", keys.facts, f"fair {queue}") for queue in QUEUES}
        ours = call("KEYS", "rrqd:*")
        there: list[tuple[str, str, str]] = []
        for (kind, queue), members in zsets.items():
            start = DUE_DIGITS + 1 if kind in ("prio", "fair", "alone") else 0
            there += [(member[start:].decode(), kind, queue) for member in await members]
        for name, ids in held.items():
            there += [(one.decode(), f"held:{name}", self.model.jobs[one.decode()].queue) for one in await ids]
        there += [(one.decode(), "dlq", self.model.jobs[one.decode()].queue) for one in await dlq]
        wanted = [(one.id, one.kind, one.queue) for one in self.model.jobs.values() if one.place != "none"]
        assert sorted(there) == sorted(wanted)
        found = {one: (await status).decode() for one, status in statuses.items()}
        assert found == {one.id: one.status for one in self.model.jobs.values()}
        now = {queue: float(at) for queue, time in times.items() if (at := await time) is not None}
        assert now == self.model.now
        ahead = {(queue, name.decode()): float(at) for queue, turn in turns.items() for name, at in await turn}
        assert {key: at for key, at in ahead.items() if at > now[key[0]]} == {
            key: at for key, at in self.model.turns.items() if at > now[key[0]]
        }
        assert {key.decode() for key in await ours} - self.standing_keys() == self.family_keys()

    def standing_keys(self) -> set[str]:
        """Keys that need not be there, and keys of places, which have just been compared."""
        keys = self.store.keys
        names = {keys.token, keys.nodes, keys.seen, keys.queues, keys.dlqs, keys.facts, keys.node("node-1")}
        for name in WORKERS:
            names |= {keys.worker(name), keys.held(name)}
        return names | {getattr(keys, kind)(one) for kind in PLACES for one in QUEUES}

    def family_keys(self) -> set[str]:
        """Exactly what the waits of all jobs need."""
        keys, names = self.store.keys, set()
        for one in self.model.jobs.values():
            for parent in one.waits:
                names |= {keys.parents(one.id), "rrqd:kin"}
                names.add(keys.children(parent) if one.on_parent == "hold" else keys.heirs(parent))
        return names


@pytest.mark.timeout(0 if LONG else 120)
def test_the_store_does_what_its_model_does(dsn: str) -> None:
    how = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        derandomize=not LONG,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    with asyncio.Runner() as runner:
        Machine.runner, Machine.steps = runner, 0
        Machine.store = runner.run(Store.open(dsn, StorePolicy(), client_name="rrqd:test"))
        run_state_machine_as_test(Machine, settings=how)
        runner.run(Machine.store.close())
    assert Machine.steps >= STEPS_AT_LEAST
