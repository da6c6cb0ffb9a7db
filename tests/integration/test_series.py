"""History: rings that add up what workers told, forget by themselves, and survive a spoilt key; marks of deploys."""

from __future__ import annotations

import msgspec
import pytest

from rrqd.model.figures import Tallied
from rrqd.model.lifecycle import End
from rrqd.model.series import GRADES_SECONDS, RINGS, Ring, grades_of, quantile, read_points
from rrqd.store import Store
from tests.support.moves import raw

KEPT = 100_000


def seen(queue: str, *times: float, function: str = "f", end: End = End.COMPLETE) -> dict[tuple[str, str], Tallied]:
    one = Tallied()
    for seconds in times:
        one.add(end, seconds, seconds)
    return {(queue, function): one}


async def test_every_ring_adds_up_by_queue_and_over_all(store: Store) -> None:
    await store.add_figures("w1", 1, {**seen("mail", 0.25, 3.0), **seen("x", 1.0, function="g")}, KEPT)
    await store.add_figures("w2", 1, seen("mail", 0.25, end=End.RETRY), KEPT)
    await store.add_figures("w2", 2, seen("mail", 0.25, end=End.BURY), KEPT)
    for span, ring in RINGS.items():
        points = await store.series(span, "mail")
        assert len(points) == ring.slots
        ended = [point for point in points if point.completed]
        assert [(p.completed, p.retried, p.buried, p.failed) for p in ended] == [(2, 1, 1, 2)], span
        wait, run = ended[0].wait, ended[0].run
        assert wait is not None
        assert run is not None
        assert (wait.count, run.count) == (4, 2)
        assert (wait.mean_seconds, run.mean_seconds) == (pytest.approx(0.9375), pytest.approx(1.625))
        assert 0.2 <= wait.p50_seconds <= 0.5 < 2.0 <= wait.p95_seconds <= 5.0
        assert sum(point.completed for point in await store.series(span)) == 3
    assert (await store.series("hours", "nobody"))[-1].wait is None
    assert await store.functions() == ["g", "f"] or await store.functions() == ["f", "g"]
    assert [(await store.figures_of_function(name))[0].completed for name in ("f", "g")] == [2, 1]


async def test_a_slot_of_an_older_round_begins_anew_and_the_ring_expires(store: Store) -> None:
    await store.add_figures("w1", 1, seen("mail", 1.0), KEPT)
    (slot,) = await raw(store, "HKEYS", "rrqd:series:m:mail")
    old = msgspec.msgpack.encode([1, [9, 9, 9, 9, 9], [9, 9.0, [0, 9]], [0, 0, []]])
    await raw(store, "HSET", "rrqd:series:m:mail", slot, old)
    await store.add_figures("w1", 2, seen("mail", 1.0), KEPT)
    assert sum(point.completed for point in await store.series("minutes", "mail")) == 1
    assert 0 < await raw(store, "TTL", "rrqd:series:m:mail") <= RINGS["minutes"].seconds * RINGS["minutes"].slots
    await raw(store, "HSET", "rrqd:series:m:mail", slot, "no slot")
    assert sum(point.completed for point in await store.series("minutes", "mail")) == 0
    await raw(store, "SET", "rrqd:series:h:mail", "no ring")
    await store.add_figures("w1", 3, seen("mail", 1.0), KEPT)
    assert sum(point.completed for point in await store.series("minutes", "mail")) == 1


async def test_a_deploy_leaves_one_mark(store: Store) -> None:
    assert await store.note_deploy("start", "n", "7:1", 1, "1.0")
    assert not await store.note_deploy("start", "n", "7:1", 1, "1.0")
    assert await store.note_deploy("reload", "n", "7:1", 2, "1.0")
    marks = await store.deploys()
    assert [(one.kind, one.generation, one.node) for one in marks] == [("reload", 2, "n"), ("start", 1, "n")]
    assert await store.deploys(since_ms=marks[0].at_ms + 1000) == []


def test_periods_in_which_nothing_ended_are_there_and_empty() -> None:
    ring = Ring("m", 60, 3)
    slot = msgspec.msgpack.encode([10, [1, 0, 0, 0, 0], [1, 2.0, [11, 1]], [0, 0, []]])
    points = read_points(
        ring, {b"1": slot, b"0": b"\xff", b"2": msgspec.msgpack.encode([4, [7] * 5, [0, 0, []], []])}, 660_500
    )
    assert [(point.at_ms, point.completed) for point in points] == [(540_000, 0), (600_000, 1), (660_000, 0)]


def test_a_quantile_lies_within_its_grade() -> None:
    pairs = [(GRADES_SECONDS.index(1.0), 90), (GRADES_SECONDS.index(10.0), 10)]
    assert 1.0 < quantile(pairs, 0.5) < 2.0
    assert quantile(pairs, 0.95) == 15.0
    assert quantile([], 0.5) == 0.0
    assert grades_of({"s37": 2, "s45": 1, "d3": 1}) == [GRADES_SECONDS.index(30.0), 3, len(GRADES_SECONDS) - 1, 1]
