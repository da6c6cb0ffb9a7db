"""settle, advance: the same job goes on in another queue, with other work, and ends once."""

from __future__ import annotations

from typing import Any

import pytest

from rrqd.model.lifecycle import End
from rrqd.model.steps import Step
from rrqd.runner import NextStep
from rrqd.runtime import outcomes
from rrqd.store import Store
from tests.support.moves import Hand, hand, job, known, place_of, raw


async def advance(worker: Hand, claimed: Any, result: bytes = b"null", **words: Any) -> str:
    delay_ms = words.pop("delay_ms", 0)
    step = Step(delay_ms=delay_ms, **words)
    return await worker.settle(claimed, End.ADVANCE, step=step, result=result, error="", delay_ms=delay_ms)


async def test_the_same_job_waits_in_its_next_queue_with_other_work(store: Store) -> None:
    await store.enqueue_many([job("a", queue="sow", priority=2)])
    worker = await hand(store, queues=["sow", "reap"])
    (a,) = await worker.take()

    assert await advance(worker, a, b'{"seeds": []}', queue="reap", function="cut", params=b'{"big":9007199254740993}')

    assert await place_of(store, "a") == ["prio:reap"]
    (again,) = await worker.take()
    assert (again.id, again.queue, again.function, again.attempt) == ("a", "reap", "cut", 1)
    assert again.params == {"big": 9007199254740993}
    await worker.settle(again, result=b"7")
    ended = await known(store, "a")
    assert (ended.status, ended.result, len(ended.steps)) == ("COMPLETED", 7, 1)
    (step,) = ended.steps
    assert (step["queue"], step["function"], step["worker"], step["result"]) == (
        "sow",
        "noop",
        "worker-1",
        {"seeds": []},
    )
    assert step["began"] < step["ended"]
    assert len(await raw(store, "XRANGE", "rrq:events:job:a", "-", "+")) == 1


async def test_what_is_left_out_stays_and_attempts_start_afresh(store: Store) -> None:
    await store.enqueue_many([job("a", params=b'{"n":1}')])
    worker = await hand(store)
    (a,) = await worker.take()
    await worker.settle(a, End.RETRY)
    (a,) = await worker.take()
    assert a.attempt == 2

    await advance(worker, a, delay_ms=60_000)

    fields = (await known(store, "a")).fields
    assert (fields["status"], fields["function_name"], fields["job_params"]) == ("PENDING", "noop", '{"n":1}')
    assert "last_error" not in fields
    assert await worker.take() == []
    (due,) = await raw(store, "ZRANGE", "rrq:queue:default", 0, 0)
    assert due == b"a"


async def test_a_lost_answer_may_be_asked_for_again(store: Store) -> None:
    await store.enqueue_many([job("a")])
    worker = await hand(store, queues=["default", "next"])
    (a,) = await worker.take()
    assert await advance(worker, a, queue="next") == "ok"
    assert await advance(worker, a, queue="next") == "ok"
    assert (await known(store, "a")).number("rrqd_step") == 1
    await worker.take()
    assert await advance(worker, a, queue="next") == "stale"


async def test_children_hear_of_the_end_and_of_no_step(store: Store) -> None:
    await store.enqueue_many([job("a"), job("child", parents=("a",))])
    worker = await hand(store)
    (a,) = await worker.take()
    await advance(worker, a)
    assert await place_of(store, "child") == ["depends:default"]
    (a,) = await worker.take()
    await worker.settle(a)
    assert await place_of(store, "child") == ["queue:default"]


async def test_a_step_may_wait_for_others(store: Store) -> None:
    await store.enqueue_many([job("a"), job("b")])
    worker = await hand(store)
    a, b = await worker.take()

    await advance(worker, a, parents=("b",), on_parent="cancel", priority=5)
    assert await place_of(store, "a") == ["depends:default"]
    await worker.settle(b, result=b'"done"')

    (a,) = await worker.take()
    assert a.parent_results["b"] is not None
    assert a.parent_results["b"].result == "done"
    await advance(worker, a, parents=("b",), priority=0)
    assert await place_of(store, "a") == ["queue:default"]


async def test_a_step_that_can_not_be_is_buried_and_says_why(store: Store) -> None:
    await store.enqueue_many([job("a"), job("b"), job("c"), job("child", parents=("b",))])
    await raw(store, "SET", "rrq:queue:bad", "text")
    worker = await hand(store)
    a, b, c = await worker.take()

    await advance(worker, a, parents=("nobody",))
    await advance(worker, b, parents=("child",))
    await advance(worker, c, queue="bad")

    assert (await known(store, "a")).last_error == "Its next step depends on job nobody, which is not there."
    assert (await known(store, "b")).last_error == "Its next step depends on job child, which waits for this one."
    assert (await known(store, "c")).last_error == "rrq:queue:bad holds something that is not a queue."
    assert await place_of(store, "a") == ["dlq:default"]


async def test_a_step_is_cancelled_when_somebody_asked_or_a_parent_has_failed(store: Store) -> None:
    await store.enqueue_many([job("a"), job("b"), job("gone")])
    await store.cancel("gone")
    worker = await hand(store)
    a, b = await worker.take()
    await store.cancel("a")

    await advance(worker, a)
    await advance(worker, b, parents=("gone",), on_parent="cancel")

    for job_id in ("a", "b"):
        assert (await known(store, job_id)).status == "CANCELLED"
        assert await place_of(store, job_id) == []


async def test_history_is_capped_and_large_results_are_left_out(store: Store) -> None:
    await store.enqueue_many([job("a")])
    await raw(store, "HSET", "rrq:job:a", "rrqd_step", "100", "rrqd_step:1", "{}")
    worker = await hand(store)
    (a,) = await worker.take()

    await advance(worker, a, b'"' + b"x" * 5000 + b'"')

    fields = (await known(store, "a")).fields
    assert "rrqd_step:1" not in fields
    assert "result" not in (await known(store, "a")).steps[-1]


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (NextStep(queue=" "), "queue cannot be blank"),
        (NextStep(function=7), "function must be text"),  # type: ignore[arg-type]
        (NextStep(params=[1]), "params must be a mapping"),  # type: ignore[arg-type]
        (NextStep(params={"x": float("nan")}), "params cannot be written as JSON"),
        (NextStep(delay_seconds=-1), "delay_seconds must be a number >= 0"),
        (NextStep(on_parent="die"), "on_parent must be one of"),
        (NextStep(priority=float("inf")), "priority must be a number"),
    ],
)
def test_what_a_handler_asks_for_in_a_wrong_way_fails_this_step(step: NextStep, why: str) -> None:
    from rrqd.model.verdict import Failed
    from rrqd.runner import ExecutionOutcome

    outcome = outcomes.from_value(ExecutionOutcome(status="success", next=step), 10_000, 1000)

    assert isinstance(outcome, Failed)
    assert outcome.type == "InvalidNextStep"
    assert why in outcome.message


async def test_a_job_under_a_throttle_lets_go_of_it_with_each_step(store: Store) -> None:
    await store.set_throttle("api", 1)
    await store.enqueue_many([job("a", throttles=("api",)), job("b", throttles=("api",))])
    worker = await hand(store)
    (a,) = await worker.take()

    await advance(worker, a, priority=0)

    assert await place_of(store, "a") == ["prio:default"], "out of real workers' reach"
    assert await store.throttle_holders("api") == []
    assert [one.id for one in await worker.take()] == ["b"]


async def test_a_child_under_a_throttle_waits_for_both(store: Store) -> None:
    await store.set_throttle("api", 1)
    await store.enqueue_many([job("a"), job("b", throttles=("api",)), job("c", throttles=("api",), parents=("a",))])
    worker = await hand(store)
    a, b = sorted(await worker.take(), key=lambda one: one.id)
    await worker.settle(a)
    assert await worker.take() == []
    await worker.settle(b)
    assert [one.id for one in await worker.take()] == ["c"]
