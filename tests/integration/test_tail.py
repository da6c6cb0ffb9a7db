"""Following all jobs: each move once, whoever made it; nothing is stored for it, and what is too much is counted."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from rrqd.model.lifecycle import End
from rrqd.model.wanted import Wanted
from rrqd.store import Store
from rrqd.store.tailing import HEARD_MOST, Move, Tail
from tests.support.moves import hand, job, raw


class Ears:
    """What a tail has told so far."""

    def __init__(self, tail: Tail) -> None:
        self.moves: list[Move] = []
        self.missed = 0
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._follow(tail))

    async def _follow(self, tail: Tail) -> None:
        async for moves, missed in tail:
            self.moves += moves
            self.missed += missed
            self._news.set()

    async def until(self, known: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not known():
                self._news.clear()
                await self._news.wait()

    async def told(self, job_id: str, event: str) -> Move:
        def found() -> list[Move]:
            return [one for one in self.moves if (one.job_id, one.event) == (job_id, event)]

        await self.until(lambda: bool(found()))
        return found()[0]

    def close(self) -> None:
        self._task.cancel()


async def test_each_move_is_told_once_with_what_is_known_of_it(store: Store) -> None:
    tail = Tail(store, Wanted(queue="default"))
    ears = Ears(tail)
    await tail.ready.wait()
    keys = set(await raw(store, "KEYS", "*"))
    worker = await hand(store)
    await store.enqueue_many([job("a", function="report"), job("elsewhere", queue="mail")])
    assert (await ears.told("a", "enqueued")).function == "report"
    (a,) = await worker.take()
    assert (await ears.told("a", "started")).worker == "worker-1"
    await store.progress([("a", a.token, b'{"percent": 50}')])
    await worker.settle(a, End.RETRY, error="no such customer", delay_ms=0)
    again = await ears.told("a", "retrying")
    assert (again.error, again.next_run is not None) == ("no such customer", True)
    (a,) = await worker.take()
    await worker.settle(a, End.COMPLETE)
    ended = await ears.told("a", "completed")
    assert ended.seconds is not None
    assert ended.seconds < 5
    ears.close()
    events = [one.event for one in ears.moves]
    assert events in (told := ["enqueued", "started", "retrying", "completed"], [*told[:3], "started", told[3]])
    assert {one.job_id for one in ears.moves} == {"a"}
    assert not [key for key in set(await raw(store, "KEYS", "*")) - keys if b"tail" in key]


async def test_a_flood_is_told_in_part_and_the_rest_is_counted(store: Store) -> None:
    tail = Tail(store, Wanted())
    ears = Ears(tail)
    await tail.ready.wait()
    many = HEARD_MOST + 500
    await store.enqueue_many([job(f"m{n}") for n in range(many)])
    await ears.until(lambda: len(ears.moves) + ears.missed >= many)
    ears.close()
    assert ears.missed > 0
    assert len(ears.moves) + ears.missed >= many


async def test_the_commands_follow_until_they_have_enough_or_are_interrupted(
    store: Store, dsn: str, tmp_path: Path
) -> None:
    (tmp_path / "rrq.toml").write_text(f'[rrq]\nredis_dsn = "{dsn}"\n')

    def run(*words: str) -> subprocess.Popen[str]:
        line = [sys.executable, "-m", "rrqd", "--config", str(tmp_path / "rrq.toml"), *words]
        return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)

    tail = run("tail", "--all", "--count", "2", "--json", "--function", "report")
    assert tail.stderr is not None
    assert "Ctrl-C ends it" in await asyncio.to_thread(tail.stderr.readline)
    await store.enqueue_many([job("a", function="report"), job("x"), job("b", function="report")])
    out, _ = await asyncio.to_thread(tail.communicate, timeout=10)
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["enqueued", "enqueued"]
    assert tail.returncode == 0

    watch = run("job", "list", "--json", "--watch", "0.2")
    assert watch.stdout is not None
    lines: list[str] = []
    while lines.count("]\n") < 2:
        lines.append(await asyncio.to_thread(watch.stdout.readline))
    watch.send_signal(signal.SIGINT)
    await asyncio.to_thread(watch.communicate, timeout=10)
    assert watch.returncode == 130
    first = json.loads("".join(lines[: lines.index("]\n") + 1]))
    assert {row["id"] for row in first} == {"a", "b", "x"}
