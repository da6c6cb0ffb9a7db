"""Defects of RRQ 0.11.1 (numbered as in docs/migrating-from-rrq.md) that show in what is stored and said: how it is
here.

Those that show in a running worker stand in ``test_w_worker.py``.
"""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import rrqd
from rrqd import clock
from rrqd.cli.main import cli
from rrqd.client import RRQClient
from rrqd.model.job import Once
from rrqd.model.lifecycle import End
from rrqd.store import Charge, Store, StorePolicy
from tests.support.moves import NODE, hand, job, known, lapse, place_of, raw

WEEK = 604_800


async def operator(dsn: str, folder: Path, *words: str, text: str = "") -> Result:
    """A command on that server."""
    config = folder / "rrq.toml"
    config.write_text(f'[rrq]\nredis_dsn = "{dsn}"\n{text}[rrqd]\nhttp = "off"\nstate_dir = "{folder}"\n')
    call = [*words, "--config", str(config)]
    return await asyncio.to_thread(lambda: CliRunner().invoke(cli, call, prog_name="rrqd"))


async def test_w09_a_job_put_back_from_the_dead_letter_queue_is_as_new(store: Store) -> None:
    """There: it keeps its attempts (the next failure buries it), its error and its week to live, not its queue."""
    await store.enqueue_many([job("a", queue="mail", max_retries=2)])
    worker = await hand(store, queues=["mail"])
    (a,) = await worker.take()
    await worker.settle(a, End.BURY, ttl_seconds=WEEK)
    assert await raw(store, "TTL", "rrq:job:a") > 0

    assert await store.revive(["a"]) == ["a"]

    new = (await known(store, "a")).fields
    assert (new["status"], new["current_retries"], new["queue_name"]) == ("PENDING", "0", "rrq:queue:mail")
    assert not {"last_error", "completion_time", "worker_id", "start_time"} & new.keys()
    assert await raw(store, "TTL", "rrq:job:a") == -1
    assert await place_of(store, "a") == ["queue:mail"]


async def test_w12_both_kinds_of_unique_keys_are_seen_and_each_is_freed_by_its_owner_only(store: Store) -> None:
    """There: they do not see each other, and whoever ends first frees the lock, whosever it is."""
    old = {"function_name": "f", "status": "PENDING", "enqueue_time": "2026-01-31T12:00:00Z", "job_unique_key": "k"}
    await raw(store, "HSET", "rrq:job:old", *(word for pair in old.items() for word in pair))
    await raw(store, "ZADD", "rrq:queue:default", 1, "old")
    await raw(store, "SET", "rrq:lock:unique:k", "old")  # as RRQ's first API, and its cron, take one
    wanted = job("new", once=Once(unique_key="k", unique_ttl_seconds=60))
    (report,) = await store.enqueue_many([wanted])
    assert (report.job_id, report.happened) == ("old", "duplicate")

    worker = await hand(store)
    (running,) = await worker.take()
    await raw(store, "SET", "rrq:lock:unique:k", "other")  # its own has run out
    await worker.settle(running)

    assert await raw(store, "GET", "rrq:lock:unique:k") == b"other"
    (report,) = await store.enqueue_many([wanted])
    assert (report.job_id, report.happened) == ("new", "created")  # there is no job "other"


async def test_w15_all_keys_of_a_namespace_share_a_slot(dsn: str, store: Store) -> None:
    """There: scripts over keys of different slots, so no cluster takes them."""
    billing = await Store.open(dsn, StorePolicy(namespace="{billing}"), client_name="rrqd:test")
    await billing.enqueue_many(
        [
            job("a", once=Once(unique_key="k", unique_ttl_seconds=60)),
            job("b"),
            job("c", priority=3),
            job("d", delay_ms=1000),
        ]
    )
    worker = await hand(billing)
    first, second, *_ = await worker.take()
    await worker.settle(first)
    await worker.settle(second, End.BURY)
    await billing.pause_queues(["mail"])

    keys = await raw(store, "KEYS", "*")

    assert len(keys) > 10
    assert [key for key in keys if not key.startswith(b"{billing}rrq")] == []
    await billing.close()


async def test_w16_check_says_by_its_exit_code_that_nobody_lives(dsn: str, store: Store, tmp_path: Path) -> None:
    """There: 0 in any case."""
    assert (await operator(dsn, tmp_path, "check")).exit_code == 1
    await store.write_health([("somebody", b'{"worker_id":"somebody"}')], 60)
    assert (await operator(dsn, tmp_path, "check")).exit_code == 0


async def test_w17_no_text_breaks_a_table_and_no_time_is_negative(dsn: str, store: Store, tmp_path: Path) -> None:
    """There: a name that is cut inside a letter ends the program, and a clock that is ahead gives negative waits."""
    for length in range(20, 70):
        name = "x" * (length % 4) + "é" * length
        fields = ("id", f"j{length}", "function_name", name, "status", "FAILED", "last_error", name + "💥")
        times = ("enqueue_time", "2026-01-31T12:00:00Z", "start_time", "2026-01-31T11:00:00Z")
        await raw(store, "HSET", f"rrq:job:j{length}", *fields, *times)
        await raw(store, "LPUSH", "rrq:dlq:default", f"j{length}")
    for words in (("dlq", "list", "--limit", "100"), ("dlq", "stats"), ("job", "list"), ("job", "trace", "j20")):
        said = await operator(dsn, tmp_path, *words)
        assert said.exit_code == 0, said.output
        assert "+-" not in said.stdout
    steps = json.loads((await operator(dsn, tmp_path, "job", "trace", "j20", "--json")).stdout)["events"]
    assert [step["event"] for step in steps] == ["started", "enqueued"]
    assert all((step["after_seconds"] or 0) >= 0 for step in steps)


async def test_w18_only_the_servers_clock_decides(dsn: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """There: the producer's, the worker's and the runner's are compared; a wrong one makes jobs late or time out."""
    right = clock.wall
    monkeypatch.setattr(clock, "wall", lambda: right() + timedelta(hours=1))
    worker = await hand(store)
    async with RRQClient(config={"redis_dsn": dsn}) as client:
        now = await client.enqueue("f")
        await client.enqueue("f", {"defer_by_seconds": 600})

    claim = await worker.claim()

    assert [one.id for one in claim.jobs] == [now]
    assert abs(claim.jobs[0].claimed_ms - claim.jobs[0].due_ms) < 5000
    assert claim.next_due_ms is not None
    assert 590_000 < claim.next_due_ms - claim.now_ms < 610_000


async def test_w19_nothing_is_left_over_for_ever(store: Store) -> None:
    """There: cancelled jobs, and entries of dead-letter queues whose jobs have expired."""
    await store.enqueue_many([job("cancelled"), job("buried")])
    await store.cancel("cancelled")
    worker = await hand(store)
    (buried,) = await worker.take()
    await worker.settle(buried, End.BURY)
    assert 0 < await raw(store, "TTL", "rrq:job:cancelled") <= 86_400
    await raw(store, "DEL", "rrq:job:buried")

    assert await store.trim_dlq("default", most=100) == 1

    assert await store.dlq_size() == 0


async def test_w20_a_key_that_does_not_exist_is_named_with_its_line(dsn: str, tmp_path: Path) -> None:
    """There: ignored under [rrq], so that a wrong spelling goes unnoticed."""
    said = await operator(dsn, tmp_path, "queue", "list", text="default_max_retrys = 3\n")

    assert said.exit_code == 78
    assert said.stderr.startswith(
        f'{tmp_path}/rrq.toml:3: [rrq] default_max_retrys: unknown key; did you mean "default_'
    )


def test_w22_the_package_has_nothing_that_must_be_compiled() -> None:
    """There: wheels for three platforms, and nothing for any other."""
    here = Path(rrqd.__file__).parent

    assert [path for path in here.rglob("*") if path.suffix in (".so", ".pyd", ".dll", ".dylib", ".c", ".pyx")] == []
    assert 'build-backend = "hatchling.build"' in (here.parent / "pyproject.toml").read_text()


async def test_w24_who_has_lost_a_job_can_not_settle_it_any_more(store: Store) -> None:
    """There: success is written without asking who owns the job by now."""
    await store.enqueue_many([job("a")])
    slow = await hand(store, "slow")
    (old,) = await slow.take()
    await lapse(store)
    await store.close_worker("slow", reason="node is gone", charge=Charge.NODE, only_if_lapsed_node=NODE)
    quick = await hand(store, "quick")
    (new,) = await quick.take()

    assert await slow.settle(old) == "stale"

    assert (await known(store, "a")).status == "ACTIVE"
    assert await quick.settle(new) == "ok"
    assert new.token > old.token
