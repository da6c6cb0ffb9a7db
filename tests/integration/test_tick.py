"""A tick in the store: of all nodes that ask for it one gets a job, and the entry's last tick is moved with it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rrqd.model.cron import read_schedule
from rrqd.model.job import NewJob
from rrqd.model.request import Defaults
from rrqd.model.timetable import Entry, job_of
from rrqd.store import Store
from tests.support.moves import hand, known, place_of, raw

PAST = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def entry(**more: Any) -> Entry:
    fields: dict[str, Any] = {
        "name": "e", "function": "send", "schedule": read_schedule("* * * * * *"), "zone": "UTC",
        "options": {"params": {"n": 1}}, "unique": False, "missed": "one", "missed_most": 3,
        "missed_within_seconds": 3600.0,
    }  # fmt: skip
    return Entry(**{**fields, **more})


def ticked(tick: datetime | None = PAST, by: str = "node-1", left_out: int = 0, **more: Any) -> NewJob:
    return job_of(entry(**more), Defaults(), tick, by, left_out)


async def ask(store: Store, *jobs: NewJob) -> list[str]:
    return [answer.ticked for answer in await store.tick(jobs)]


async def test_of_all_nodes_that_ask_one_gets_the_job(store: Store) -> None:
    assert await ask(store, ticked(by="node-1"), ticked(by="node-2")) == ["fired", "done"]

    job = await known(store, "cron:e:20260101T000000Z")
    assert (job.function, job.params, job.status) == ("send", {"n": 1}, "PENDING")
    assert await place_of(store, job.id) == ["queue:default"]
    state = (await store.cron_states(["e"]))["e"]
    assert (state.last, state.job_id, state.by, state.fired) == (PAST, job.id, "node-1", 1)


async def test_ticks_of_one_call_keep_their_order_and_earlier_ones_come_too_late(store: Store) -> None:
    several = [ticked(PAST + n * SECOND, left_out=2 if n == 0 else 0) for n in range(3)]
    assert await ask(store, *several) == ["fired"] * 3
    assert await ask(store, ticked(PAST + SECOND)) == ["done"]
    assert await store.queue_page("default", 0, 9) == [job.id for job in several]
    state = (await store.cron_states(["e"]))["e"]
    assert (state.fired, state.missed) == (3, 2)


async def test_a_tick_that_is_yet_to_come_changes_nothing(store: Store) -> None:
    now = datetime.fromtimestamp(await store.server_ms() / 1000, UTC)

    assert await ask(store, ticked(now.replace(microsecond=0) + 2 * SECOND)) == ["early"]
    assert await raw(store, "EXISTS", "rrqd:cron:e") == 0


async def test_ticks_of_a_pause_are_not_made_up(store: Store) -> None:
    assert await store.pause_cron("e", True)
    assert not await store.pause_cron("e", True)
    assert await ask(store, ticked()) == ["paused"]
    assert await store.pause_cron("e", False)
    assert not await store.pause_cron("e", False)

    assert await ask(store, ticked(), ticked(PAST + SECOND)) == ["done", "fired"]


@pytest.mark.parametrize("running", [False, True])
async def test_a_unique_entry_waits_for_its_last_job_to_end(store: Store, running: bool) -> None:
    worker = await hand(store)
    await ask(store, ticked(unique=True))
    claimed = await worker.take() if running else []

    assert await ask(store, ticked(PAST + SECOND, unique=True)) == ["overlap"]
    for one in claimed or await worker.take():
        await worker.settle(one)
    assert await ask(store, ticked(PAST + SECOND, unique=True), ticked(PAST + 2 * SECOND, unique=True)) == [
        "done", "fired",
    ]  # fmt: skip
    assert (await store.cron_states(["e"]))["e"].overlapped == 1


async def test_a_job_that_a_person_asks_for_is_no_tick(store: Store) -> None:
    assert await ask(store, ticked(None), ticked(None, unique=True)) == ["fired", "overlap"]
    assert (await store.cron_states(["e"]))["e"].last is None


async def test_an_entry_whose_record_was_lost_does_not_run_a_tick_again(store: Store) -> None:
    await ask(store, ticked())
    await raw(store, "DEL", "rrqd:cron:e")

    assert await ask(store, ticked()) == ["done"]


async def test_a_queue_that_is_none_is_told_and_its_neighbours_tick(store: Store) -> None:
    await raw(store, "SET", "rrq:queue:bad", "something else")

    said = await ask(store, ticked(options={"queue_name": "bad"}), ticked(name="other"))
    assert said == ["refused", "fired"]
    assert (await store.cron_states(["e"]))["e"].last is None
