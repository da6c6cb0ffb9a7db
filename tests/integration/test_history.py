"""A job's history: who did what when, also what a retry or a revival would overwrite; at no command more."""

from __future__ import annotations

from pathlib import Path

import pytest

from rrqd.client import RRQClient, SyncRRQClient
from rrqd.model.history import Happening, history_of
from rrqd.model.lifecycle import End
from rrqd.model.steps import Step
from rrqd.store import Charge, Store
from tests.support.line import Line
from tests.support.moves import hand, job, known, raw


async def past(store: Store, job_id: str = "a") -> list[Happening]:
    return history_of(await known(store, job_id))


async def test_a_plain_life(store: Store) -> None:
    await store.enqueue_many([job("a")])
    worker = await hand(store)
    (a,) = await worker.take()
    await worker.settle(a)
    told = await past(store)
    assert [(one.what, one.worker) for one in told] == [
        ("enqueued", None), ("claimed", "worker-1"), ("completed", "worker-1"),
    ]  # fmt: skip
    assert [one.at for one in told] == sorted(one.at for one in told)
    assert "rrqd_history" not in (await known(store, "a")).fields


async def test_what_would_be_overwritten_is_kept(store: Store) -> None:
    await store.enqueue_many([job("a")])
    first, second = await hand(store), await hand(store, "worker-2")
    (a,) = await first.take()
    await first.settle(a, End.RETRY, delay_ms=0, error="é" * 400)
    (a,) = await second.take()
    await store.close_worker("worker-2", reason="killed", charge=Charge.NOBODY)
    (a,) = await first.take()
    await first.settle(a, End.SNOOZE, delay_ms=0)
    (a,) = await first.take()
    await first.settle(a, End.BURY, error="boom")
    await store.revive(["a"])
    (a,) = await first.take()
    told = await past(store)
    assert [(one.what, one.worker) for one in told] == [
        ("enqueued", None), ("claimed", "worker-1"), ("retrying", "worker-1"), ("claimed", "worker-2"),
        ("released", "worker-2"), ("claimed", "worker-1"), ("snoozed", "worker-1"), ("claimed", "worker-1"),
        ("buried", "worker-1"), ("revived", None), ("claimed", "worker-1"),
    ]  # fmt: skip
    assert (told[4].why, told[8].why) == ("killed", "boom")
    assert (told[2].why or "").endswith("…")
    assert [one.at for one in told] == sorted(one.at for one in told)


async def test_steps_stand_among_the_rest(store: Store) -> None:
    await store.enqueue_many([job("a")])
    worker = await hand(store)
    (a,) = await worker.take()
    await worker.settle(a, End.RETRY, delay_ms=0)
    (a,) = await worker.take()
    await worker.settle(a, End.ADVANCE, step=Step(), result=b"1", error="")
    (a,) = await worker.take()
    await worker.settle(a)
    assert [one.what for one in await past(store)] == [
        "enqueued", "claimed", "retrying", "claimed", "advanced", "claimed", "completed",
    ]  # fmt: skip


async def test_it_is_capped_and_the_first_stays(store: Store) -> None:
    await store.enqueue_many([job("a")])
    worker = await hand(store)
    for n in range(60):
        (a,) = await worker.take()
        await worker.settle(a, End.RETRY, delay_ms=0, error=f"error {n}")
    told = [one.why for one in await past(store) if one.what == "retrying"]
    assert told == ["error 0", *(f"error {n}" for n in range(11, 60))]


async def test_a_retry_costs_no_command_for_its_history(store: Store) -> None:
    await store.enqueue_many([job("a")])
    worker = await hand(store)
    (a,) = await worker.take()
    await raw(store, "CONFIG", "RESETSTAT")
    await worker.settle(a, End.RETRY)
    stats = (await raw(store, "INFO", "commandstats")).decode().splitlines()
    assert next(line for line in stats if line.startswith("cmdstat_hset:")).startswith("cmdstat_hset:calls=3,")


async def test_clients_and_the_command_tell_it(store: Store, dsn: str) -> None:
    await store.enqueue_many([job("a")])
    async with RRQClient(config={"redis_dsn": dsn}) as client:
        told = await client.past.history("a")
        assert told is not None
        assert [one.what for one in told] == ["enqueued"]
        assert await client.past.history("nobody") is None


@pytest.mark.usefixtures("store")
def test_the_command_line(dsn: str, tmp_path: Path) -> None:
    line = Line(tmp_path, dsn)
    job_id = line("enqueue", "noop", "--rate", "cli:1/h").out.strip()
    with SyncRRQClient(config={"redis_dsn": dsn}) as client:
        told = client.past.history(job_id)
    assert told is not None
    assert [one["what"] for one in line("job", "history", job_id, "--json").data] == ["enqueued"]
    assert "enqueued" in line("job", "history", job_id).out
    assert line("job", "history", "nobody").code == 1
    assert line("enqueue", "noop", "--rate", "cli").why.startswith("rrqd enqueue: rate must be like")
