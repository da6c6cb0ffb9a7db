"""The clockwork of several nodes over one server: each tick once, on time; what is missed goes by the policy."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rrqd.config.settings import Settings
from rrqd.exc import StoreError, StoreUnavailable
from rrqd.store import Store, StorePolicy
from rrqd.upkeep.crontab import Crontab
from tests.support.moves import known, raw
from tests.support.wait import until_async

SECOND = timedelta(seconds=1)


class Log:
    """What was logged: (event, fields)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append((str(event), fields))

    warning = error = info

    def of(self, event: str) -> list[dict[str, Any]]:
        return [fields for name, fields in self.lines if name == event]


class Node:
    """A steward's clockwork with a connection of its own."""

    def __init__(self, store: Store, name: str, *entries: dict[str, Any]) -> None:
        self.log = Log()
        self.store = store
        self.unavailable: list[StoreError] = []
        self.crontab = Crontab(store, name, timetable(*entries), self.log, self.unavailable.append)


def timetable(*entries: dict[str, Any]) -> Settings:
    return Settings.model_validate({"rrq": {"cron_jobs": [{"function_name": "f", **entry} for entry in entries]}})


@pytest.fixture
async def stores(store: Store, dsn: str) -> AsyncIterator[list[Store]]:
    """Two more connections to the empty server."""
    more = [await Store.open(dsn, StorePolicy(), client_name=f"rrqd:test:{n}") for n in range(2)]
    yield more
    for one in more:
        await one.close()


async def now(store: Store) -> datetime:
    return datetime.fromtimestamp(await store.server_ms() / 1000, UTC)


async def last_was(store: Store, name: str, moment: datetime, version: str) -> None:
    """All nodes went away at that moment."""
    await store.pass_over(name, moment, version)


async def test_w07_nodes_without_a_leader_enqueue_each_tick_once_and_on_time(store: Store, stores: list[Store]) -> None:
    nodes = [Node(one, f"node-{n}", {"schedule": "* * * * * *"}) for n, one in enumerate([store, *stores])]
    running = [asyncio.create_task(node.crontab.run()) for node in nodes]

    async def several() -> bool:
        return (await store.cron_states(["f"]))["f"].fired >= 4

    await until_async(several, 10, "four ticks")
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)

    fired = [line for node in nodes for line in node.log.of("cron.fired")]
    ticks = sorted(datetime.fromisoformat(line["tick"]) for line in fired)
    assert ticks == [ticks[0] + n * SECOND for n in range(len(ticks))]
    assert await store.queue_page("default", 0, 99) == [f"cron:f:{tick:%Y%m%dT%H%M%SZ}" for tick in ticks]
    for tick, line in zip(ticks, sorted(fired, key=lambda line: line["tick"]), strict=True):
        job = await known(store, line["job"])
        moment = job.moment("enqueue_time")
        assert moment is not None
        assert timedelta(0) <= moment - tick < 0.25 * SECOND
    assert [line for node in nodes for name, line in node.log.lines if name != "cron.fired"] == []


@pytest.mark.parametrize(("missed", "made_up"), [("skip", 0), ("one", 1), ("all", 3)])
async def test_ticks_missed_while_all_were_away(store: Store, stores: list[Store], missed: str, made_up: int) -> None:
    entry = {"schedule": "0 0 * * * *", "missed": missed, "missed_within_seconds": 360_000, "missed_most": 3}
    gone = (await now(store)).replace(minute=30, second=0, microsecond=0) - timedelta(hours=6)
    await last_was(store, "f", gone, "0 0 * * * * UTC")
    nodes = [Node(one, f"node-{n}", entry) for n, one in enumerate(stores)]
    pauses = [await node.crontab.run_once() for node in nodes]

    assert all(0 < pause <= 30 for pause in pauses)
    assert len(await store.queue_page("default", 0, 99)) == made_up
    state = (await store.cron_states(["f"]))["f"]
    (told,) = [line for node in nodes for line in node.log.of("cron.missed")]
    assert told["made_up"] == made_up
    assert state.missed == told["missed"] - made_up
    assert told["missed"] in (5, 6)
    assert [await node.crontab.run_once() > 0 for node in nodes] == [True, True]
    assert (await store.cron_states(["f"]))["f"] == state


async def test_a_new_entry_and_one_whose_schedule_is_another_begin_now(store: Store) -> None:
    gone = await now(store) - timedelta(days=1)
    await last_was(store, "old", gone, "@daily UTC")
    node = Node(store, "n", {"name": "new", "schedule": "* * * * *"}, {"name": "old", "schedule": "* * * * *"})
    await node.crontab.run_once()

    states = await store.cron_states(["new", "old"])
    assert states["old"].last == gone.replace(microsecond=0)
    assert states["new"].last is not None
    assert (states["new"].fired, states["old"].fired, states["old"].missed) == (0, 0, 0)


async def test_a_node_with_another_version_of_the_file_leaves_no_tick_out(store: Store) -> None:
    node = Node(store, "old", {"schedule": "* * * * * *"})
    await node.crontab.run_once()
    begun = (await store.cron_states(["f"]))["f"].last
    assert begun is not None
    await raw(store, "HSET", "rrqd:cron:f", "version", "@hourly UTC")  # another node, already brought up to date
    node.crontab._synced = None  # as if half a minute had passed, just now

    async def over() -> bool:
        return await now(store) > begun + SECOND

    await until_async(over, 5, "the next tick")
    await node.crontab.run_once()

    assert (await store.cron_states(["f"]))["f"].fired == 1


async def test_without_a_timetable_nothing_is_asked_and_a_reload_brings_one(store: Store) -> None:
    node = Node(store, "n")
    assert await node.crontab.run_once() == math.inf
    running = asyncio.create_task(node.crontab.run())
    await asyncio.sleep(0)
    node.crontab.reload(timetable({"name": "e", "schedule": "* * * * * *"}))

    async def ticked() -> bool:
        return (await store.cron_states(["e"]))["e"].fired > 0

    await until_async(ticked, 5, "the new entry to tick")
    node.crontab.reload(timetable())
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_lost_reply_is_asked_for_again_and_makes_no_second_job(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(store, "n", {"schedule": "* * * * * *"})
    tick, lost = Store.tick, Counter[str]()

    async def lossy(self: Store, *words: Any, **more: Any) -> Any:
        answer = await tick(self, *words, **more)
        lost["replies"] += 1
        if lost["replies"] == 1:
            raise StoreUnavailable("the reply was lost")
        return answer

    monkeypatch.setattr(Store, "tick", lossy)
    running = asyncio.create_task(node.crontab.run())
    await until_async(lambda: _true(len(node.log.of("cron.fired")) >= 2), 8, "two ticks to be told of")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert len(node.unavailable) == 1
    fired = [line["job"] for line in node.log.of("cron.fired")]
    assert await store.queue_page("default", 0, 99) == fired
    assert await raw(store, "HGET", "rrqd:cron:f", "fired") == str(len(fired)).encode()


async def _true(fact: bool) -> bool:
    return fact
