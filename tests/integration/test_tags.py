"""Tags: put on, taken off, found by page; an index that is late at most, and never wrong."""

from __future__ import annotations

import pytest

from rrqd.client import RRQClient, SyncRRQClient
from rrqd.exc import InvalidRequest
from rrqd.model.lifecycle import End
from rrqd.store import Store
from rrqd.store.labels import LOOK_MOST, TooManyTags
from rrqd.upkeep.retention import Retention
from tests.support.moves import hand, job, known, place_of, raw


async def test_a_job_has_its_tags_from_the_beginning_and_is_found_by_each(store: Store) -> None:
    await store.enqueue_many([job("a", tags=("blue", "größe/7")), job("b", tags=("blue",)), job("c")])

    assert (await known(store, "a")).tags == ["blue", "größe/7"]
    assert (await known(store, "c")).tags == []
    assert (await store.tagged("blue")).ids == ["b", "a"]
    assert (await store.tagged("größe/7")).ids == ["a"]
    assert await store.tags() == {"blue": 2, "größe/7": 1}


async def test_a_job_without_tags_costs_no_command(store: Store) -> None:
    async def commands(**fields: object) -> int:
        await raw(store, "CONFIG", "RESETSTAT")
        await store.enqueue_many([job(**fields)])
        stats = (await raw(store, "INFO", "commandstats")).decode().splitlines()
        skip = ("cmdstat_info", "cmdstat_config", "cmdstat_evalsha", "cmdstat_eval")
        calls = [line for line in stats if line.startswith("cmdstat_") and not line.startswith(skip)]
        return sum(int(line.split("calls=")[1].split(",")[0]) for line in calls)

    await commands()
    plain = await commands()
    assert plain <= 6
    assert await commands(tags=("x", "y")) == plain + 3


async def test_adding_again_changes_nothing_and_removing_leaves_no_key(store: Store) -> None:
    await store.enqueue_many([job("a", tags=("x",))])

    assert await store.tag("a", ["x", "y", "y"]) == ["x", "y"]
    assert await store.tag("a", ["y"]) == ["x", "y"]
    assert await store.tags() == {"x": 1, "y": 1}
    assert await store.untag("a", ["x", "never"]) == ["y"]
    assert await store.untag("a", ["y"]) == []
    assert await store.tags() == {}
    assert await raw(store, "KEYS", "rrqd:tag*") == []
    assert await raw(store, "HEXISTS", "rrq:job:a", "rrqd_tags") == 0


async def test_tags_follow_a_job_through_its_life(store: Store) -> None:
    await store.enqueue_many([job("a", tags=("x",))])
    worker = await hand(store)
    (claimed,) = await worker.take()
    await store.tag("a", ["running"])
    await worker.settle(claimed, End.BURY)
    await store.tag("a", ["seen"])
    assert await store.revive(["a"]) == ["a"]
    assert (await known(store, "a")).tags == ["x", "running", "seen"]
    assert await place_of(store, "a") == ["queue:default"]


async def test_a_debounced_request_brings_its_own_tags(store: Store, dsn: str) -> None:
    async with RRQClient(config={"redis_dsn": dsn}) as client:
        burst = {"debounce_key": "k", "debounce_seconds": 60}
        job_id = await client.enqueue("noop", {**burst, "tags": ["first"]})
        assert await client.enqueue("noop", {**burst, "tags": ["second"]}) == job_id
        assert (await client.tags.jobs("second")).ids == [job_id]
        assert (await client.tags.jobs("first")).ids == []


async def test_unknown_jobs_and_too_many_tags_are_refused(store: Store) -> None:
    assert await store.tag("nobody", ["x"]) is None
    assert await store.untag("nobody", ["x"]) is None
    await store.enqueue_many([job("a", tags=tuple(f"t{n}" for n in range(32)))])
    with pytest.raises(TooManyTags, match="32"):
        await store.tag("a", ["one more"])
    assert await store.tags() == {f"t{n}": 1 for n in range(32)}


async def test_pages_are_whole_also_when_most_entries_have_expired(store: Store) -> None:
    size = 2 * LOOK_MOST + 100
    await store.enqueue_many([job(f"j{n:04}", tags=("many",)) for n in range(size)])
    for n in range(size):
        if n % 10:
            await raw(store, "DEL", f"rrq:job:j{n:04}")

    living = [f"j{n:04}" for n in reversed(range(0, size, 10))]
    first = await store.tagged("many", limit=60)
    rest = await store.tagged("many", offset=60, limit=1000)
    assert (first.ids, rest.ids) == (living[:60], living[60:])
    assert rest.total == len(living)
    assert (await store.tagged("many", offset=10_000)).ids == []


async def test_an_id_that_is_used_again_without_the_tag_is_not_found_by_it(store: Store) -> None:
    await store.enqueue_many([job("a", tags=("old",))])
    await raw(store, "DEL", "rrq:job:a")
    await store.enqueue_many([job("a", tags=("new",))])

    assert (await store.tagged("old")).ids == []
    assert await store.tags() == {"new": 1}


async def test_retention_drops_what_nobody_looks_for(store: Store) -> None:
    await store.enqueue_many([job(f"j{n}", tags=(f"t{n % 3}",), track=True) for n in range(30)])
    for n in range(30):
        if n % 3 == 0 or n < 10:
            await raw(store, "DEL", f"rrq:job:j{n}")

    await Retention(store, None).run_once(0.0)

    assert await store.tags() == {"t1": 7, "t2": 7}
    assert await raw(store, "ZCARD", "rrqd:tracked") == 14


async def test_both_clients_put_tags_on_jobs(store: Store, dsn: str) -> None:
    async with RRQClient(config={"redis_dsn": dsn}) as client:
        job_id = await client.enqueue("noop", {"tags": ["a", "b", "a"]})
        assert await client.tags.add(job_id, "c") == ["a", "b", "c"]
        assert (await client.tags.jobs("c")).ids == [job_id]
        assert await client.tags.counts() == {"a": 1, "b": 1, "c": 1}
        for bad in ("blue", ["x", 1], [""], ["\n"], ["y" * 201], [f"t{n}" for n in range(33)]):
            with pytest.raises(InvalidRequest, match="tag"):
                await client.enqueue("noop", {"tags": bad})
        with pytest.raises(InvalidRequest, match="track must be true or false"):
            await client.enqueue("noop", {"track": "yes"})
        with pytest.raises(InvalidRequest, match="32"):
            await client.tags.add(job_id, *(f"t{n}" for n in range(31)))


def test_the_sync_client_does_the_same(dsn: str) -> None:
    with SyncRRQClient(config={"redis_dsn": dsn}) as client:
        job_id = client.enqueue("noop", {"tags": ["sync"]})
        assert client.tags.add(job_id, "d") == ["sync", "d"]
        assert client.tags.remove(job_id, "sync") == ["d"]
        assert client.tags.jobs("d").ids[0] == job_id
        assert "d" in client.tags.counts()
