"""Jobs in the whole daemon: every way a run can end, and every process that can die under it."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from tests.support.app import app, whole
from tests.support.daemon import alive
from tests.support.wait import until


async def test_every_way_a_run_can_end() -> None:
    with whole() as daemon:
        async with app(daemon) as a:
            once = {"max_retries": 1}
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
        assert daemon.stop() == 0


async def test_ten_jobs_of_a_killed_worker_start_again_within_a_second() -> None:
    with whole(concurrency=10) as daemon:
        async with app(daemon) as a:
            ids = [await a.tell("sleep", seconds=3) for _ in range(20)]
            held = {
                job.id: job.fields["start_time"]
                for job in await a.running(ids)
                if "_default.0_" in job.fields["worker_id"]
            }
            assert len(held) == 10
            loop = asyncio.get_running_loop()
            began = loop.time()
            os.kill(daemon.workers()["worker default/0 g1"], signal.SIGKILL)
            while any([(await a.job(i)).fields.get("start_time") in (None, start) for i, start in held.items()]):
                assert loop.time() - began < 1.0
            assert await a.ends(ids) == {"COMPLETED": 20}
            starts = a.starts()
            assert all(starts[i] == (2 if i in held else 1) for i in ids)
        assert daemon.stop() == 0


async def test_a_handler_that_kills_its_worker_is_poison_and_its_neighbours_end_well() -> None:
    with whole(processes=1) as daemon:
        async with app(daemon) as a:
            ids = [await a.tell("sleep", seconds=1) for _ in range(4)]
            bad = await a.tell("kill")
            assert (await a.end(bad, 40)).status == "FAILED"
            assert "Poison" in ((await a.job(bad)).last_error or "")
            assert await a.ends(ids, 40) == {"COMPLETED": 4}
        assert daemon.stop() == 0


async def test_a_handler_that_blocks_longer_than_the_lease_runs_once() -> None:
    with whole(processes=1, lease_seconds=1.5, hang_timeout_seconds=60.0) as daemon:
        async with app(daemon) as a:
            job_id = await a.tell("block", seconds=5)
            assert (await a.end(job_id)).result == "blocked"
            assert a.starts()[job_id] == 1
            suspect = daemon.expect_log("worker.suspect", job_id=job_id)
            assert "told.py" in suspect["stack"]
        assert daemon.stop() == 0


@pytest.mark.parametrize("plain", [False, True])
async def test_a_handler_that_blocks_for_ever_costs_its_worker_its_life_and_only_itself_an_attempt(plain: bool) -> None:
    with whole(processes=1, timeout_grace_seconds=0.5) as daemon:
        async with app(daemon) as a:
            options = {"job_timeout_seconds": 1, "max_retries": 1}
            neighbours = [await a.tell("sleep", seconds=3) for _ in range(3)]
            await a.running(neighbours)
            bad = await a.tell("block", seconds=600, plain=plain, options=options)
            assert (await a.end(bad)).status == "FAILED"
            assert await a.ends(neighbours) == {"COMPLETED": 3}
            for job_id in neighbours:
                job = await a.job(job_id)
                assert (job.number("current_retries") or 0, job.number("rrqd_stalls")) == (0, None)
            assert a.starts()[bad] == 1
        assert daemon.stop() == 0


async def test_a_task_that_swallows_its_cancellation_is_ended_too() -> None:
    with whole(processes=1, timeout_grace_seconds=0.5) as daemon:
        async with app(daemon) as a:
            bad = await a.tell("ignore cancel", options={"job_timeout_seconds": 1, "max_retries": 1})
            assert (await a.end(bad)).status == "FAILED"
            daemon.expect_log("worker.overdue", job_id=bad)
        assert daemon.stop() == 0


async def test_running_jobs_are_cancelled_at_once_when_asked() -> None:
    with whole() as daemon:
        async with app(daemon) as a:
            ids = [await a.tell("sleep", seconds=60), await a.tell("until cancelled", plain=True)]
            await a.running(ids)
            assert [await a.client.cancel(i) for i in ids] == ["asked", "asked"]
            assert await a.ends(ids, 3) == {"CANCELLED": 2}
        assert daemon.stop() == 0


@pytest.mark.parametrize("who", ["steward", "mold default g1", "web", "valkey"])
async def test_the_death_of_a_helper_is_not_felt(who: str) -> None:
    with whole() as daemon:
        async with app(daemon) as a:
            ids = [await a.tell("sleep", seconds=1) for _ in range(10)]
            await a.running(ids)
            children = daemon.children()
            name = next(title for title in children if title.startswith(who))
            os.kill(children[name], signal.SIGKILL)
            ids += [await a.tell() for _ in range(10)]
            assert await a.ends(ids) == {"COMPLETED": 20}
            assert set(a.starts().values()) == {1}
        assert daemon.stop() == 0


async def test_after_the_masters_death_the_workers_finish_and_everybody_leaves() -> None:
    with whole() as daemon:
        async with app(daemon) as a:
            ids = [await a.tell("sleep", seconds=2) for _ in range(10)]
            await a.running(ids)
            family = list(daemon.children().values())
            daemon.signal(signal.SIGKILL)
            daemon.wait()
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
            short = [await a.tell("sleep", seconds=1) for _ in range(4)]
            await a.running(short)
            daemon.signal(signal.SIGTERM)
            daemon.expect_log("stop.begin")
            assert await a.ends(short) == {"COMPLETED": 4}
            assert daemon.wait() == 0
            since = daemon.mark()
            daemon.start()
            daemon.expect_log("rrqd.ready", since=since)
            long = [await a.tell("sleep", seconds=4) for _ in range(4)]
            await a.running(long)
            since = daemon.mark()
            daemon.signal(signal.SIGTERM)
            daemon.expect_log("stop.begin", since=since)
            daemon.signal(signal.SIGTERM)
            assert daemon.wait(5) == 0
            daemon.start()
            assert await a.ends(long) == {"COMPLETED": 4}
            assert all([(await a.job(i)).number("current_retries") in (None, 0) for i in long])
        assert daemon.stop() == 0


async def test_reloads_under_load_lose_and_double_nothing() -> None:
    with whole() as daemon:
        async with app(daemon) as a:
            ids: list[str] = []
            loop = asyncio.get_running_loop()
            until_time = loop.time() + 8
            next_hup = loop.time() + 1
            while loop.time() < until_time:
                params = {"do": "ok", "ledger": str(a.ledger)}
                ids += await a.client.enqueue_many([("told", {"params": params}) for _ in range(25)])
                if loop.time() > next_hup:
                    daemon.signal(signal.SIGHUP)
                    next_hup += 2
                await asyncio.sleep(0.02)
            assert await a.ends(ids) == {"COMPLETED": len(ids)}
            starts = a.starts()
            assert len(starts) == len(ids)
            assert set(starts.values()) == {1}
            assert daemon.count_log("reload.done") >= 3
        assert daemon.stop() == 0
