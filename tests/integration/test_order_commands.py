"""``rrqd job priority`` and ``rrqd job deps``, as a person types them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from rrqd.store import Store, StorePolicy
from tests.support.line import Line


@pytest.fixture
def line(dsn: str, tmp_path: Path) -> Line:
    """On an empty database."""

    async def empty() -> None:
        store = await Store.open(dsn, StorePolicy(), client_name="rrqd:test")
        await (await store.link()).call("FLUSHALL")
        await store.close()

    asyncio.run(empty())
    return Line(tmp_path, dsn)


def test_priority(line: Line) -> None:
    line("enqueue", "noop", "--job-id", "a", "--priority", "-3")
    assert "waits with priority -7.5" in line("job", "priority", "a", "-7.5").out
    assert json.loads(line("job", "show", "a", "--json").out)["priority"] == -7.5
    gone = line("job", "priority", "nobody", "1")
    assert (gone.code, "there is no such job" in gone.out) == (1, True)
    assert line("job", "priority", "a", "nan").code == 2
    assert line("enqueue", "noop", "--priority", "1e300").code == 2


def test_deps(line: Line) -> None:
    line("enqueue", "noop", "--job-id", "a")
    line("enqueue", "noop", "--job-id", "b", "--depends-on", "a", "--on-parent", "run")
    shown = line("job", "deps", "b").out
    assert "a  PENDING  waited for" in shown
    assert json.loads(line("job", "deps", "a", "--json").out)["some_children"] == ["b"]
    circle = line("job", "deps", "a", "--add", "b")
    assert (circle.code, "waits for job a itself" in circle.err) == (2, True)
    assert "in its queue" in line("job", "deps", "b", "--drop", "a").out
    assert line("job", "deps", "b", "--drop-all").code == 1
    assert "waits for others" in line("job", "deps", "b", "--add", "a").out
    assert line("job", "deps", "b", "--add", "a", "--drop-all").code == 2
    assert line("job", "deps", "nobody").code == 1
    stranger = line("enqueue", "noop", "--depends-on", "nobody")
    assert (stranger.code, "--depends-on names no job that is there: nobody" in stranger.err) == (1, True)


def test_why(line: Line) -> None:
    line("enqueue", "noop", "--job-id", "a", "--priority", "2")
    said = line("why", "a")
    assert "in queue default, with a priority" in said.out
    assert "no living worker takes jobs from queue default" in said.out
    assert json.loads(line("why", "a", "--json").out)["reasons"][0]["code"] == "no-worker"
    assert line("why", "nobody").code == 1


def test_lists_show_those_that_wait_elsewhere(line: Line) -> None:
    line("throttle", "set", "api", "0")
    line("enqueue", "noop", "--job-id", "a", "--priority", "1", "--delay", "60")
    line("enqueue", "noop", "--job-id", "b", "--depends-on", "a")
    listed = json.loads(line("job", "list", "--json").out)
    assert sorted(row["id"] for row in listed) == ["a", "b"]
    (row,) = json.loads(line("queue", "list", "--json").out)
    assert (row["due"], row["scheduled"], row["dependent"]) == (0, 1, 1)
