"""Recurring jobs: each made once, by whichever steward comes first; templates changed while work goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import structlog

from rrqd.client import RRQClient, SyncRRQClient
from rrqd.config.settings import Settings
from rrqd.exc import InvalidRequest
from rrqd.model.recurring import Recurring, due
from rrqd.store import Store
from rrqd.upkeep.recurrence import Recurrence
from tests.support.line import Line
from tests.support.moves import hand, known, raw


def steward(store: Store, node: str = "node-1") -> Recurrence:
    return Recurrence(store, node, Settings(), structlog.get_logger())


async def template(store: Store, template_id: str = "r", *, offset_ms: float = 0, **fields: Any) -> Recurring:
    one = Recurring(**{
        "id": template_id, "function": "noop", "options": {}, "interval_ms": 60_000, "next_ms": 0.0, **fields,
    })  # fmt: skip
    await store.put_recurring(one, offset_ms=offset_ms)
    return await read(store, template_id)


async def read(store: Store, template_id: str = "r") -> Recurring:
    found = await store.recurring(template_id)
    assert found is not None
    return found


async def waiting(store: Store, queue: str = "default") -> list[str]:
    return await store.queue_page(queue, 0, 1000)


async def test_a_job_is_made_when_its_time_has_come_and_not_again(store: Store) -> None:
    before = await template(store, options={"params": {"n": 1}, "tags": ["x"], "queue_name": "mail"})
    await steward(store).run_once(0)
    await steward(store).run_once(0)

    assert await waiting(store, "mail") == ["r-1"]
    made = await known(store, "r-1")
    assert (made.function, made.params, made.tags, made.fields["rrqd_recurring"]) == ("noop", {"n": 1}, ["x"], "r")
    now = await read(store)
    assert (now.count, now.next_ms) == (1, pytest.approx(before.next_ms + 60_000, abs=0.002))


async def test_what_was_missed_is_made_up_in_order(store: Store) -> None:
    await template(store, offset_ms=-185_000)
    await steward(store).run_once(0)
    assert await waiting(store) == ["r-1", "r-2", "r-3", "r-4"]
    await template(store, "b", offset_ms=-1_000_000, backlog=2, options={"queue_name": "b"})
    await steward(store).run_once(0)
    assert await waiting(store, "b") == ["b-1", "b-2"]
    assert (await read(store, "b")).count == 2


async def test_many_stewards_make_each_job_once(store: Store, dsn: str) -> None:
    others = [await Store.open(dsn, store.policy, client_name=f"s{n}") for n in range(4)]
    for n in range(10):
        await template(store, f"r{n}", offset_ms=-600_000)
    await asyncio.gather(*(steward(one, f"node-{n}").run_once(0) for n, one in enumerate([store, *others])))
    for one in others:
        await one.close()
    assert sorted(await waiting(store)) == sorted(f"r{n}-{k}" for n in range(10) for k in range(1, 12))
    assert [(await read(store, f"r{n}")).count for n in range(10)] == [11] * 10


async def test_who_dies_between_making_and_moving_on_makes_nothing_twice(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await template(store)

    async def dies(_one: Recurring, _turn: object) -> bool:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(store, "advance_recurring", dies)
        with pytest.raises(asyncio.CancelledError):
            await steward(store).run_once(0)
    worker = await hand(store)
    (claimed,) = await worker.take()
    await worker.settle(claimed)
    await steward(store, "node-2").run_once(0)
    assert await waiting(store) == []
    assert (await read(store)).count == 1


async def test_an_advance_from_what_is_no_longer_so_changes_nothing(store: Store) -> None:
    was = await template(store)
    turn = due(was, was.next_ms)
    assert await store.advance_recurring(was, turn) is True
    assert await store.advance_recurring(was, turn) is False


async def test_none_while_the_last_one_has_not_ended(store: Store) -> None:
    await template(store, unique=True, interval_ms=1000, offset_ms=-2500)
    await steward(store).run_once(0)
    assert await waiting(store) == ["r-1"]
    assert (await read(store)).count == 3


async def test_a_changed_interval_moves_the_next_time_and_a_replaced_template_goes_on_counting(store: Store) -> None:
    await template(store)
    await steward(store).run_once(0)
    was = await read(store)
    await store.update_recurring(Recurring(**{**_plain(was), "interval_ms": 90_000}))
    assert (await read(store)).next_ms == pytest.approx(was.next_ms + 30_000, abs=0.002)
    now = await template(store, function="other")
    assert (now.count, now.function) == (1, "other")
    await steward(store).run_once(0)
    assert (await known(store, "r-2")).function == "other"


def _plain(one: Recurring) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__struct_fields__}


async def test_removed_it_leaves_nothing_and_added_again_it_begins_anew(store: Store) -> None:
    await template(store)
    await steward(store).run_once(0)
    assert await store.remove_recurring("r") is True
    assert await store.remove_recurring("r") is False
    assert await raw(store, "KEYS", "rrqd:*recurring*") == []
    worker = await hand(store)
    (claimed,) = await worker.take()
    await worker.settle(claimed)
    await template(store)
    await steward(store).run_once(0)
    assert (await known(store, "r-1")).status == "PENDING"


async def test_a_template_that_fits_no_more_is_told_and_left_out(store: Store) -> None:
    await template(store, options={"params": "no mapping"})
    await template(store, "good")
    await steward(store).run_once(0)
    assert await waiting(store) == ["good-1"]
    assert (await read(store)).next_ms > (await store.due_recurring())[0]


async def test_both_clients_keep_templates(store: Store, dsn: str) -> None:
    async with RRQClient(config={"redis_dsn": dsn}) as client:
        made = await client.recurring.add("noop", {"tags": ["x"], "priority": 2}, every_seconds=0.5, offset_seconds=60)
        one = await client.recurring.get(made)
        assert one is not None
        assert (one.function, one.interval_ms, one.options) == ("noop", 500, {"tags": ["x"], "priority": 2})
        changed = await client.recurring.update(made, options={"tags": None, "queue_name": "q"}, backlog=3, unique=True)
        assert changed is not None
        assert (changed.options, changed.backlog, changed.unique) == ({"priority": 2, "queue_name": "q"}, 3, True)
        assert changed.next_ms == one.next_ms
        assert [one.id for one in await client.recurring.all()] == [made]
        assert await client.recurring.update("nobody", backlog=1) is None
        for words in ({"every_seconds": 0}, {"every_seconds": 1, "backlog": -1}, {"every_seconds": 1, "id": ""}):
            with pytest.raises(InvalidRequest):
                await client.recurring.add("noop", **words)
        with pytest.raises(InvalidRequest, match="count is nothing"):
            await client.recurring.update(made, count=1)
        assert await client.recurring.remove(made) is True


def test_the_command_line(dsn: str, tmp_path: Path) -> None:
    line = Line(tmp_path, dsn)
    assert (
        line("recurring", "add", "noop", "--every", "30", "--id", "cli-r", "--offset", "60", "--tag", "t").out
        == "cli-r\n"
    )
    with SyncRRQClient(config={"redis_dsn": dsn}) as client:
        one = client.recurring.get("cli-r")
        assert one is not None
        assert one.interval_ms == 30_000
    said = line("recurring", "update", "cli-r", "--every", "60", "--queue", "mail", "--unique", "--json").data
    assert (said["every_seconds"], said["unique"], said["options"]) == (60, True, {"tags": ["t"], "queue_name": "mail"})
    assert "cli-r" in [row["id"] for row in line("recurring", "list", "--limit", "1000", "--json").data]
    assert line("recurring", "update", "nobody", "--every", "1").why == "there is no recurring job nobody"
    assert line("recurring", "add", "noop", "--every", "0").why.endswith(
        "every_seconds must be at least 0.01; see rrqd recurring add --help"
    )
    said = line("recurring", "update", "cli-r", "--tenant", "acme", "--rate", "api:2/m", "--json").data
    assert (said["options"]["tenant"], said["options"]["rate"]) == ("acme", "api:2/m")
    assert "rate" in line("recurring", "update", "cli-r", "--rate", "api").why
    assert line("recurring", "remove", "cli-r").code == 0
    assert line("recurring", "remove", "cli-r").code == 1
