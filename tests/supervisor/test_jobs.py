"""Jobs in the whole daemon: every way a run can end, and every process that can die under it.

The daemon is one for all who leave it as they found it: two workers, all of them proven.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from tests.support.app import App, app, whole
from tests.support.commands import status
from tests.support.daemon import Daemon, alive
from tests.support.wait import until

LEASE_SECONDS = 15.0
"""The default: what is back much earlier was given back, and has not lapsed."""


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    with whole(http=True, concurrency=10) as daemon:
        daemon.expect_log("rrqd.ready")
        yield daemon
        assert daemon.stop() == 0


@pytest.fixture(scope="module")
def strict() -> Iterator[Daemon]:
    """With one worker, that does not live long after a job's timeout."""
    with whole(processes=1, timeout_grace_seconds=0.5) as daemon:
        daemon.expect_log("rrqd.ready")
        yield daemon
        assert daemon.stop() == 0


@pytest.fixture
async def a(shared: Daemon) -> AsyncIterator[App]:
    async with _own(shared) as found:
        yield found


@pytest.fixture
async def alone(strict: Daemon) -> AsyncIterator[App]:
    async with _own(strict) as found:
        yield found


@asynccontextmanager
async def _own(daemon: Daemon) -> AsyncIterator[App]:
    """With a ledger and a gate of the test's own."""
    until(lambda: status(daemon)["ready"], 15, "the house to be in order")
    async with app(daemon) as found:
        found.close()
        found.ledger.unlink(missing_ok=True)
        yield found


async def test_every_way_a_run_can_end(a: App) -> None:
    once, daemon = {"max_retries": 1}, a.daemon
    ids = {
        "ok": await a.tell(answer={"é": [1, 2]}),
        "plain": await a.tell(plain=True, answer="from a thread"),
        "fail": await a.tell("fail", options=once),
        "plain fail": await a.tell("fail", plain=True, options=once),
        "second try": await a.tell("fail until", attempt=2),
        "retry": await a.tell("retry until", attempt=3, seconds=0.05),
        "snooze": await a.tell("snooze once", marker=str(daemon.folder / "m"), seconds=0.1, options=once),
        "fatal": await a.tell("outcome", status="error", message="no", type="handler_not_found"),
        "own timeout": await a.tell("timeout error", options={"max_retries": 2}),
        "sys.exit": await a.tell("sys.exit", options=once),
        "nan": await a.tell("nan", options=once),
        "object": await a.tell("object", options=once),
        "big": await a.tell("big", bytes=2_000_000, options=once),
        "late": await a.tell("sleep", seconds=30, options={**once, "job_timeout_seconds": 1}),
        "nobody": await a.client.enqueue("nobody"),
        "context": await a.tell("context", options={"trace_context": {"traceparent": "x"}}),
        "sandbox": await a.tell("sandbox"),
    }
    ends = {name: await a.end(job_id) for name, job_id in ids.items()}
    jobs = {name: await a.job(job_id) for name, job_id in ids.items()}

    good = {name: end.result for name, end in ends.items() if end.status == "COMPLETED"}
    assert good.pop("ok") == {"é": [1, 2]}
    assert good.pop("plain") == "from a thread"
    assert (good.pop("second try"), good.pop("retry"), good.pop("snooze")) == (2, 3, 1)
    context = good.pop("context")
    assert (context["attempt"], context["queue"], context["deadline"]) == (1, "rrq:queue:default", True)
    assert context["trace"] == {"traceparent": "x"}
    assert good.pop("sandbox").startswith(str(daemon.state / "sandboxes"))
    assert good == {}
    errors = {name: job.error for name, job in jobs.items() if job.status == "FAILED"}
    assert {name: error["type"] for name, error in errors.items() if error} == {
        "fail": "ValueError", "plain fail": "ValueError", "fatal": "handler_not_found",
        "own timeout": "TimeoutError", "sys.exit": "SystemExit", "nan": "ResultNotSerializable",
        "object": "ResultNotSerializable", "big": "ResultTooLarge", "late": "timeout",
        "nobody": "handler_not_found",
    }  # fmt: skip
    assert "told to fail" in errors["fail"]["traceback"]
    assert "site-packages" not in errors["fail"]["traceback"]
    assert jobs["own timeout"].number("current_retries") == 2
    assert ends["late"].last_error == "Job timed out after 1s."
    until(lambda: not list((daemon.state / "sandboxes").glob("*/[0-9]*")), 5, "the sandboxes to be removed")


async def test_ten_jobs_of_a_killed_worker_start_again_at_once(a: App) -> None:
    ids = await a.held(20)
    jobs = [await a.job(job_id) for job_id in ids]
    held = {job.id: job.fields["start_time"] for job in jobs if "_default.0_" in job.fields["worker_id"]}
    assert len(held) == 10
    loop = asyncio.get_running_loop()
    began = loop.time()
    os.kill(a.daemon.workers()["worker default/0 g1"], signal.SIGKILL)
    while any([(await a.job(i)).fields.get("start_time") in (None, start) for i, start in held.items()]):
        assert loop.time() - began < LEASE_SECONDS / 3
    a.let_go()
    assert await a.ends(ids) == {"COMPLETED": 20}
    starts = a.starts()
    assert all(starts[i] == (2 if i in held else 1) for i in ids)


async def test_running_jobs_are_cancelled_at_once_when_asked(a: App) -> None:
    ids = [await a.tell("sleep", seconds=60), await a.tell("until cancelled", plain=True)]
    await a.running(ids)
    assert [await a.client.cancel(i) for i in ids] == ["asked", "asked"]
    assert await a.ends(ids) == {"CANCELLED": 2}


@pytest.mark.parametrize("who", ["steward", "mold default g1", "web", "valkey"])
async def test_the_death_of_a_helper_is_not_felt(who: str, a: App) -> None:
    ids = await a.held(10)
    children = a.daemon.children()
    name = next(title for title in children if title.startswith(who))
    mark = a.daemon.mark()
    os.kill(children[name], signal.SIGKILL)
    a.daemon.expect_log(f"{who.split()[0]}.died", since=mark)
    ids += [await a.tell() for _ in range(10)]
    a.let_go()
    assert await a.ends(ids) == {"COMPLETED": 20}
    assert set(a.starts().values()) == {1}
    a.daemon.expect_log(f"{who.split()[0]}.ready", since=mark)


async def test_reloads_under_load_lose_and_double_nothing(a: App) -> None:
    ids: list[str] = []
    mark, daemon = a.daemon.mark(), a.daemon
    for done in range(4):
        daemon.signal(signal.SIGHUP)
        while daemon.count_log("reload.done", since=mark) <= done:
            params = {"do": "ok", "ledger": str(a.ledger)}
            ids += await a.client.enqueue_many([("told", {"params": params}) for _ in range(20)])
            await asyncio.sleep(0.04)
    assert await a.ends(ids) == {"COMPLETED": len(ids)}
    starts = a.starts()
    assert len(starts) == len(ids)
    assert set(starts.values()) == {1}


async def test_a_handler_that_kills_its_worker_is_poison_and_its_neighbours_end_well(alone: App) -> None:
    ids = await alone.held(4)
    mark = alone.daemon.mark()
    bad = await alone.tell("kill")
    # They are aboard twice; then everybody has to run alone, so they must not stay for ever.
    until(lambda: alone.daemon.count_log("worker.died", since=mark) >= 2, 20, "two deaths")
    alone.let_go()
    assert (await alone.end(bad, 40)).status == "FAILED"
    assert "Poison" in ((await alone.job(bad)).last_error or "")
    assert await alone.ends(ids, 40) == {"COMPLETED": 4}


@pytest.mark.parametrize("plain", [False, True])
async def test_a_handler_that_blocks_for_ever_costs_its_worker_its_life_and_only_itself_an_attempt(
    plain: bool, alone: App
) -> None:
    neighbours = await alone.held(3)
    options = {"job_timeout_seconds": 1, "max_retries": 1}
    bad = await alone.tell("block", seconds=600, plain=plain, options=options)
    assert (await alone.end(bad)).status == "FAILED"
    alone.daemon.expect_log("worker.died", reason="overdue", culprit=bad)
    alone.let_go()
    assert await alone.ends(neighbours) == {"COMPLETED": 3}
    for job_id in neighbours:
        job = await alone.job(job_id)
        assert (job.number("current_retries") or 0, job.number("rrqd_stalls")) == (0, None)
    assert alone.starts()[bad] == 1


async def test_a_task_that_swallows_its_cancellation_is_ended_too(alone: App) -> None:
    bad = await alone.tell("ignore cancel", options={"job_timeout_seconds": 1, "max_retries": 1})
    assert (await alone.end(bad)).status == "FAILED"
    alone.daemon.expect_log("worker.overdue", job_id=bad)


async def test_a_handler_that_blocks_longer_than_the_lease_runs_once() -> None:
    with whole(processes=1, lease_seconds=1.5, hang_timeout_seconds=60.0) as daemon:
        async with app(daemon) as a:
            job_id = await a.tell("block", seconds=3.5)
            assert (await a.end(job_id)).result == "blocked"
            assert a.starts()[job_id] == 1
            suspect = daemon.expect_log("worker.suspect", job_id=job_id)
            assert "told.py" in suspect["stack"]
        assert daemon.stop() == 0


async def test_after_the_masters_death_the_workers_finish_and_everybody_leaves() -> None:
    with whole() as daemon:
        async with app(daemon) as a:
            ids = await a.held(10)
            family = list(daemon.children().values())
            daemon.signal(signal.SIGKILL)
            daemon.wait()
            a.let_go()
            # Their server leaves as soon as the last of them is done: who asks late, asks the next one.
            until(lambda: not any(map(alive, family)), 12, "the jobs to end, and everybody to leave")
            since = daemon.mark()
            daemon.start()
            daemon.expect_log("rrqd.ready", since=since)
            assert await a.ends(ids) == {"COMPLETED": 10}
            assert set(a.starts().values()) == {1}
            assert (await a.end(await a.tell())).status == "COMPLETED"
        assert daemon.stop() == 0


async def test_a_stop_lets_jobs_finish_and_a_second_one_hands_them_back() -> None:
    with whole(stop_timeout_seconds=20.0) as daemon:
        async with app(daemon) as a:
            short = await a.held(4)
            daemon.signal(signal.SIGTERM)
            daemon.expect_log("stop.begin")
            a.let_go()
            assert await a.ends(short) == {"COMPLETED": 4}
            assert daemon.wait() == 0
            a.close()
            since = daemon.mark()
            daemon.start()
            daemon.expect_log("rrqd.ready", since=since)
            long = await a.held(4)
            since = daemon.mark()
            daemon.signal(signal.SIGTERM)
            daemon.expect_log("stop.begin", since=since)
            daemon.signal(signal.SIGTERM)
            assert daemon.wait() == 0
            a.let_go()
            daemon.start()
            assert await a.ends(long) == {"COMPLETED": 4}
            assert all([(await a.job(i)).number("current_retries") in (None, 0) for i in long])
        assert daemon.stop() == 0
