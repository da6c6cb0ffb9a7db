"""The order of queues: everybody gets a share, weights are kept over time, strict is strict."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrqd.model.queue_buckets import Bucket
from rrqd.runtime.order import QUEUES_MOST, BucketOrder, QueueOrder, Rounds, interleave
from rrqd.store import Claim
from rrqd.store.records import ClaimState


def first_of(order: QueueOrder, turns: int) -> Counter[str]:
    return Counter(order.plan(turn, 1)[0].queue for turn in range(1, turns + 1))


def test_without_weights_each_queue_is_first_in_its_turn() -> None:
    assert first_of(QueueOrder(["a", "b", "c"]), 300) == {"a": 100, "b": 100, "c": 100}


def test_weights_are_kept_with_one_slot() -> None:
    order = QueueOrder(["a", "b", "c"], weights={"a": 3, "c": 2})

    assert first_of(order, 600) == {"a": 300, "b": 100, "c": 200}


def test_a_heavy_queue_comes_evenly_and_not_all_at_once() -> None:
    round_ = "".join(interleave({"a": 4, "b": 2})) * 2
    assert "aaa" not in round_
    assert len(interleave({"a": 50, "b": 100})) == 3


def test_shares_are_as_the_weights() -> None:
    order = QueueOrder(["mail", "rest"], weights={"mail": 3})

    assert dict(order.plan(1, 8)) == {"mail": 6, "rest": 2}
    assert dict(order.plan(2, 2)) == {"mail": 2, "rest": 1}


def test_strict_keeps_the_order_and_gives_the_first_all_it_can_use() -> None:
    order = QueueOrder(["high", "low"], strict=True)

    for turn in range(5):
        assert order.plan(turn, 7) == [("high", 7), ("low", 7)]


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 100), min_size=1),
    st.integers(1, 10_000),
    st.integers(1, 1000),
)
def test_every_queue_is_tried_once_and_can_take_something(weights: dict[str, int], turn: int, limit: int) -> None:
    plan = QueueOrder(list(weights), weights=weights).plan(turn, limit)

    assert sorted(queue for queue, _ in plan) == sorted(weights)
    assert all(share >= 1 for _, share in plan)
    assert sum(share for _, share in plan) >= limit


NOTHING, FULL = Claim(state=ClaimState.OK), Claim(state=ClaimState.OK, full=True)


@pytest.mark.parametrize("strict", [False, True])
def test_a_worker_of_many_queues_looks_at_all_of_them_part_by_part_before_it_rests(strict: bool) -> None:
    names = [f"tenant-{nth}" for nth in range(3 * QUEUES_MOST + 7)]
    rounds = Rounds(QueueOrder(names, strict=strict))
    for start in (1, 5):
        seen: set[str] = set()
        for turn in range(start, start + 4):
            plan = rounds.plan(turn, 10)
            assert len(plan) <= QUEUES_MOST
            assert sum(share for _, share in plan) >= 10
            seen |= {queue for queue, _ in plan}
            due_ms = 1000.0 + turn if turn < start + 3 else None
            answer = rounds.learn(msgspec.structs.replace(NOTHING, next_due_ms=due_ms))
            assert answer.more == (turn < start + 3)
        assert seen == set(names)
        assert answer.next_due_ms == 1000.0 + start, "the next of all"


def test_after_a_full_claim_a_whole_round_begins() -> None:
    rounds = Rounds(QueueOrder([str(nth) for nth in range(2 * QUEUES_MOST)]))

    assert [rounds.learn(claim).more for claim in (NOTHING, FULL, NOTHING, NOTHING, NOTHING)] == [
        True, True, True, False, True,
    ]  # fmt: skip


def test_few_queues_are_one_part() -> None:
    rounds = Rounds(QueueOrder(["a", "b"]))

    assert [one.queue for one in rounds.plan(3, 1)] == ["b", "a"]
    assert rounds.learn(NOTHING) is NOTHING


def test_buckets_come_one_after_the_other_and_fair_ones_turn() -> None:
    buckets = [Bucket(["vip-*", "!vip-slow"]), Bucket([], fairly=True), Bucket(["bulk", "vip-slow"])]
    order = BucketOrder(["bulk", "a", "vip-slow", "vip-2", "b", "vip-1"], buckets)

    for turn in range(4):
        queues = [queue for queue, share in order.plan(turn, 7) if share == 7]
        assert queues == ["vip-1", "vip-2", *("ab" if turn % 2 == 0 else "ba"), "bulk", "vip-slow"]


def test_weights_count_in_a_fair_bucket() -> None:
    order = BucketOrder(["a", "b", "c"], [Bucket(["a", "b"], fairly=True)], weights={"a": 3})

    assert first_of(order, 400) == {"a": 300, "b": 100}
    assert order.plan(1, 1)[-1].queue == "c"


def test_many_queues_in_buckets_are_looked_at_part_by_part() -> None:
    names = [f"tenant-{nth}" for nth in range(2 * QUEUES_MOST + 7)]
    order = BucketOrder(names, [Bucket(["tenant-*"], fairly=True)])

    assert sorted(one.queue for part in range(order.parts) for one in order.plan(3, 1, part)) == sorted(names)
