"""``rrqd job move``, ``timeout``, ``cancel`` in bulk, ``dlq groups``, ``unfail``: what they print, how they end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rrqd.model.lifecycle import End
from rrqd.store import Store
from tests.support.line import Line
from tests.support.moves import hand, job


@pytest.fixture
def line(tmp_path: Path, dsn: str) -> Line:
    return Line(tmp_path, dsn)


async def laid_out(store: Store) -> None:
    await store.enqueue_many([job("runs"), job("fails")])
    worker = await hand(store)
    for one in await worker.take():
        if one.id == "fails":
            await worker.settle(one, End.BURY, result=b"bad address")
    await store.enqueue_many([job("waits", tags=("t",)), job("other", queue="b", tags=("t",))])


async def test_jobs_are_moved_taken_and_brought_back(store: Store, line: Line) -> None:
    await laid_out(store)

    def commands() -> None:
        moved = line("job", "move", "waits", "runs", "nobody", "--queue", "c")
        assert moved.code == 1
        assert moved.out.splitlines() == [
            "waits   waits in queue c", "runs    runs; --running takes it from its worker",
            "nobody  there is no such job",
        ]  # fmt: skip
        assert line("job", "move", "waits", "--priority", "-3", "--delay", "60", "--json").data == {"waits": "moved"}
        assert line("job", "timeout", "runs").out == "runs  was taken from its worker; it waits\n"
        assert line("job", "timeout", "runs").code == 1
        assert line("job", "move", "runs").why.startswith("rrqd job move: say where to")
        assert line("dlq", "groups", "--json").data == [{"group": "bad address", "jobs": 1}]
        assert line("dlq", "unfail", "bad address", "--queue", "c").out == "requeued 1 job to queue c; 0 left\n"
        assert line("dlq", "unfail", "bad address", "--json").code == 1

    await asyncio.to_thread(commands)


async def test_many_are_cancelled_after_a_look(store: Store, line: Line) -> None:
    await laid_out(store)

    def commands() -> None:
        assert line("job", "cancel").code == 2
        assert line("job", "cancel", "waits", "--tag", "t").code == 2
        assert "--yes" in line("job", "cancel", "--tag", "t").why
        assert line("job", "cancel", "--tag", "t", "--dry-run", "--json").data == {
            "waits": "dry-run", "other": "dry-run",
        }  # fmt: skip
        assert line("job", "cancel", "--queue", "b", "--yes", "--json").data == {"other": "cancelled"}
        assert line("job", "cancel", "--tag", "t", "--yes").out == "waits  cancelled\n"
        assert line("job", "cancel", "--tag", "t", "--yes").err == "0 jobs\n"

    await asyncio.to_thread(commands)
