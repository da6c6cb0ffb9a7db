"""Cron entries of the first API."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from rrqd.classic import CronJob, CronSchedule, JobRegistry, RRQSettings, RRQWorker
from rrqd.store import Store


def test_five_fields_are_read_in_utc() -> None:
    noon = datetime(2026, 2, 27, 12, 0, tzinfo=UTC)

    assert CronSchedule("*/15 * * * *").next_after(noon) == datetime(2026, 2, 27, 12, 15, tzinfo=UTC)
    assert CronSchedule("30 6 * * mon").next_after(noon) == datetime(2026, 3, 2, 6, 30, tzinfo=UTC)
    assert CronSchedule("0 0 1 1 *").next_after(noon.replace(tzinfo=None)) == datetime(2027, 1, 1, tzinfo=UTC)


def test_an_entry_knows_when_it_is_due() -> None:
    entry = CronJob(function_name="f", schedule="0 * * * *", args=[1], kwargs={"a": 2})
    before, after = datetime(2026, 1, 1, 9, 59, 59, tzinfo=UTC), datetime(2026, 1, 1, 10, 0, tzinfo=UTC)

    assert not entry.due(before)
    assert entry.next_run_time == after
    assert entry.due(after)
    entry.schedule_next(after)
    assert not entry.due(after)


def test_what_is_no_schedule_is_refused_when_it_is_written() -> None:
    with pytest.raises(ValueError, match="field"):
        CronJob(function_name="f", schedule="every day")


async def test_a_worker_enqueues_and_runs_its_entries_with_their_arguments(store: Store, dsn: str) -> None:
    ran = asyncio.Event()
    seen: list[Any] = []

    async def tick(ctx: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        seen.append((args, kwargs, ctx["queue_name"]))
        ran.set()

    registry = JobRegistry()
    registry.register("tick", tick)
    entry = CronJob(
        function_name="tick", schedule="* * * * * *", args=[1], kwargs={"a": 2}, queue_name="rrq:queue:clock"
    )
    worker = RRQWorker(RRQSettings(redis_dsn=dsn, cron_jobs=[entry]), registry, queues=["clock"])
    task = asyncio.create_task(worker.run())
    await asyncio.wait_for(ran.wait(), 10)
    worker.stop()
    await task

    assert seen[0] == ((1,), {"a": 2}, "rrq:queue:clock")
