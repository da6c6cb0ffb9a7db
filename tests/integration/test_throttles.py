"""Throttles: never more than the limit, nobody forgotten, order kept, and nothing for those who use none."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import structlog

from rrqd.client import RRQClient, SyncRRQClient
from rrqd.exc import InvalidRequest
from rrqd.model.job import ClaimedJob
from rrqd.model.lifecycle import End
from rrqd.model.steps import Step
from rrqd.store import Charge, Store
from rrqd.upkeep.throttling import Throttling
from tests.support.line import Line
from tests.support.moves import Hand, hand, job, known, lapse, raw

API = ("api",)


@pytest.fixture
async def worker(store: Store) -> Hand:
    return await hand(store, queues=["default", "mail"])


def ids(jobs: list[ClaimedJob]) -> list[str]:
    return [one.id for one in jobs]


async def row(store: Store, name: str = "api") -> tuple[int | None, int, int]:
    (one,) = await store.throttle_rows([name])
    return one.limit, one.running, one.waiting


async def throttled(store: Store, limit: int = 1, names: str = "abcd", **fields: Any) -> None:
    await store.set_throttle("api", limit)
    await store.enqueue_many([job(name, **{"throttles": API, **fields}) for name in names])


async def test_no_more_than_the_limit_run_and_the_others_follow_in_order(store: Store, worker: Hand) -> None:
    await throttled(store, 2, "abcde")
    first = await worker.take()
    assert ids(first) == ["a", "b"]
    assert await row(store) == (2, 2, 3)
    assert await worker.take() == []

    await worker.settle(first[1])
    second = await worker.take()
    assert ids(second) == ["c"]
    await worker.settle(first[0])
    await worker.settle(second[0])
    assert ids(await worker.take()) == ["d", "e"]
    assert await row(store) == (2, 2, 0)


async def test_one_limit_holds_over_queues_and_workers(store: Store, worker: Hand) -> None:
    other = await hand(store, "worker-2", queues=["mail"])
    await store.set_throttle("api", 2)
    await store.enqueue_many(
        [job(name, queue=queue, throttles=API) for name, queue in zip("abcd", ["default", "mail"] * 2, strict=True)]
    )
    taken = [*await worker.take(1), *await other.take(), *await worker.take()]
    assert len(taken) == 2
    assert await row(store) == (2, 2, 2)


@pytest.mark.parametrize("end", list(End))
async def test_every_end_of_a_run_lets_the_next_one_go(store: Store, worker: Hand, end: End) -> None:
    await throttled(store, 1, "ab")
    (a,) = await worker.take()
    await worker.settle(a, end, delay_ms=60_000)
    await worker.settle(a, end, delay_ms=60_000)
    assert ids(await worker.take()) == ["b"]
    assert await row(store) == (1, 1, 0)


async def test_whatever_else_ends_a_run_lets_the_next_one_go(store: Store, worker: Hand) -> None:
    await throttled(store, 1, "abc")
    (a,) = await worker.take()
    await store.release("worker-1", [("a", a.token)], "drain")
    assert ids(await worker.take()) == ["a"]  # its own place again
    await store.close_worker("worker-1", reason="died", charge=Charge.DEATH)
    other = await hand(store, "worker-2", "node-2")
    assert ids(await other.take()) == ["a"]
    await lapse(store, "node-2")
    await store.cancel("a")
    await store.close_worker("worker-2", reason="gone", charge=Charge.NODE, only_if_lapsed_node="node-2")
    assert (await known(store, "a")).status == "CANCELLED"
    third = await hand(store, "worker-3")
    assert ids(await third.take()) == ["b"]
    assert await row(store) == (1, 1, 1)


async def test_poison_lets_the_next_one_go(store: Store) -> None:
    await throttled(store, 1, "ab")
    for n in range(3):
        one = await hand(store, f"w{n}")
        assert ids(await one.take()) == ["a"]
        await store.close_worker(f"w{n}", reason="died", charge=Charge.DEATH, culprit="a")
    assert (await known(store, "a")).status == "FAILED"
    assert ids(await (await hand(store)).take()) == ["b"]


async def test_a_job_that_waits_for_a_throttle_can_be_cancelled_and_leaves_no_gap(store: Store, worker: Hand) -> None:
    await throttled(store, 1, "abcd")
    (a,) = await worker.take()
    assert await store.cancel("b") == "cancelled"
    assert await row(store) == (1, 1, 2)
    await worker.settle(a)  # c goes back to its queue …
    assert await store.cancel("c") == "cancelled"  # … and does not keep its turn from d
    assert ids(await worker.take()) == ["d"]


async def test_a_changed_limit_counts_at_once(store: Store, worker: Hand) -> None:
    await throttled(store, 1, "abcdef")
    (a,) = await worker.take()
    await store.set_throttle("api", 3)
    more = await worker.take()
    assert ids(more) == ["b", "c"]
    await store.set_throttle("api", 1)
    await worker.settle(a)
    await worker.settle(more[0])
    assert await worker.take() == []
    await worker.settle(more[1])
    assert ids(await worker.take()) == ["d"]
    assert await store.delete_throttle("api") is True
    assert await store.delete_throttle("api") is False
    assert ids(await worker.take()) == ["e", "f"]


async def test_an_expired_limit_lets_all_go(store: Store, worker: Hand) -> None:
    await throttled(store, 1, "abc")
    await worker.take()
    await worker.take()
    await store.set_throttle("api", 1, expires_seconds=60)
    assert 50 < ((await store.throttle_rows(["api"]))[0].seconds_left or 0) <= 60.001
    await raw(store, "HSET", "rrqd:throttle:api", "until", 1)
    assert (await store.throttle_rows(["api"]))[0].limit is None
    await Throttling(store, structlog.get_logger()).run_once(0.0)
    assert ids(await worker.take()) == ["b", "c"]
    assert await store.throttle_names() == []


async def test_a_limit_of_none_at_all_holds_everything(store: Store, worker: Hand) -> None:
    await throttled(store, 0, "ab")
    assert await worker.take() == []
    await store.set_throttle("api", 5)
    assert ids(await worker.take()) == ["a", "b"]


async def test_a_job_needs_all_its_throttles_and_holds_none_while_it_waits(store: Store, worker: Hand) -> None:
    await store.set_throttle("one", 1)
    await store.set_throttle("two", 1)
    await store.enqueue_many(
        [job("a", throttles=("two",)), job("b", throttles=("one", "two")), job("c", throttles=("one",))]
    )
    (a, c) = await worker.take()
    assert ids([a, c]) == ["a", "c"]
    await worker.settle(a)
    assert await worker.take() == []
    assert await row(store, "one") == (1, 1, 1)  # it waits for the other one now
    await worker.settle(c)
    assert ids(await worker.take()) == ["b"]


async def test_those_behind_a_job_that_needs_more_are_not_forgotten(store: Store, worker: Hand) -> None:
    await store.set_throttle("one", 1)
    await store.set_throttle("two", 1)
    await store.enqueue_many([job("x", throttles=("two",)), job("a", throttles=("one",))])
    x, a = await worker.take()
    await store.enqueue_many([job("b", throttles=("one", "two")), job("c", throttles=("one",))])
    assert await worker.take() == []
    await worker.settle(a)
    assert ids([*await worker.take(), *await worker.take()]) == ["c"]
    await worker.settle(x)
    assert await worker.take() == []


async def test_higher_priority_first_and_equals_in_order_also_after_waiting(store: Store, worker: Hand) -> None:
    await store.set_throttle("api", 1)
    await store.enqueue_many([job("z", throttles=API)])
    (running,) = await worker.take()
    await store.enqueue_many([job("a", throttles=API), job("b", throttles=API, priority=5), job("c", throttles=API)])
    await store.prioritise("c", 9)
    order = []
    for _ in range(3):
        await worker.settle(running)
        (running,) = await worker.take()
        order.append(running.id)
    assert order == ["c", "b", "a"]


async def test_a_priority_of_nothing_keeps_a_throttled_job_from_real_workers(store: Store, worker: Hand) -> None:
    await store.enqueue_many([job("a", throttles=API, priority=3)])
    await store.prioritise("a", None)
    assert await raw(store, "EXISTS", "rrq:queue:default") == 0
    assert ids(await worker.take()) == ["a"]


async def test_throttled_and_other_jobs_share_a_queue(store: Store, worker: Hand) -> None:
    await throttled(store, 5, "abcd")
    await store.enqueue_many([job(name) for name in "wxyz"])
    taken = [ids(await worker.take(2)) for _ in range(4)]
    assert sorted(itertools.chain(*taken)) == list("abcdwxyz")
    assert {"a", "w"} <= set(taken[0] + taken[1])


async def test_delays_and_retries_come_under_the_throttle_when_they_are_due(store: Store, worker: Hand) -> None:
    await store.set_throttle("api", 1)
    await store.enqueue_many([job("later", throttles=API, delay_ms=60_000), job("a", throttles=API)])
    (a,) = await worker.take()
    assert await row(store) == (1, 1, 0)
    await worker.settle(a, End.RETRY, delay_ms=0)
    (again,) = await worker.take()
    assert (again.id, again.attempt) == ("a", 2)


async def test_a_buried_job_comes_back_under_its_throttle(store: Store, worker: Hand) -> None:
    await throttled(store, 1, "ab")
    (a,) = await worker.take()
    await worker.settle(a, End.BURY)
    (b,) = await worker.take()
    assert await store.revive(["a"]) == ["a"]
    assert await worker.take() == []
    await worker.settle(b)
    assert ids(await worker.take()) == ["a"]


async def test_a_job_that_goes_on_elsewhere_lets_go_and_comes_under_limits_there(store: Store, worker: Hand) -> None:
    """The first reqless kept the old queue's place for ever, and did not know the new queue's limit."""
    await store.set_throttle("api", 1)
    await store.set_throttle("queue:default", 1)
    await store.set_throttle("queue:mail", 0)
    await store.enqueue_many([job("a", throttles=API), job("b", throttles=API)])
    (a,) = await worker.take()
    assert await worker.settle(a, End.ADVANCE, step=Step(queue="mail"), result=b"1", error="") == "ok"
    assert (await row(store))[1] == (await row(store, "queue:default"))[1] == 0
    (b,) = await worker.take()
    assert b.id == "b"
    await store.set_throttle("queue:mail", 1)
    assert await worker.take() == []
    await worker.settle(b)
    assert ids(await worker.take()) == ["a"]
    assert (await row(store), await row(store, "queue:mail")) == ((1, 1, 0), (1, 1, 0))


async def test_a_queues_own_limit(store: Store, worker: Hand) -> None:
    await store.set_throttle("queue:mail", 2)
    await store.enqueue_many([job(f"m{n}", queue="mail") for n in range(4)] + [job("d")])
    taken = await worker.take()
    assert sorted(ids(taken)) == ["d", "m0", "m1"]
    assert await row(store, "queue:mail") == (2, 2, 0)
    assert await worker.take() == []
    await worker.settle(next(one for one in taken if one.id == "m0"))
    assert await raw(store, "EXISTS", "rrqd:work:poke:mail") == 1
    assert ids(await worker.take()) == ["m2"]
    await store.set_throttle("queue:mail", 5)
    assert ids(await worker.take()) == ["m3"]
    await store.delete_throttle("queue:mail")
    assert await raw(store, "HGET", "rrqd:facts", "limit mail") is None


async def test_a_holder_whose_record_is_gone_is_found(store: Store, worker: Hand) -> None:
    await throttled(store, 1, "ab")
    await worker.take()
    await worker.take()
    await raw(store, "DEL", "rrq:job:a")
    assert await store.tend_throttles() == 1
    assert ids(await worker.take()) == ["b"]


async def test_a_woken_job_that_nobody_takes_does_not_stop_the_others(store: Store) -> None:
    await store.set_throttle("api", 1)
    await store.enqueue_many(
        [job("a", throttles=API), job("lost", queue="nobodys", throttles=API), job("b", throttles=API)]
    )
    worker = await hand(store)
    (a,) = await worker.take()
    await store.enqueue_many([job("lost2", queue="nobodys", throttles=API), job("c", throttles=API)])
    await worker.take()
    await worker.settle(a)
    taken = []
    for _ in range(3):
        await store.tend_throttles()
        taken += await worker.take()
    assert ids(taken) == ["b"]


async def test_freed_by_hand_a_job_runs_on_and_counts_no_more(store: Store, worker: Hand) -> None:
    await throttled(store, 1, "ab")
    (a,) = await worker.take()
    await worker.take()
    assert await store.free_throttle("api", ["a", "nobody"]) == 1
    assert ids(await worker.take()) == ["b"]
    await worker.settle(a)
    assert await row(store) == (1, 1, 0)


async def test_a_lost_reply_takes_no_second_place(store: Store, worker: Hand) -> None:
    await throttled(store, 1, "ab")
    first = await worker.claim()
    again = await worker.claim(again=True)
    assert ids(first.jobs) == ids(again.jobs) == ["a"]
    assert await row(store) == (1, 1, 1)


async def test_both_clients_set_show_and_refuse(store: Store, dsn: str) -> None:
    async with RRQClient(config={"redis_dsn": dsn}) as client:
        assert await client.throttles.set("api", 2, expires_seconds=60) is True
        job_id = await client.enqueue("noop", {"throttles": ["api"]})
        assert (await client.get_job(job_id)).throttles == ["api"]  # type: ignore[union-attr]
        assert [one.name for one in await client.throttles.all()] == ["api"]
        assert (await client.throttles.get("other")).limit is None
        assert await client.throttles.running("api") == await client.throttles.waiting("api") == []
        assert await client.throttles.release("api", job_id) == 0
        for bad in ("api", [1], ["queue:mail"], [f"t{n}" for n in range(9)]):
            with pytest.raises(InvalidRequest, match="throttles"):
                await client.enqueue("noop", {"throttles": bad})
        for name, limit in (("", 1), ("queue:", 1), ("x", -1), ("x", True), ("x", 1.5)):
            with pytest.raises(InvalidRequest):
                await client.throttles.set(name, limit)  # type: ignore[arg-type]
        with pytest.raises(InvalidRequest, match="expires_seconds"):
            await client.throttles.set("x", 1, expires_seconds=0)
        assert await client.throttles.delete("api") is True


def test_the_command_line(dsn: str, tmp_path: Path) -> None:
    line = Line(tmp_path, dsn)
    assert line("throttle", "set", "cli", "0", "--expires", "60").out == "cli: at most 0\n"
    with SyncRRQClient(config={"redis_dsn": dsn}) as client:
        assert client.throttles.get("cli").limit == 0
    line("enqueue", "noop", "--job-id", "cli-1", "--throttle", "cli")
    assert line("job", "show", "cli-1", "--json").data["throttles"] == ["cli"]
    listed = line("throttle", "list", "--json").data
    assert [(one["name"], one["limit"], one["running"]) for one in listed if one["name"] == "cli"] == [("cli", 0, 0)]
    assert line("throttle", "show", "cli", "--json").data["limit"] == 0
    assert line("throttle", "show", "never-set").out.splitlines()[1].split() == ["limit", "none"]
    assert line("throttle", "release", "cli", "cli-1") == (1, "0 released\n", "")
    assert line("throttle", "delete", "cli").code == 0
    assert line("throttle", "delete", "cli") == (1, "", "there is no limit called cli\n")
    assert line("throttle", "set", "cli", "x").code == 2
    assert line("throttle", "set", "queue:", "1").code == 2


async def commands(store: Store, worker: Hand, **fields: Any) -> int:
    """How many commands of the server's one job costs, from the enqueue to its end."""
    await raw(store, "CONFIG", "RESETSTAT")
    await store.enqueue_many([job("counted", **fields)])
    (one,) = await worker.take()
    await worker.settle(one)
    stats = (await raw(store, "INFO", "commandstats")).decode().splitlines()
    skip = ("cmdstat_info", "cmdstat_config", "cmdstat_eval")
    await raw(store, "DEL", "rrq:job:counted")
    calls = [line for line in stats if line.startswith("cmdstat_") and not line.startswith(skip)]
    return sum(int(line.split("calls=")[1].split(",")[0]) for line in calls)


async def test_a_job_without_throttles_costs_nothing_more_and_one_with_costs_little(store: Store) -> None:
    """The second job of a kind: the first one finds what is left to tidy up of the last kind."""
    worker = await hand(store)
    await store.set_throttle("api", 5)

    async def cost(**fields: Any) -> int:
        await commands(store, worker, **fields)
        return await commands(store, worker, **fields)

    plain = await cost()
    assert plain <= 30
    assert await cost(priority=5) - plain <= 2
    assert await cost(throttles=API) - plain <= 6
    assert await cost(tags=("a", "b")) - plain <= 2
    assert await cost(priority=5, throttles=API, tags=("a", "b")) - plain <= 8
    assert await cost() == plain
