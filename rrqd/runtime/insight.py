"""What somebody who looks into a worker sees and can do: the names in the debugger's console.

Rules of this file:

* Called in the console's thread, while the loop goes on. Looking copies and prints; it waits for nobody.
* Whatever touches asyncio or the worker's state is done on the loop, by `call` and `await_`, within a time limit.
"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from rrqd import __version__, stacks
from rrqd.runner import ExecutionRequest

if TYPE_CHECKING:
    from rrqd.runtime.worker import Worker

T = TypeVar("T")

WAIT_SECONDS = 5.0

HELP = """\
jobs()           the jobs that run: id, function, attempt, age, what is left of their time
where("id")      the stack of a job; the first signs of its id are enough
frames("id")     its frames, outermost first: frames("id")[-1].f_locals
tasks()          all asyncio tasks and what they await; stacks(): all threads
call(f, *args)   call f on the loop; await_(coroutine): run it there (at most 5 s; seconds=…)
worker, loop     the worker and its event loop; what changes them goes through call
"""


class Insight:
    """The names for one worker."""

    def __init__(self, worker: Worker, loop: asyncio.AbstractEventLoop, title: str) -> None:
        self.worker = worker
        self.loop = loop
        self.title = title

    def names(self) -> dict[str, Any]:
        """The console's namespace."""
        own = (self.jobs, self.where, self.frames, self.tasks, self.stacks, self.call, self.await_)
        named = {function.__name__: function for function in own}
        # Python's own `exit` closes sys.stdin first, which belongs to the whole process.
        return {**named, "exit": sys.exit, "quit": sys.exit, "worker": self.worker, "loop": self.loop}

    def banner(self) -> str:
        """Who this is, and what can be asked."""
        count = len(self.worker.running())
        running = "nothing runs" if not count else f"{count} job{'s run' if count > 1 else ' runs'}, undisturbed"
        who = f"worker {self.title}, pid {os.getpid()}, rrqd {__version__}, Python {platform.python_version()}"
        return f"{who}\n{running}\n\n{HELP}Ctrl-D leaves; the worker stays.\n"

    # Looking.

    def jobs(self) -> None:
        """Print the jobs that run."""
        rows = [("id", "function", "attempt", "seconds", "left")]
        for job in self.worker.running():
            left = job["seconds_left"]
            text = "waits for a thread" if left is None else f"{left:.1f}"
            rows.append((job["job_id"], job["function"], str(job["attempt"]), f"{job['running_seconds']:.1f}", text))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

    def tasks(self) -> None:
        """Print all asyncio tasks and what they await."""
        print(stacks.text(stacks.tasks(self.loop)))

    def stacks(self) -> None:
        """Print the stacks of all threads."""
        print(stacks.text(stacks.threads()))

    def where(self, job_id: str) -> None:
        """Print the stack of a running job, outermost call first."""
        summary = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in self.frames(job_id))
        print("".join(summary.format()), end="")

    def frames(self, job_id: str) -> list[FrameType]:
        """The frames of a running job, outermost first. Its handler's variables: ``frames(id)[…].f_locals``."""
        found = self._one(job_id)
        for task in asyncio.all_tasks(self.loop):
            if task.get_name() == stacks.JOB_PREFIX + found:
                return _frames_of_task(task, self.loop)
        return _frames_in_thread(found)

    def _one(self, start: str) -> str:
        """The running job whose id begins like this."""
        ids = [str(job["job_id"]) for job in self.worker.running()]
        found = [start] if start in ids else [one for one in ids if one.startswith(start)]
        if len(found) != 1:
            raise LookupError(f"{len(found) or 'no'} running jobs have an id that begins with {start!r}; see jobs()")
        return found[0]

    # Doing.

    def call(self, function: Callable[..., T], *args: Any, seconds: float = WAIT_SECONDS) -> T:
        """Call a function on the loop, between two steps of its tasks; answers what it returns."""
        done: Future[T] = Future()

        def on_loop() -> None:
            if done.set_running_or_notify_cancel():
                try:
                    done.set_result(function(*args))
                except BaseException as fault:  # it is the console's, and must not reach the loop
                    done.set_exception(fault)

        self.loop.call_soon_threadsafe(on_loop)
        return _wait(done, seconds)

    def await_(self, awaitable: Awaitable[T], *, seconds: float = WAIT_SECONDS) -> T:
        """Await something on the loop, as a task of its own that is cancelled when it takes longer."""

        async def awaited() -> T:
            return await awaitable

        return _wait(asyncio.run_coroutine_threadsafe(awaited(), self.loop), seconds)


def _wait(done: Future[T], seconds: float) -> T:
    try:
        return done.result(seconds)
    except TimeoutError:
        if done.done() and not done.cancelled():
            raise  # its own, not ours
        done.cancel()
        raise TimeoutError(
            f"not done within {seconds:g} s, and given up; if nothing else gets done either, stacks() shows what "
            "blocks the loop"
        ) from None


def _frames_of_task(task: asyncio.Task[Any], loop: asyncio.AbstractEventLoop) -> list[FrameType]:
    """The chain of coroutines; and if the task is just being run, the calls that it is in."""
    frames: list[FrameType] = []
    current: Any = task.get_coro()
    while current is not None:
        frame = getattr(current, "cr_frame", None) or getattr(current, "gi_frame", None)
        if frame is not None:
            frames.append(frame)
        current = getattr(current, "cr_await", None) or getattr(current, "gi_yieldfrom", None)
    if frames and asyncio.current_task(loop) is task:
        now = _stack_of(threading.main_thread().ident)
        if frames[-1] in now:
            frames += now[now.index(frames[-1]) + 1 :]
    return frames


def _frames_in_thread(job_id: str) -> list[FrameType]:
    """The part of a thread's stack that belongs to a plain handler: from the call that has the job's request."""
    not_theirs = (threading.main_thread().ident, threading.get_ident())
    for thread in threading.enumerate():
        if thread.ident in not_theirs:
            continue
        frames = _stack_of(thread.ident)
        for place, frame in enumerate(frames):
            values = list(frame.f_locals.values())
            if any(isinstance(value, ExecutionRequest) and value.job_id == job_id for value in values):
                return frames[place:]
    return []


def _stack_of(thread_id: int | None) -> list[FrameType]:
    """A thread's frames, outermost first."""
    frame = sys._current_frames().get(thread_id or 0)
    frames: list[FrameType] = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames[::-1]
