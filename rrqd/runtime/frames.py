"""The frames of a running job, looked at from another thread."""

from __future__ import annotations

import asyncio
import sys
import threading
from types import FrameType
from typing import Any

from rrqd import stacks
from rrqd.runner import ExecutionRequest


def task_of(job_id: str, loop: asyncio.AbstractEventLoop) -> asyncio.Task[Any] | None:
    """The task that runs an asynchronous handler."""
    name = stacks.JOB_PREFIX + job_id
    return next((task for task in asyncio.all_tasks(loop) if task.get_name() == name), None)


def frames_of_task(task: asyncio.Task[Any], loop: asyncio.AbstractEventLoop) -> list[FrameType]:
    """The chain of coroutines; and if the task is just being run, the calls that it is in."""
    frames: list[FrameType] = []
    current: Any = task.get_coro()
    while current is not None:
        frame = getattr(current, "cr_frame", None) or getattr(current, "gi_frame", None)
        if frame is not None:
            frames.append(frame)
        current = getattr(current, "cr_await", None) or getattr(current, "gi_yieldfrom", None)
    if frames and asyncio.current_task(loop) is task:
        now = stack_of(threading.main_thread().ident)
        if frames[-1] in now:
            frames += now[now.index(frames[-1]) + 1 :]
    return frames


def frames_in_thread(job_id: str) -> tuple[int, list[FrameType]]:
    """A thread, and the part of its stack that belongs to a plain handler: from the call that has the job's request.
    (0, []) when there is none."""
    not_theirs = (threading.main_thread().ident, threading.get_ident())
    for thread in threading.enumerate():
        if thread.ident is None or thread.ident in not_theirs:
            continue
        frames = stack_of(thread.ident)
        for place, frame in enumerate(frames):
            values = list(frame.f_locals.values())
            if any(isinstance(value, ExecutionRequest) and value.job_id == job_id for value in values):
                return thread.ident, frames[place:]
    return 0, []


def stack_of(thread_id: int | None) -> list[FrameType]:
    """A thread's frames, outermost first."""
    frame = sys._current_frames().get(thread_id or 0)
    frames: list[FrameType] = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames[::-1]
