"""The real command line on our data, and ours on what the real one makes: both see the same jobs, and each can go on
where the other stopped."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from rrqd.cli.main import cli
from rrqd.model.job import Once
from rrqd.model.lifecycle import End
from rrqd.store import Charge, Store
from tests.interop.conftest import RealRRQ
from tests.support.moves import hand, job, raw


class Both:
    """One server, two command lines."""

    def __init__(self, real_rrq: RealRRQ, dsn: str, folder: Path) -> None:
        self._real = real_rrq
        self._config = folder / "rrq.toml"
        self._config.write_text(f'[rrq]\nredis_dsn = "{dsn}"\n')

    async def theirs(self, *words: str) -> str:
        return await asyncio.to_thread(self._real.program, *words, "--config", str(self._config))

    async def ours(self, *words: str) -> Any:
        call = [*words, "--json", "--config", str(self._config)]
        done = await asyncio.to_thread(lambda: CliRunner().invoke(cli, call, prog_name="rrqd"))
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)


@pytest.fixture
def both(real_rrq: RealRRQ, dsn: str, store: Store, tmp_path: Path) -> Both:
    return Both(real_rrq, dsn, tmp_path)


async def test_the_real_command_line_reads_our_data(both: Both, store: Store) -> None:
    jobs = [
        job("waits", params=b'{"n":1}'), job("later", delay_ms=600_000), job("first", priority=9), job("done"),
        job("tagged", tags=["a"], once=Once(unique_key="k", unique_ttl_seconds=60)), job("buried"), job("runs"),
        job("mail", queue="mail"),
    ]  # fmt: skip
    await store.enqueue_many(jobs)
    worker = await hand(store)
    held = {one.id: one for one in await worker.take()}
    await worker.settle(held["done"])
    await worker.settle(held["buried"], End.BURY, error="why é")
    await store.release("worker-1", [(i, held[i].token) for i in ("waits", "first", "tagged")], "for this test")

    assert "rrq:queue:mail" in await both.theirs("queue", "list")
    assert re.search(r"rrq:queue:default +\d", await both.theirs("queue", "stats"))
    assert "waits" in await both.theirs("queue", "inspect", "default")
    shown = {name: await both.theirs("job", "show", name) for name in ("waits", "later", "first", "tagged", "runs")}
    assert all(re.search(rf"function_name +{'noop'}", page) for page in shown.values())
    assert re.search(r"status +ACTIVE", shown["runs"])
    listed = await both.theirs("job", "list", "--limit", "50")
    assert all(one.id in listed for one in jobs)
    assert "Status: COMPLETED" in await both.theirs("job", "trace", "done")
    assert "why é" in await both.theirs("dlq", "list")
    assert "buried" in await both.theirs("dlq", "inspect", "buried")
    assert "why é" in await both.theirs("dlq", "stats")


async def test_what_the_real_command_line_does_to_our_jobs_is_understood(both: Both, store: Store) -> None:
    await store.enqueue_many(
        [job("again", queue="mail", max_retries=2), job("buried"), job("unwanted", delay_ms=600_000)]
    )
    worker = await hand(store, queues=["default", "mail"])
    (one,) = [job for job in await worker.take() if job.id == "buried"]
    await worker.settle(one, End.BURY)
    await store.close_worker("worker-1", reason="x", charge=Charge.NOBODY)

    said = await both.theirs("job", "replay", "again")
    copy = said.strip().rpartition(" ")[2]
    assert "cancelled successfully" in await both.theirs("job", "cancel", "unwanted")
    assert "Requeued 1" in await both.theirs("dlq", "requeue", "--job-id", "buried")

    assert (await both.ours("job", "show", "unwanted"))["status"] == "CANCELLED"
    assert (await both.ours("dlq", "list"))["total"] == 0
    worker = await hand(store, "worker-2", queues=["default", "mail"])
    assert {one.id for one in await worker.take()} == {"again", "buried", copy}
    assert await raw(store, "TTL", "rrq:job:buried") == -1  # the real one leaves the week to live of a buried job


async def test_ours_reads_what_the_real_one_makes_up(both: Both, store: Store) -> None:
    await both.theirs("debug", "generate-jobs", "--count", "40", "--status", "pending", "--status", "completed")
    await both.theirs("debug", "submit", "f", "--args", "[1]")

    rows = await both.ours("job", "list", "--scan", "--limit", "100")
    stats = await both.ours("queue", "stats", "--max-scan", "0")

    assert len(rows) == 41
    # Of a queue that happens to have got completed jobs only nothing is left but those.
    listed = {row["queue"] for row in stats}
    assert sum(row["due"] + row["completed"] for row in stats) == sum(row["queue"] in listed for row in rows)
    for row in rows[:5]:
        assert (await both.ours("job", "trace", row["id"]))["events"][0]["event"] == "enqueued"
    assert (await both.ours("debug", "clear", "--confirm"))["removed"] == 40
    assert (await both.ours("job", "list", "--scan", "--limit", "100"))[0]["function"] == "f"


async def test_made_up_workers_and_jobs_of_ours_are_seen_by_the_real_one(both: Both, store: Store) -> None:
    await both.ours("debug", "generate-jobs", "--count", "30", "--queue", "demo")
    report = {
        "active_jobs": 1, "concurrency_limit": 2, "queues": ["rrq:queue:demo"], "status": "running",
        "timestamp": "2026-01-01T00:00:00+00:00", "worker_id": "w",
    }  # fmt: skip
    await store.write_health([("w", json.dumps(report).encode())], 60)

    assert "Found 1 active worker(s)" in await both.theirs("check")
    assert "test_" in await both.theirs("job", "list", "--queue", "demo")
    for job_id in (await raw(store, "KEYS", "rrq:job:test_*"))[:3]:
        assert "rrq:queue:demo" in await both.theirs("job", "show", job_id.decode().removeprefix("rrq:job:"))


def leaves(rrq: RealRRQ, *words: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """The real commands without sub-commands, each with its help page."""
    page = rrq.program(*words, "--help")
    commands = re.search(r"^Commands:\n((?: .*\n)+)", page, re.MULTILINE)
    if commands is None:
        yield words, page
        return
    for line in commands[1].splitlines():
        name = line.split()[0]
        if name != "help":
            yield from leaves(rrq, *words, name)


def test_every_command_and_option_of_the_real_one_is_here(real_rrq: RealRRQ) -> None:
    missing = []
    pages = dict(leaves(real_rrq))
    for words, page in pages.items():
        command: click.Command = cli
        for word in words:
            if isinstance(command, click.Group):  # `runner python` is a command with an argument here
                found = command.get_command(click.Context(command), word)
                assert found is not None, f"{' '.join(words)} is missing"
                command = found
        options = {name: one for one in command.params if isinstance(one, click.Option) for name in one.opts}
        for name, value in re.findall(r"^ +(--[a-z-]+)( <\w+>)?", page, re.MULTILINE):
            there = options.get(name)
            if there is None or there.is_flag == bool(value):
                missing.append((*words, name))
    assert len(pages) > 20
    assert missing == []
