"""A profiler inside a worker: a thread looks at the stacks of the others, many times a second.

Rule 1: it waits for nobody and touches nothing that runs; what it costs is what looking costs.
Rule 2: of a worker only threads that computed since the last look count, unless idle ones are asked for: of a job every
        look counts, also those in which it waits.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from types import CodeType, FrameType
from typing import NamedTuple

from rrqd import clock
from rrqd.runtime.frames import frames_in_thread, frames_of_task, stack_of, task_of

WAITING = "(waiting)"
BUSY_SHARE = 0.1
"""Of the time between two looks: a thread that has computed less has waited."""
OUR_THREADS = ("rrqd-debugger", "rrqd-console")
LOOP = "/asyncio/runners.py"

Look = Callable[[], list[tuple[str, ...]] | None]
"""The stacks that are there now; None: there will be none any more."""


class Samples(NamedTuple):
    """``looks``: how often it was looked; ``seconds``: for how long, less than asked for when the job ended."""

    stacks: Counter[tuple[str, ...]]
    looks: int
    seconds: float


def sample(look: Look, seconds: float, rate: float) -> Samples:
    """Look ``rate`` times a second for so long. Blocks the thread it is called in."""
    stacks: Counter[tuple[str, ...]] = Counter()
    pause, began, looks = threading.Event(), clock.monotonic(), 0
    while (passed := clock.monotonic() - began) < seconds:
        found = look()
        if found is None:
            break
        stacks.update(found)
        looks += 1
        pause.wait(max(0.001, looks / rate - passed))
    return Samples(stacks, looks, clock.monotonic() - began)


class Labels:
    """What a call is named: ``Class.method (package/module.py:12)``, its file as it is imported."""

    def __init__(self) -> None:
        self._known: dict[CodeType, str] = {}
        self._roots = sorted((f"{root}/" for root in sys.path if root), key=len, reverse=True)

    def __call__(self, frame: FrameType) -> str:
        code = frame.f_code
        label = self._known.get(code)
        if label is None:
            file = next(
                (code.co_filename[len(root) :] for root in self._roots if code.co_filename.startswith(root)), ""
            )
            label = f"{code.co_qualname} ({file or code.co_filename}:{code.co_firstlineno})".replace(";", ",")
            self._known[code] = label
        return label


def whole_worker(idle: bool) -> Look:
    """All threads but our own; the calls above the loop are left out."""
    label, used = Labels(), dict[int, float]()
    looked_at = clock.monotonic()

    def look() -> list[tuple[str, ...]]:
        nonlocal looked_at
        passed, looked_at = clock.monotonic() - looked_at, clock.monotonic()
        found = []
        for thread in threading.enumerate():
            if thread.ident is None or thread.ident == threading.get_ident() or thread.name in OUR_THREADS:
                continue
            if not _computed(thread.ident, used, passed) and not idle:
                continue
            frames = stack_of(thread.ident)
            above = [place for place, frame in enumerate(frames) if frame.f_code.co_filename.endswith(LOOP)]
            frames = frames[above[-1] + 1 :] if above else frames
            found.append(tuple(map(label, frames)) or (WAITING,))
        return found

    return look


def _computed(thread_id: int, used: dict[int, float], passed: float) -> bool:
    """Whether the thread has computed since the last look."""
    try:
        now = time.clock_gettime(time.pthread_getcpuclockid(thread_id))
    except OSError:  # it has just ended
        return False
    before = used.get(thread_id, now)
    used[thread_id] = now
    return now - before >= BUSY_SHARE * passed > 0


def one_job(job_id: str, loop: asyncio.AbstractEventLoop) -> Look:
    """The frames of one running job, until it has ended. Raises LookupError when it has begun to run nowhere."""
    label = Labels()
    task = task_of(job_id, loop)
    thread_id, frames = (0, []) if task is not None else frames_in_thread(job_id)
    if task is None and not frames:
        raise LookupError(f"job {job_id} waits for a thread, or has just ended")

    def look_at_task() -> list[tuple[str, ...]] | None:
        assert task is not None
        if task.done():
            return None
        computes = asyncio.current_task(loop) is task
        return [(*map(label, frames_of_task(task, loop)), *(() if computes else (WAITING,)))]

    def look_at_thread() -> list[tuple[str, ...]] | None:
        now = stack_of(thread_id)
        return [tuple(map(label, now[now.index(frames[0]) :]))] if frames[0] in now else None

    return look_at_task if task is not None else look_at_thread
