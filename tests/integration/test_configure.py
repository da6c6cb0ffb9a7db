"""configure: what the store says of queues: how it is said, what counts, and that workers go by it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rrqd import RRQClient
from rrqd.config.settings import PoolSettings, Settings
from rrqd.exc import InvalidRequest
from rrqd.handlers import LoadedHandlers
from rrqd.model.lifecycle import End
from rrqd.model.queue_config import QueueRules
from rrqd.model.verdict import Verdict
from rrqd.runtime.executor import Run
from rrqd.runtime.worker import Worker
from rrqd.standalone import Attendant
from rrqd.store import Settlement, Store
from tests.integration.test_worker import is_now, registry, worker  # noqa: F401  (a fixture)
from tests.support.line import Line
from tests.support.moves import hand, job, known, raw
from tests.support.wait import until_async


@pytest.fixture
async def client(store: Store, dsn: str) -> AsyncIterator[RRQClient]:
    async with RRQClient(config={"redis_dsn": dsn}) as client:
        yield client


async def test_what_is_said_of_a_queue_counts_before_what_is_said_of_all(client: RRQClient) -> None:
    await client.config.set("history_seconds", 60)
    await client.config.set("history_seconds", 5, queue="rrq:queue:a b")
    await client.config.set("app.title", "Jobs of ours")

    assert await client.config.get("history_seconds", queue="a b") == 5
    assert await client.config.get("history_seconds", queue="other") == 60
    assert await client.config.all() == {"app.title": "Jobs of ours", "history_seconds": 60}
    assert await client.config.unset("history_seconds", queue="a b") is True
    assert await client.config.unset("history_seconds", queue="a b") is False
    assert await client.config.all("a b") == {"app.title": "Jobs of ours", "history_seconds": 60}


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("heartbeet_seconds", 1, 'did you mean "heartbeat_seconds"'),
        ("xyz", 1, "names of your own: app"),
        ("history_count", 1.5, "a whole number from 1 on"),
        ("history_count", 0, "a whole number from 1 on"),
        ("grace_seconds", "soon", "a number from 0 on"),
        ("grace_seconds", float("nan"), "a number from 0 on"),
        ("app.a b", "x", "no key is called"),
        ("queue_bucket", [], 'did you mean "queue_buckets"'),
        ("queue_buckets", [], "1 to 100 buckets"),
        ("queue_buckets", "vip-*", "must be a list like"),
        ("queue_buckets", [{"queue": "vip-*"}], "unknown field `queue`"),
        ("queue_buckets", [{}, {"fairly": True}], "only one bucket may be without queues"),
        ("queue_buckets", [{"queues": ["!a"]}], "take away"),
    ],
)
async def test_what_means_nothing_is_refused(client: RRQClient, key: str, value: object, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        await client.config.set(key, value)


async def test_only_so_many_completed_jobs_and_entries_of_history_are_kept(store: Store) -> None:
    await store.enqueue_many([job(f"j{n}") for n in range(6)])
    hand_ = await hand(store)
    for one in await hand_.take(6):
        verdict = Verdict(end=End.COMPLETE, result=b"1", ttl_seconds=600)
        await store.settle("worker-1", [Settlement(one.id, one.token, verdict, keep_most=3)])

    assert await store.completed_of("default") == ["j5", "j4", "j3"]
    assert [one is not None for one in await store.jobs([f"j{n}" for n in range(6)])] == [False] * 3 + [True] * 3
    assert 0 < await raw(store, "PTTL", "rrqd:done:default") <= 600_001  # its end is rounded to whole ms

    await store.enqueue_many([job("again")])
    for _ in range(5):
        (again,) = await hand_.take(1)
        await store.settle("worker-1", [Settlement("again", again.token, Verdict(end=End.RETRY), past_most=3)])
    assert (await known(store, "again")).fields["rrqd_history"].count('"what"') == 3


async def test_a_worker_goes_by_what_it_hears(worker: Worker, store: Store, client: RRQClient) -> None:  # noqa: F811
    await client.config.set("heartbeat_seconds", 0.1)
    await client.config.set("history_seconds", 77)

    async def heard() -> bool:
        return worker._rules.of("default").history_seconds == 77

    await until_async(heard, 5, "the worker to hear of it")
    await store.enqueue_many([job("silent", function="wait", max_retries=1), job("kept", function="sync")])
    await is_now(store, "kept", "COMPLETED")
    assert 0 < await raw(store, "TTL", "rrq:job:kept") <= 77
    await is_now(store, "silent", "FAILED")
    assert (await known(store, "silent")).last_error == "Job gave no heartbeat for 0.1s."


async def test_the_commands_say_and_show_it(store: Store, tmp_path: Path, dsn: str) -> None:
    line = Line(tmp_path, dsn)

    def commands() -> None:
        assert line("config", "store", "list").err.startswith("nothing is set; there are heartbeat_seconds")
        said = line("config", "store", "set", "grace_seconds", "3", "--queue", "a")
        assert said.out == "grace_seconds of queue a: 3.0 (was nothing)\n"
        assert line("config", "store", "get", "grace_seconds", "--queue", "a").out == "3.0\n"
        assert line("config", "store", "get", "grace_seconds").code == 1
        assert line("config", "store", "list", "--json").data == [{"key": "grace_seconds", "queue": "a", "value": 3.0}]
        assert line("config", "store", "set", "grace_second", "3").code == 2
        said = line("config", "store", "set", "@night", "a", "--queue", "b")
        assert (said.code, "@night is said of all queues, not of b alone" in said.err) == (2, True)
        assert line("config", "store", "unset", "grace_seconds", "--queue", "a", "--json").data == {
            "key": "grace_seconds", "queue": "a", "before": 3.0, "value": None,
        }  # fmt: skip
        assert line("config", "store", "unset", "grace_seconds").code == 1

    await asyncio.to_thread(commands)


def test_a_heartbeat_gives_a_run_time_up_to_its_timeout() -> None:
    aid = SimpleNamespace(beat_ns=0)
    nothing: Any = None
    run = Run(nothing, nothing, 3.0, cast(Any, aid), QueueRules(heartbeat_seconds=2.0))

    def seconds() -> float:
        return (run.alarm_ns - run.began_ns) / 1e9

    assert seconds() == 2.0
    aid.beat_ns = run.began_ns + 500_000_000
    assert seconds() == 2.5
    aid.beat_ns = run.began_ns + 2_000_000_000
    assert seconds() == 3.0


async def test_a_pool_with_patterns_serves_what_appears_and_lists_that_change(
    store: Store, dsn: str, client: RRQClient
) -> None:
    pool = PoolSettings(handlers="tests:registry", queues=["*", "!slow-*", "@night"])
    settings = Settings.model_validate({"rrq": {"redis_dsn": dsn}})
    await store.enqueue_many([job("first", function="sync", queue="a")])
    attendant = Attendant(settings, pool, LoadedHandlers(registry=registry))
    working = asyncio.create_task(attendant.run())
    await is_now(store, "first", "COMPLETED")

    await store.enqueue_many([job(f"in-{queue}", function="sync", queue=queue) for queue in ("slow-a", "new")])
    await is_now(store, "in-new", "COMPLETED")
    assert (await known(store, "in-slow-a")).status == "PENDING"
    await client.config.set("@night", ["slow-*"])
    await is_now(store, "in-slow-a", "COMPLETED")
    assert await client.config.get("@night") == ["slow-*"]
    with pytest.raises(InvalidRequest, match="names another list"):
        await client.config.set("@night", "@other")
    attendant.stop(0)
    await working


async def test_whether_a_queue_is_served_knows_patterns(store: Store) -> None:
    await hand(store)
    await store.write_health([("worker-1", b'{"queues": ["rrq:queue:*", "rrq:queue:!slow-*"]}')], 60)

    assert await store.is_served("any")
    assert not await store.is_served("slow-one")


async def test_a_pool_takes_the_order_of_its_queues_from_the_store(store: Store, dsn: str, client: RRQClient) -> None:
    async def ran_in_order() -> list[str]:
        """One slot, and jobs of three queues that all wait."""
        jobs = [job(queue=queue, function="sync") for queue in ("bulk", "bulk", "mail", "vip-1")]
        await store.enqueue_many(jobs)
        pool = PoolSettings(
            handlers="tests:registry", queues=["bulk", "mail", "*"], queue_order="buckets", concurrency=1
        )
        settings = Settings.model_validate({"rrq": {"redis_dsn": dsn}})
        await Attendant(settings, pool, LoadedHandlers(registry=registry)).run(horizon_seconds=0.0)
        ended = [await known(store, one.id) for one in jobs]
        return [one.queue for one in sorted(ended, key=lambda one: one.fields["start_time"])]

    await client.config.set("queue_buckets", [{"queues": ["vip-*"]}, {}, {"queues": ["bulk"]}])
    assert await ran_in_order() == ["vip-1", "mail", "bulk", "bulk"]
    await client.config.unset("queue_buckets")
    assert (await ran_in_order())[-1] == "bulk", "in turns: the second of a queue comes last"
