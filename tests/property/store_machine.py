"""Moves in any order, each made on the real store and on its model; after each one ``likeness`` compares them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rrqd.exc import InvalidRequest, UnknownParent
from rrqd.model.job import NewJob
from rrqd.model.lifecycle import End
from rrqd.model.recurring import Recurring
from rrqd.model.steps import Step
from rrqd.model.verdict import Verdict
from rrqd.store import Charge, Settlement, Store
from tests.property import likeness
from tests.property.draws import (
    HOURLY,
    Wishes,
    ends,
    limits,
    options_of,
    picks,
    policies,
    priorities,
    queues,
    seldom,
    some_picks,
    wishes,
    workers,
)  # fmt: skip
from tests.property.likeness import HOUR_MS, QUEUES, RATES, TAGS, TENANTS, WORKERS
from tests.property.model import Model, Template
from tests.property.places import ModelJob
from tests.support.moves import Hand, hand, job

T = TypeVar("T")

#: Hours until everybody's turn has come, at most.
DRAINS_MOST = 300


class Machine(RuleBasedStateMachine):
    """Each rule is one move, made on both."""

    runner: asyncio.Runner
    store: Store
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.model = Model(RATES)
        self.tokens: dict[str, int] = {}
        #: Runs that were taken from their workers: (worker, job, token).
        self.lost: list[tuple[str, str, int]] = []
        self.hands: dict[str, Hand] = {}
        self.number = itertools.count(1)
        self.sound = False
        self.wait_for(self.begin())

    async def begin(self) -> None:
        self.link = await self.store.link()
        await self.link.call("FLUSHALL")
        self.view = likeness.View(self.store, self.link)
        for name in WORKERS:
            self.hands[name] = await hand(self.store, name)

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        self.sound = False
        return self.runner.run(work)

    def pick(self, ids: list[str], number: int) -> str | None:
        return ids[number % len(ids)] if ids else None

    def some(self, numbers: list[int]) -> tuple[str, ...]:
        ids = self.model.ids()
        return tuple(dict.fromkeys(ids[number % len(ids)] for number in numbers)) if ids else ()

    def lose(self, worker: str, job_ids: list[str]) -> None:
        self.lost += [(worker, job_id, self.tokens[job_id]) for job_id in job_ids]

    @initialize(limited=st.dictionaries(limits, st.sampled_from([0, 1, 1, 2])))
    def limit(self, limited: dict[str, int]) -> None:
        for name, most in limited.items():
            self.set_throttle(name, most, False)

    # -- into a queue --------------------------------------------------------------------------------------

    def both(self, queue: str, wish: Wishes, **more: Any) -> tuple[ModelJob, NewJob]:
        """A new job, as each of them is told of it."""
        mine = ModelJob(f"j{next(self.number)}", queue, **wish)
        words = {name: value for name, value in wish.items() if name not in ("tracked", "rate")}
        return mine, job(mine.id, queue=queue, **{
            **words, "priority": mine.priority or None, "tenant": mine.tenant or None, "track": mine.tracked,
            "rate": HOURLY.get(mine.rate), **more,
        })  # fmt: skip

    @rule(queue=queues, wish=wishes, far=seldom, numbers=some_picks, on_parent=policies, again=st.booleans())
    def enqueue(self, queue: str, wish: Wishes, far: bool, numbers: list[int], on_parent: str, again: bool) -> None:
        parents = self.some(numbers)
        mine, new = self.both(
            queue, wish, delay_ms=HOUR_MS if far else 0, parents=parents, on_parent=on_parent
        )  # fmt: skip
        mine.on_parent = on_parent if parents else "hold"
        self.model.enqueue([(mine, far)], parents)
        self.wait_for(self.store.enqueue_many([new]))
        if again:
            self.wait_for(self.store.enqueue_many([new], repeated=True))

    @rule(queue=queues, count=st.integers(2, 6), wish=wishes)
    def enqueue_a_batch(self, queue: str, count: int, wish: Wishes) -> None:
        batch = [self.both(queue, wish) for _ in range(count)]
        self.model.enqueue([(mine, False) for mine, _ in batch])
        self.wait_for(self.store.enqueue_many([new for _, new in batch]))

    @rule(numbers=some_picks)
    def enqueue_for_a_stranger(self, numbers: list[int]) -> None:
        with pytest.raises(UnknownParent):
            self.wait_for(self.store.enqueue_many([job("never", parents=(*self.some(numbers), "stranger"))]))

    @rule(
        queue=queues, wish=wishes, hours=st.integers(-3, 1), backlog=st.sampled_from([0, 0, 1, 2]), unique=st.booleans()
    )  # fmt: skip
    def begin_to_recur(self, queue: str, wish: Wishes, hours: int, backlog: int, unique: bool) -> None:
        name = f"r{next(self.number)}"
        one = Recurring(
            id=name, function="noop", options=options_of(queue, wish), interval_ms=HOUR_MS, next_ms=0,
            backlog=backlog, unique=unique,
        )  # fmt: skip
        next_one = self.model.tick(hours)
        self.model.templates[name] = Template(ModelJob(name, queue, **wish), next_one, backlog, unique)
        assert self.wait_for(self.store.put_recurring(one, offset_ms=hours * HOUR_MS))

    @rule()
    def recur(self) -> None:
        self.model.recur()
        self.wait_for(self.view.recur())

    @precondition(lambda self: self.model.templates)
    @rule(number=picks)
    def end_to_recur(self, number: int) -> None:
        name = list(self.model.templates)[number % len(self.model.templates)]
        del self.model.templates[name]
        assert self.wait_for(self.store.remove_recurring(name))

    # -- a run ---------------------------------------------------------------------------------------------

    @rule(
        worker=workers, queues=st.sampled_from([["a"], ["b"], ["a", "b"], ["b", "a"]]), limit=st.integers(1, 4),
        again=st.booleans(),
    )  # fmt: skip
    def claim(self, worker: str, queues: list[str], limit: int, again: bool) -> None:
        hand = self.hands[worker]
        hand.queues = queues
        last = max(self.tokens.values(), default=0)
        running = self.model.held_by(worker)
        claim = self.wait_for(hand.claim(limit, len(running)))
        expected = self.model.claim(worker, queues, limit, hand.turn)
        assert [one.id for one in claim.jobs] == expected, f"not {expected}"
        if again and expected:
            claim = self.wait_for(hand.claim(limit, len(running), again=True))
            assert sorted(one.id for one in claim.jobs) == sorted(expected)
        assert all(one.token > last for one in claim.jobs)
        self.tokens.update({one.id: one.token for one in claim.jobs})
        if any(self.model.jobs[one].suspect for one in expected):
            assert len(running) + len(expected) == 1, f"one of {expected} should run alone"
        for name in self.model.limits:
            mine = [one for one in expected if name in self.model.jobs[one].holds]
            assert not mine or self.model.room(name) >= 0, f"more run under {name} than may"

    @rule(worker=workers, number=picks, end=ends, far=seldom, twice=st.booleans())
    def settle(self, worker: str, number: int, end: End, far: bool, twice: bool) -> None:
        job_id = self.pick(self.model.held_by(worker), number)
        if job_id is None:
            return
        result = {End.COMPLETE: b"1", End.DIVERT: b"b"}.get(end, b"")
        verdict = Verdict(end=end, result=result, error="why", ttl_seconds=600, delay_ms=HOUR_MS if far else 0)
        for _ in range(1 + twice):
            assert self.settle_one(worker, job_id, self.tokens[job_id], verdict) == "ok"
        self.model.settle(job_id, end.value, far)

    def settle_one(self, worker: str, job_id: str, token: int, verdict: Verdict) -> str:
        return self.wait_for(self.store.settle(worker, [Settlement(job_id, token, verdict)]))[0]

    @rule(worker=workers, limit=st.integers(1, 4), settled=st.lists(st.tuples(picks, ends), max_size=3))
    def work(self, worker: str, limit: int, settled: list[tuple[int, End]]) -> None:
        self.claim(worker, list(QUEUES), limit, False)
        for number, end in settled:
            self.settle(worker, number, end, False, False)

    @precondition(lambda self: self.lost)
    @rule(number=picks, end=ends)
    def settle_what_was_lost(self, number: int, end: End) -> None:
        worker, job_id, token = self.lost[number % len(self.lost)]
        verdict = Verdict(end=end, result=b"2", error="late", ttl_seconds=600)
        said = self.settle_one(worker, job_id, token, verdict)
        assert said == ("stale" if job_id in self.model.jobs else "gone")

    @rule(
        worker=workers, number=picks, queue=queues, far=seldom, numbers=some_picks, on_parent=policies,
        priority=st.none() | priorities,
    )  # fmt: skip
    def advance(
        self,
        worker: str,
        number: int,
        queue: str,
        far: bool,
        numbers: list[int],
        on_parent: str,
        priority: float | None,
    ) -> None:
        job_id = self.pick(self.model.held_by(worker), number)
        if job_id is not None:
            parents = self.some(numbers)
            step = Step(queue=queue, parents=parents, on_parent=on_parent, priority=priority)
            verdict = Verdict(end=End.ADVANCE, result=b"1", step=step, delay_ms=HOUR_MS if far else 0)
            assert self.settle_one(worker, job_id, self.tokens[job_id], verdict) == "ok"
            self.model.advance(job_id, queue, far, parents, on_parent, priority)

    @rule(worker=workers, charge=st.sampled_from(list(Charge)), number=st.none() | picks)
    def lose_a_worker(self, worker: str, charge: Charge, number: int | None) -> None:
        held = self.model.held_by(worker)
        self.lose(worker, held)
        culprit = None if number is None else self.pick(held, number)
        self.wait_for(self.store.close_worker(worker, reason="test", charge=charge, culprit=culprit))
        self.hands[worker] = self.wait_for(hand(self.store, worker))
        self.model.release(worker, charge.value, culprit)

    @rule(worker=workers)
    def lose_two(self, worker: str) -> None:
        """One after the other, with the same jobs aboard."""
        for _ in range(2):
            self.claim(worker, list(QUEUES), 3, False)
            self.lose_a_worker(worker, Charge.DEATH, None)

    @rule(worker=workers, number=picks)
    def release(self, worker: str, number: int) -> None:
        job_id = self.pick(self.model.held_by(worker), number)
        if job_id is not None:
            self.lose(worker, [job_id])
            self.wait_for(self.store.release(worker, [(job_id, self.tokens[job_id])], "drain"))
            self.model.release_one(job_id)

    # -- by hand -------------------------------------------------------------------------------------------

    @rule(numbers=st.lists(picks, min_size=1, max_size=4))
    def cancel(self, numbers: list[int]) -> None:
        job_ids = self.some(numbers)
        assert self.wait_for(self.store.cancel_many(job_ids)) == self.model.cancel(job_ids)

    @rule(number=picks)
    def revive(self, number: int) -> None:
        job_id = self.pick(self.model.ids(lambda one: one.place == "dlq"), number)
        if job_id is not None:
            assert self.wait_for(self.store.revive([job_id])) == [job_id]
            self.model.revive(job_id)

    @rule(
        number=picks,
        queue=st.none() | queues,
        far=st.none() | st.booleans(),
        priority=st.none() | priorities,
        running=st.booleans(),
    )
    def move(self, number: int, queue: str | None, far: bool | None, priority: float | None, running: bool) -> None:
        job_id = self.pick(self.model.ids(), number)
        if job_id is not None:
            states = ("waiting", "buried", "running") if running else ("waiting", "buried")
            delay_ms = None if far is None else HOUR_MS if far else 0
            if running and self.model.jobs[job_id].held:
                self.lose(self.model.jobs[job_id].place.split()[1], [job_id])
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
        """And the steward looks for parents that are gone, and for entries of indexes."""
        job_id = self.pick(self.model.ids(lambda one: not one.held), number)
        if job_id is not None:
            assert self.wait_for(self.store.purge([job_id])).removed == [job_id]
            self.model.purge(job_id)
            self.wait_for(self.view.tidy())

    @rule(number=picks, tag=st.sampled_from(TAGS), on=st.booleans())
    def tag(self, number: int, tag: str, on: bool) -> None:
        job_id = self.pick(self.model.ids(), number)
        if job_id is not None:
            mine = self.model.jobs[job_id]
            others = tuple(one for one in mine.tags if one != tag or (on and tag in mine.tags))
            mine.tags = (*others, tag) if on and tag not in others else others
            move = self.store.tag if on else self.store.untag
            assert self.wait_for(move(job_id, [tag])) == list(mine.tags)

    @rule(number=picks, on=st.booleans())
    def track(self, number: int, on: bool) -> None:
        job_id = self.pick(self.model.ids(), number)
        if job_id is not None:
            move = self.store.track if on else self.store.untrack
            assert self.wait_for(move(job_id)) == self.model.track(job_id, on)

    @rule(names=st.lists(queues, min_size=1, unique=True), on=st.booleans())
    def pause(self, names: list[str], on: bool) -> None:
        move = self.store.pause_queues if on else self.store.resume_queues
        assert self.wait_for(move(names)) == [name for name in names if (name in self.model.paused) != on]
        self.model.paused = self.model.paused | set(names) if on else self.model.paused - set(names)

    @rule(tenant=st.sampled_from(TENANTS), weight=st.sampled_from([0.5, 1, 1, 2, 4]))
    def weigh(self, tenant: str, weight: float) -> None:
        self.model.weights[tenant] = weight
        self.wait_for(self.store.set_weight(tenant, weight))

    # -- throttles and time --------------------------------------------------------------------------------

    @rule(name=limits, most=st.integers(0, 3), expires=st.sampled_from([False, False, True]))
    def set_throttle(self, name: str, most: int, expires: bool) -> None:
        fresh = self.wait_for(self.store.set_throttle(name, most, expires_seconds=3600 if expires else None))
        assert fresh == self.model.set_throttle(name, most, expires)

    @rule(name=limits)
    def delete_throttle(self, name: str) -> None:
        assert self.wait_for(self.store.delete_throttle(name)) == self.model.delete_throttle(name)

    @rule(name=limits, numbers=some_picks)
    def free_by_hand(self, name: str, numbers: list[int]) -> None:
        job_ids = self.some(numbers)
        if job_ids:
            assert self.wait_for(self.store.free_throttle(name, job_ids)) == self.model.free(name, job_ids)

    @rule()
    def tend(self) -> None:
        assert self.wait_for(self.store.tend_throttles()) == self.model.tend_all()

    @rule()
    def an_hour_passes(self) -> None:
        self.wait_for(self.view.an_hour_passes(self.model))
        self.model.an_hour_passes()

    # -- what always holds ---------------------------------------------------------------------------------

    @invariant()
    def both_are_the_same(self) -> None:
        type(self).steps += 1
        self.wait_for(self.view.compare(self.model))
        self.sound = True

    def teardown(self) -> None:
        """Everybody's turn comes: in the end nothing waits but for what will never be."""
        if not self.sound:
            return
        self.pause(list(QUEUES), False)
        for name, limit in list(self.model.limits.items()):
            if limit.most == 0:
                self.set_throttle(name, 1, False)
        for _ in range(DRAINS_MOST):
            if not self.model.ids(lambda one: one.queued or one.held):
                break
            self.an_hour_passes()
            self.tend()
            for worker in WORKERS:
                self.claim(worker, list(QUEUES), 20, False)
                for _ in self.model.held_by(worker):
                    self.settle(worker, 0, End.COMPLETE, False, False)
            self.both_are_the_same()
        assert not self.model.ids(lambda one: one.queued or one.held)
