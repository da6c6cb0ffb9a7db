"""adopt: what a dead real worker held goes back, once, and nothing that anybody runs is touched."""

from __future__ import annotations

import structlog

from rrqd.store import Store
from rrqd.store.records import Adoption as Was
from rrqd.upkeep.adoption import Adoption
from tests.support.moves import hand, job, known, place_of, raw

THEIRS = "rrq_worker_77_abc123"
NOW = "2026-01-01T00:00:00+00:00"


async def real_claim(store: Store, *ids: str, worker: str = THEIRS, lock: bool = False, alive: bool = False) -> None:
    """What a real worker leaves in the server when it claims."""
    for job_id in ids:
        await raw(store, "ZREM", "rrq:queue:default", job_id)
        await raw(
            store, "HSET", f"rrq:job:{job_id}", "status", "ACTIVE", "start_time", NOW, "worker_id", worker,
        )  # fmt: skip
        await raw(store, "ZADD", f"rrq:active:jobs:{worker}", 1_767_225_600, job_id)
        if lock:
            await raw(store, "SET", f"rrq:lock:job:{job_id}", worker, "PX", 60_000)
    if alive:
        await raw(store, "SET", f"rrq:health:worker:{worker}", "{}", "EX", 70)


async def unlock(store: Store, *ids: str) -> None:
    """Our guard's two seconds have passed."""
    for job_id in ids:
        assert await raw(store, "GET", f"rrq:lock:job:{job_id}") == b"rrqd-adoption"
        await raw(store, "DEL", f"rrq:lock:job:{job_id}")
        await raw(store, "ZADD", "rrq:queue:default", 1, job_id)


async def test_a_dead_workers_jobs_go_back_guarded_and_run(store: Store) -> None:
    await store.enqueue_many([job("a"), job("b")])
    await real_claim(store, "a", "b")

    adopted = await store.adopt(THEIRS)

    assert (adopted.was, adopted.queued, adopted.left) == (Was.DEAD, ["a", "b"], 0)
    assert await raw(store, "EXISTS", f"rrq:active:jobs:{THEIRS}") == 0
    a = await known(store, "a")
    assert (a.status, a.fields.get("worker_id"), a.fields.get("start_time")) == ("PENDING", None, None)
    assert a.last_error == f"Put back: its worker is gone ({THEIRS})."
    worker = await hand(store)
    claim = await worker.claim()
    assert claim.jobs == []
    assert claim.next_due_ms is not None
    assert 1000 < claim.next_due_ms - claim.now_ms <= 2000, "an idle worker looks again when the guard has passed"
    await unlock(store, "a", "b")
    assert {one.id for one in await worker.take()} == {"a", "b"}
    assert (await store.adopt(THEIRS)).was is Was.NONE


async def test_a_living_worker_or_a_living_lock_keeps_its_job(store: Store) -> None:
    await store.enqueue_many([job("a"), job("b")])
    await real_claim(store, "a", lock=True, alive=True)
    assert (await store.adopt(THEIRS)).was is Was.ALIVE

    await raw(store, "DEL", f"rrq:health:worker:{THEIRS}")
    await real_claim(store, "b")
    adopted = await store.adopt(THEIRS)

    assert (adopted.queued, adopted.locked, adopted.left) == (["b"], 1, 1)
    assert await place_of(store, "a") == []
    assert (await known(store, "a")).status == "ACTIVE"


async def test_what_somebody_else_has_by_now_is_left_alone(store: Store) -> None:
    await store.enqueue_many([job("ours"), job("other"), job("queued"), job("done")])
    await real_claim(store, "ours", "other", "queued", "done")
    await raw(store, "ZADD", "rrq:queue:default", 1, "ours")
    await (await hand(store)).take()
    await raw(store, "HSET", "rrq:job:other", "worker_id", "rrq_worker_78_def")
    await raw(store, "ZADD", "rrq:queue:default", 1, "queued")
    await raw(store, "HSET", "rrq:job:done", "status", "COMPLETED")

    adopted = await store.adopt(THEIRS)

    assert (adopted.queued, adopted.left) == ([], 0)
    assert await place_of(store, "ours") == ["held:worker-1"]
    assert await place_of(store, "queued") == ["queue:default"]
    assert (await known(store, "queued")).status == "PENDING"
    assert (await known(store, "other")).status == "ACTIVE"


async def test_a_job_lost_between_two_steps_of_a_real_workers_stop_goes_back(store: Store) -> None:
    """It writes PENDING first and queues the job in a second command."""
    await store.enqueue_many([job("a")])
    await real_claim(store, "a")
    await raw(store, "HSET", "rrq:job:a", "status", "PENDING")

    assert (await store.adopt(THEIRS)).queued == ["a"]

    assert await place_of(store, "a") == ["queue:default"]


async def test_a_job_that_kills_every_worker_is_buried_in_the_end(store: Store) -> None:
    """Real workers count no such death, so it would kill them for ever."""
    await store.enqueue_many([job("killer")])
    deaths = 0
    while (await known(store, "killer")).status != "FAILED":
        await real_claim(store, "killer")
        await raw(store, "DEL", "rrq:lock:job:killer")
        await store.adopt(THEIRS)
        deaths += 1

    assert deaths == 5  # aboard two deaths, then three stalls
    assert await place_of(store, "killer") == ["dlq:default"]
    assert "Poison" in ((await known(store, "killer")).last_error or "")


async def test_jobs_without_a_hash_or_with_a_wrong_one_only_leave_the_list(store: Store) -> None:
    await real_claim(store, "gone")
    await raw(store, "DEL", "rrq:job:gone")
    await raw(store, "SET", "rrq:job:text", "hello")
    await raw(store, "ZADD", f"rrq:active:jobs:{THEIRS}", 1, "text")
    await store.enqueue_many([job("odd")])
    await real_claim(store, "odd")
    await raw(store, "HSET", "rrq:job:odd", "rrqd_aboard", "many", "rrqd_stalls", "more")

    assert (await store.adopt(THEIRS)).left == 0
    assert await raw(store, "GET", "rrq:job:text") == b"hello"
    assert await place_of(store, "odd") == ["queue:default"]


# -- the chore ---------------------------------------------------------------------------------------------


def chore(store: Store) -> Adoption:
    return Adoption(store, structlog.get_logger())


async def test_the_chore_finds_workers_that_died_before_it_listened(store: Store) -> None:
    await store.enqueue_many([job("a")])
    await real_claim(store, "a")

    await chore(store).run_once(0.0)

    assert await place_of(store, "a") == ["queue:default"]


async def test_a_turn_costs_the_same_however_many_keys_there_are(store: Store) -> None:
    """5 steps of a thousand keys; the next turn goes on where this one stopped."""
    link = await store.link()
    calls = [link.call("SET", f"other:{n}", "x") for n in range(20_000)]
    await store.enqueue_many([job(f"j{n}") for n in range(10)])
    await real_claim(store, *(f"j{n}" for n in range(10)))
    for call in calls:
        await call

    async def scans() -> int:
        text = (await raw(store, "INFO", "commandstats")).decode()
        stats = dict(line.split(":", 1) for line in text.split() if ":" in line)
        return int(dict(pair.split("=") for pair in stats["cmdstat_scan"].split(","))["calls"])

    upkeep = chore(store)
    await raw(store, "CONFIG", "RESETSTAT")
    await upkeep.run_once(0.0)
    assert await scans() <= 5
    for _ in range(6):
        await upkeep.run_once(0.0)
    assert len(await store.queue_page("default", 0, 100)) == 10


async def test_who_was_heard_of_needs_no_walk(store: Store) -> None:
    upkeep = chore(store)
    await store.enqueue_many([job("a")])
    await real_claim(store, "a", alive=True, lock=True)
    upkeep.heard({THEIRS})
    await upkeep.run_once(0.0)
    assert await store.foreign_workers(10) == [THEIRS]

    await raw(store, "DEL", f"rrq:health:worker:{THEIRS}", "rrq:lock:job:a")
    await upkeep.run_once(0.0)

    assert await place_of(store, "a") == ["queue:default"]
    assert await store.foreign_workers(10) == []


# -- the first RRQ's jobs ----------------------------------------------------------------------------------


async def test_jobs_the_first_api_left_active_are_found_and_revived(store: Store) -> None:
    await store.enqueue_many([job("stuck"), job("runs"), job("locked"), job("theirs")])
    await raw(store, "HSET", "rrq:job:stuck", "status", "ACTIVE")
    await raw(store, "ZREM", "rrq:queue:default", "stuck", "locked", "theirs")
    await raw(store, "HSET", "rrq:job:locked", "status", "ACTIVE")
    await raw(store, "SET", "rrq:lock:job:locked", "rrq_worker_1")
    await real_claim(store, "theirs", alive=True)
    await (await hand(store)).take()

    found = [one.id async for page in store.stranded() for one in page]

    assert found == ["stuck"]
    adopted = await store.adopt_stranded(["stuck", "runs", "locked", "theirs"])
    assert (adopted.queued, adopted.locked) == (["stuck"], 1)
    assert await place_of(store, "stuck") == ["queue:default"]
    assert [one.id async for page in store.stranded() for one in page] == []
