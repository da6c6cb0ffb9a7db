"""pass_over: ticks without a job are dealt with once, and never again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from rrqd.store import Store

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


async def test_what_was_missed_is_counted_by_the_first_that_tells(store: Store) -> None:
    assert await store.pass_over("e", NOON, "v", missed=3)
    assert not await store.pass_over("e", NOON, "v", missed=3)
    assert await store.pass_over("e", NOON + MINUTE, "v", missed=1)

    state = (await store.cron_states(["e"]))["e"]
    assert (state.last, state.missed, state.version) == (NOON + MINUTE, 4, "v")


async def test_the_last_tick_never_goes_back(store: Store) -> None:
    await store.pass_over("e", NOON, "v")

    assert not await store.pass_over("e", NOON - MINUTE, "v")
    assert (await store.cron_states(["e"]))["e"].last == NOON


async def test_an_entry_begins_once(store: Store) -> None:
    assert await store.pass_over("e", NOON, "v", begin=True)
    assert not await store.pass_over("e", NOON + MINUTE, "v", begin=True)
    assert (await store.cron_states(["e", "other"]))["e"].last == NOON
    assert (await store.cron_states(["other"]))["other"].last is None
