"""Stacks name the place where somebody waits, for threads and for tasks."""

from __future__ import annotations

import asyncio
import threading

from rrqd import stacks


async def _inner(gate: asyncio.Event) -> None:
    await gate.wait()


async def _outer(gate: asyncio.Event) -> None:
    await _inner(gate)


async def test_a_task_shows_the_whole_chain_of_what_it_awaits() -> None:
    gate = asyncio.Event()
    task = asyncio.create_task(_outer(gate), name="job:j-7")
    await asyncio.sleep(0)
    entry = next(one for one in stacks.tasks(asyncio.get_running_loop()) if one["task"] == "job:j-7")
    assert entry["job_id"] == "j-7"
    assert [line.rpartition(" ")[2] for line in entry["awaiting"][:3]] == ["_outer", "_inner", "Event.wait"]
    assert entry["awaiting"][-1].startswith("Future")
    gate.set()
    await task


async def test_a_task_that_has_not_begun_says_so() -> None:
    task = asyncio.create_task(_outer(asyncio.Event()))
    assert "_outer" in stacks.chain(task.get_coro())[0]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_a_thread_shows_where_it_stands() -> None:
    gate, there = threading.Event(), threading.Event()

    def stand_here() -> None:
        there.set()
        gate.wait()

    thread = threading.Thread(target=stand_here, name="standing")
    thread.start()
    there.wait(5)
    entry = next(one for one in stacks.threads() if one["thread"] == "standing")
    assert any(line.endswith(" stand_here") for line in entry["stack"])
    assert "standing" in stacks.text([entry])
    gate.set()
    thread.join()
