"""claim: due jobs leave the queue and are held by one worker, each under a token of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from msgspec.structs import replace

from rrqd.model.lifecycle import End
from rrqd.store import Charge, Claim, ClaimState, Store
from tests.support.moves import hand, job, known, lapse, place_of, raw

NOW = "2026-01-01T00:00:00+00:00"


async def foreign(store: Store, job_id: str, **fields: str) -> None:
    """A job as a real RRQ producer writes it."""
    base = {"id": job_id, "function_name": "noop", "job_params": "{}", "enqueue_time": NOW, "status": "PENDING",
            "queue_name": "rrq:queue:default", "current_retries": "0", "max_retries": "5"}  # fmt: skip
    flat = [word for pair in {**base, **fields}.items() for word in pair]
    await raw(store, "HSET", store.keys.job(job_id), *flat)
    await raw(store, "ZADD", store.keys.queue("default"), 1_700_000_000_000, job_id)


async def test_a_claimed_job_is_held_and_nowhere_else(store: Store) -> None:
    await store.enqueue_many([job("a")])
    worker = await hand(store)

    (claimed,) = await worker.take()

    assert await place_of(store, "a") == ["held:worker-1"]
    fields = (await known(store, "a")).fields
    assert (fields["status"], fields["worker_id"]) == ("ACTIVE", "worker-1")
    assert fields["rrqd_token"] == str(claimed.token)
    assert claimed.attempt == 1


async def test_tokens_grow_whatever_the_clock_does(store: Store) -> None:
    ahead = 9_000_000_000_000_001
    await raw(store, "SET", store.keys.token, ahead)
    await store.enqueue_many([job("a"), job("b")])

    tokens = [claimed.token for claimed in await (await hand(store)).take()]

    assert tokens == [ahead + 1, ahead + 2]
    assert await raw(store, "GET", store.keys.token) == str(ahead + 2).encode()


async def test_nothing_is_claimed_before_it_is_due(store: Store) -> None:
    await store.enqueue_many([job("later", delay_ms=60_000)])

    claim = await (await hand(store)).claim()

    assert claim.jobs == []
    assert claim.next_due_ms is not None
    assert 59_000 < claim.next_due_ms - claim.now_ms < 60_001


async def test_no_more_than_asked_for_and_said_so(store: Store) -> None:
    await store.enqueue_many([job() for _ in range(5)])
    worker = await hand(store)

    assert (await worker.claim(3)).full
    rest = await worker.claim(3)
    assert (len(rest.jobs), rest.full) == (2, False)


async def test_the_same_turn_gets_the_same_jobs(store: Store) -> None:
    await store.enqueue_many([job("a"), job("b"), job("c")])
    worker = await hand(store)
    first = await worker.claim(2)

    again = await worker.claim(2, again=True)

    assert [(one.id, one.token) for one in again.jobs] == [(one.id, one.token) for one in first.jobs]
    assert await place_of(store, "c") == ["queue:default"]


async def test_two_queues_share_fairly(store: Store) -> None:
    await store.enqueue_many([job(queue="full") for _ in range(50)] + [job(queue="small") for _ in range(2)])
    worker = await hand(store, queues=["full", "small"])

    queues = [claimed.queue for claimed in (await worker.claim(10)).jobs]

    assert queues.count("small") == 2
    assert len(queues) == 10


async def test_shares_are_kept_and_what_one_queue_leaves_the_others_get(store: Store) -> None:
    await store.enqueue_many([job(queue="full") for _ in range(50)] + [job(queue="mail") for _ in range(4)])
    worker = await hand(store, queues=["full", "mail", "empty"])

    first = await worker.claim(8, shares=[6, 1, 1])
    second = await worker.claim(8, shares=[2, 5, 1])

    assert [claimed.queue for claimed in first.jobs] == ["full"] * 6 + ["mail"] + ["full"]
    assert [claimed.queue for claimed in second.jobs] == ["full"] * 2 + ["mail"] * 3 + ["full"] * 3


async def test_in_strict_order_a_queue_waits_until_those_before_it_are_empty(store: Store) -> None:
    await store.enqueue_many([job(queue="low") for _ in range(3)] + [job(queue="high") for _ in range(3)])
    worker = await hand(store, queues=["high", "low"])

    taken = [(await worker.claim(2, shares=[2, 2])).jobs for _ in range(3)]

    assert [[claimed.queue for claimed in jobs] for jobs in taken] == [["high"] * 2, ["high", "low"], ["low"] * 2]


async def test_a_worker_that_was_never_opened_gets_nothing(store: Store) -> None:
    await store.enqueue_many([job("a")])
    worker = await hand(store)
    worker.worker_id = "stranger"

    assert (await worker.claim()).state is ClaimState.CLOSED
    assert await place_of(store, "a") == ["queue:default"]


async def test_a_node_without_a_lease_gets_nothing(store: Store) -> None:
    await store.enqueue_many([job("a")])
    worker = await hand(store)
    await lapse(store)

    assert (await worker.claim()).state is ClaimState.LAPSED
    assert await place_of(store, "a") == ["queue:default"]


async def test_a_job_of_a_real_producer_is_claimed(store: Store) -> None:
    await foreign(store, "a", job_params='{"x": 1}', job_timeout_seconds="7", correlation_context='{"t": "1"}')

    (claimed,) = await (await hand(store)).take()

    assert (claimed.params, claimed.timeout_seconds, claimed.max_retries) == ({"x": 1}, 7.0, 5)
    assert claimed.correlation_context == {"t": "1"}


async def test_an_id_locked_by_a_real_worker_is_left_alone(store: Store) -> None:
    await foreign(store, "a")
    await foreign(store, "b")
    await raw(store, "SET", "rrq:lock:job:a", "rrq_worker_1", "PX", 60_000)

    assert [claimed.id for claimed in await (await hand(store)).take()] == ["b"]
    assert await place_of(store, "a") == ["queue:default"]


async def test_a_held_id_that_is_queued_again_runs_once(store: Store) -> None:
    await store.enqueue_many([job("a")])
    worker = await hand(store)
    await worker.take()
    await raw(store, "ZADD", store.keys.queue("default"), 1, "a")

    assert await worker.take() == []
    assert await place_of(store, "a") == ["held:worker-1"]


async def test_ended_and_missing_jobs_leave_the_queue_unrun(store: Store) -> None:
    await foreign(store, "done", status="COMPLETED")
    await foreign(store, "off", status="CANCELLED")
    await raw(store, "ZADD", store.keys.queue("default"), 1, "ghost")

    assert await (await hand(store)).take() == []
    assert await store.queue_page("default", 0, 10) == []


async def test_a_key_that_is_no_hash_is_set_aside_and_neighbours_run(store: Store) -> None:
    await raw(store, "SET", "rrq:job:bad", "text")
    await raw(store, "ZADD", store.keys.queue("default"), 1, "bad")
    await foreign(store, "good")

    claim = await (await hand(store)).claim()

    assert [claimed.id for claimed in claim.jobs] == ["good"]
    assert claim.aside == [("bad", "rrq:job:bad is not a hash")]
    assert await store.aside_count() == 1
    assert await store.queue_page("default", 0, 10) == []


async def test_what_cannot_be_run_is_named_and_neighbours_run(store: Store) -> None:
    await foreign(store, "params", job_params="[1]")
    await foreign(store, "json", job_params="{")
    await foreign(store, "time", enqueue_time="yesterday")
    await foreign(store, "timeout", job_timeout_seconds="-1")
    await foreign(store, "retries", max_retries="many")
    await foreign(store, "good")

    claim = await (await hand(store)).claim()

    assert [claimed.id for claimed in claim.jobs] == ["good"]
    reasons = {job_id: why for job_id, _, why in claim.spoiled}
    assert reasons["params"] == "job_params must be a JSON object, not list."
    assert "not valid JSON" in reasons["json"]
    assert "not RFC 3339" in reasons["time"]
    assert "Must be positive" in reasons["timeout"]
    assert "not a whole number" in reasons["retries"]


async def test_a_suspect_runs_alone(store: Store) -> None:
    await store.enqueue_many([job("suspect"), job("a"), job("b")])
    await raw(store, "HSET", store.keys.job("suspect"), "rrqd_aboard", "2")
    worker, other = await hand(store), await hand(store, "worker-2")
    assert [claimed.id for claimed in await worker.take()] == ["a", "b"]
    assert await place_of(store, "suspect") == ["alone:default"]
    await store.enqueue_many([job("c"), job("d")])

    busy = await worker.claim(5, running=2)
    assert (busy.jobs, busy.hold) == ([], True)
    assert [claimed.id for claimed in (await other.claim(1, running=1)).jobs] == ["c"]
    assert [claimed.id for claimed in (await other.claim(1)).jobs] == ["d"]

    empty = await worker.claim(5)
    assert [(claimed.id, claimed.alone) for claimed in empty.jobs] == [("suspect", True)]
    again = await worker.claim(5, again=True)
    assert [(claimed.id, claimed.alone) for claimed in again.jobs] == [("suspect", True)]
    await worker.settle(empty.jobs[0])
    assert await worker.take() == []
    assert not await raw(store, "HEXISTS", store.keys.facts, "alone default")


async def test_a_suspect_that_comes_back_when_none_waits_is_found_again(store: Store) -> None:
    """The claim that sets it apart is the one that has just seen that no suspect was left."""
    await store.enqueue_many([job("suspect")])
    await raw(store, "HSET", store.keys.job("suspect"), "rrqd_aboard", "2")
    worker = await hand(store)
    await worker.take()
    (claimed,) = await worker.take()
    await worker.settle(claimed, End.RETRY, delay_ms=0)
    assert await worker.take() == []
    assert [claimed.id for claimed in await worker.take()] == ["suspect"]


async def test_whoever_has_nothing_else_to_do_runs_a_suspect_too(store: Store) -> None:
    await store.enqueue_many([job(f"s{n}") for n in range(3)])
    for n in range(3):
        await raw(store, "HSET", store.keys.job(f"s{n}"), "rrqd_aboard", "2")
    workers = [await hand(store, f"worker-{n}") for n in range(4)]
    assert (await workers[0].claim()).full

    assert [claimed.id for one in workers[:3] for claimed in await one.take()] == ["s0", "s1", "s2"]
    assert (await workers[3].claim()).hold is False


async def test_a_reservation_ends_with_its_time(store: Store) -> None:
    await store.enqueue_many([job("suspect")])
    await raw(store, "HSET", store.keys.job("suspect"), "rrqd_aboard", "2")
    worker, other = await hand(store), await hand(store, "worker-2")
    await worker.claim()
    assert (await worker.claim(running=1)).hold
    assert not (await other.claim(running=1)).hold
    await raw(store, "HSET", store.keys.facts, "alone default", "worker-1 1000")

    assert (await other.claim(running=1)).hold
    assert not (await worker.claim(running=1)).hold


async def test_the_jobs_of_two_deaths_wait_apart_and_neighbours_run_on(store: Store) -> None:
    """Five hundred that were aboard two deaths, ahead of a thousand that were not."""
    suspects = [job(f"s{n}", priority=n % 3 - 1 or None, tenant="t" if n % 5 == 0 else None) for n in range(500)]
    await store.enqueue_many(suspects)
    for death in range(2):
        worker = await hand(store, f"dies-{death}")
        while len(await store.held_by(worker.worker_id)) < 500:
            await worker.claim(100)
        await store.close_worker(worker.worker_id, reason="told to", charge=Charge.DEATH)
    assert await raw(store, "ZCARD", store.keys.alone("default")) == 500
    await store.enqueue_many([job(f"h{n}") for n in range(1000)])
    one, other = await hand(store, "one"), await hand(store, "other")
    assert (await one.claim(10, running=1)).hold

    for _ in range(100):
        found = await commands(store, other.claim(10))
        assert [claimed.alone for claimed in found[0].jobs] == [False] * 10
        assert found[1] <= 2 * 10 + 15
    for _ in range(500):
        (claimed,) = await one.take()
        assert claimed.alone
        await one.settle(claimed)
    assert await one.take() == []
    assert (await store.queue_depths(["default"]))[0].waiting == 0


async def commands(store: Store, call: Awaitable[Claim]) -> tuple[Claim, int]:
    """What a claim answers, and how many commands it made."""

    async def made() -> int:
        stats = (await raw(store, "INFO", "commandstats")).decode().splitlines()
        return sum(
            int(line.split("calls=")[1].split(",")[0]) for line in stats[1:] if line and "cmdstat_info" not in line
        )

    before = await made()
    claim = await call
    return claim, await made() - before


async def test_a_namespace_is_a_world_of_its_own(store: Store, dsn: str) -> None:
    from rrqd.store import StorePolicy

    there = await Store.open(dsn, StorePolicy(namespace="{billing}:"), client_name="rrqd:test")
    await there.enqueue_many([job("a")])

    assert await (await hand(store)).take() == []
    (claimed,) = await (await hand(there)).take()
    keys = {key.decode() for key in await raw(store, "KEYS", "*a*")}
    assert claimed.id == "a"
    assert "{billing}:rrq:job:a" in keys
    assert "rrq:job:a" not in keys
    await there.close()


async def test_a_lost_answer_is_said_again_also_after_the_lease_has_lapsed(store: Store) -> None:
    await store.enqueue_many([job("a")])
    worker = await hand(store)
    (first,) = (await worker.claim()).jobs
    await lapse(store)

    (again,) = (await worker.claim(again=True)).jobs
    assert (again.id, again.token) == (first.id, first.token)
    assert (await worker.claim()).state is ClaimState.LAPSED


async def test_dead_entries_do_not_hide_the_living_ones_behind_them(store: Store) -> None:
    ghosts = [word for n in range(3000) for word in (str(n), f"ghost-{n}")]
    await raw(store, "ZADD", "rrq:queue:default", *ghosts)
    await store.enqueue_many([job("a")])
    worker = await hand(store)

    for _ in range(100):
        claim = await worker.claim(10)
        if claim.jobs:
            break
        assert claim.full, "it must be asked again at once"
    assert [claimed.id for claimed in claim.jobs] == ["a"]


async def test_an_id_that_is_no_text_is_set_aside(store: Store) -> None:
    for bad in (b"caf\xe9", b"\xff", b"\xed\xa0\x80", b"\xc3\xe2\x82\xac\xa9"):
        await raw(store, "HSET", b"rrq:job:" + bad, "function_name", "noop")
        await raw(store, "ZADD", "rrq:queue:default", 1, bad)
    await foreign(store, "café €𝄞")

    claim = await (await hand(store)).claim()
    assert [claimed.id for claimed in claim.jobs] == ["café €𝄞"]
    assert {why for _, why in claim.aside} == {"its id is not UTF-8 text"}
    assert len(claim.aside) == 4


async def test_a_home_queue_that_is_none_does_not_stop_a_claim(store: Store) -> None:
    await foreign(store, "a", queue_name="rrq:queue:elsewhere")
    await raw(store, "SET", "rrq:queue:elsewhere", "no queue")
    assert [claimed.id for claimed in await (await hand(store)).take()] == ["a"]


async def test_a_buried_job_that_a_foreign_tool_put_back_does_not_expire_under_way(store: Store) -> None:
    await store.enqueue_many([job("a")])
    worker = await hand(store)
    (a,) = await worker.take()
    await worker.settle(a, End.BURY, ttl_seconds=600)
    await raw(store, "ZADD", "rrq:queue:default", 1, "a")
    await raw(store, "HSET", "rrq:job:a", "status", "PENDING")

    assert [claimed.id for claimed in await worker.take()] == ["a"]
    assert await raw(store, "TTL", "rrq:job:a") == -1


async def test_an_empty_queue_name_becomes_the_queue_it_was_found_in(store: Store) -> None:
    await foreign(store, "a", queue_name="")
    worker = await hand(store)
    (a,) = await worker.take()
    await worker.settle(a, End.RETRY)
    assert await place_of(store, "a") == ["queue:default"]


async def test_a_worker_without_room_hears_of_cancels(store: Store) -> None:
    await store.enqueue_many([job("a"), job("b")])
    worker = await hand(store)
    await worker.take(1)
    await store.cancel("a")
    claim = await worker.claim(0, running=1)
    assert (claim.cancels, claim.jobs, claim.full) == (["a"], [], False)


async def test_bytes_that_are_no_text_spoil_only_the_job_that_needs_them(store: Store) -> None:
    await store.enqueue_many([job("plain", params=b'{"n":1}')])
    await foreign(store, "odd-name")
    await raw(store, "HSET", store.keys.job("odd-name"), "function_name", b"\xff\xfe")
    await foreign(store, "odd-note")
    await raw(store, "HSET", store.keys.job("odd-note"), "last_error", b"caf\xe9", b"odd\xe9", "1")
    worker = await hand(store)

    claim = await worker.claim()

    assert {(one.id, one.function) for one in claim.jobs} == {("plain", "noop"), ("odd-note", "noop")}
    assert [(id, why.partition(":")[0]) for id, _, why in claim.spoiled] == [
        ("odd-name", "function_name is not UTF-8 text")
    ]
    assert (await worker.claim()).jobs == []


async def test_a_job_with_nothing_unusual_is_read_like_any_other(store: Store) -> None:
    await store.enqueue_many(
        [job("with", params=b'{"n":1}'), job("later", params=b'{"n":2}', delay_ms=1), job("without")]
    )
    await store.enqueue_many([job("unusual", params=b'{"n":3}', max_retries=7)])
    worker = await hand(store)
    await asyncio.sleep(0.005)

    first = {one.id: one for one in (await worker.claim()).jobs}
    again = {one.id: one for one in (await worker.claim(again=True)).jobs}

    assert {name: replace(one, claimed_ms=0) for name, one in first.items()} == {
        name: replace(one, claimed_ms=0) for name, one in again.items()
    }
    assert {name: (one.params, one.max_retries) for name, one in first.items()} == {
        "with": ({"n": 1}, None), "later": ({"n": 2}, None), "without": ({}, None), "unusual": ({"n": 3}, 7),
    }  # fmt: skip
