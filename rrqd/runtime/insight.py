"""What somebody who looks into a worker sees and can do: the names in the debugger's console.

Rules of this file:

* Called in the console's thread, while the loop goes on. Looking copies and prints; it waits for nobody.
* Whatever touches asyncio or the worker's state is done on the loop, by `call` and `await_`, within a time limit.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from rrqd import __version__, flame, stacks
from rrqd.runtime.frames import frames_in_thread, frames_of_task, task_of
from rrqd.runtime.sampling import one_job, sample, whole_worker

if TYPE_CHECKING:
    from rrqd.runtime.worker import Worker

T = TypeVar("T")

WAIT_SECONDS = 5.0
TOP = 20

HELP = """\
jobs()           the jobs that run: id, function, attempt, age, what is left of their time
where("id")      the stack of a job; the first signs of its id are enough
frames("id")     its frames, outermost first: frames("id")[-1].f_locals
profile(5)       where time goes for 5 s; profile(5, "id"): of one job
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
        own = (self.jobs, self.where, self.frames, self.profile, self.tasks, self.stacks, self.call, self.await_)
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
        task = task_of(found, self.loop)
        return frames_of_task(task, self.loop) if task is not None else frames_in_thread(found)[1]

    def profile(
        self, seconds: float = 5.0, job_id: str = "", *, rate: float = 100.0, idle: bool = False, raw: bool = False
    ) -> None:
        """Look at the stacks of a job, or of all threads that compute, and print where they were most often. ``raw``:
        print a line of JSON and the collapsed stacks."""
        look = one_job(self._one(job_id), self.loop) if job_id else whole_worker(idle)
        found = sample(look, seconds, rate)
        if raw:
            print(json.dumps({"looks": found.looks, "seconds": round(found.seconds, 3)}))
            print(flame.collapsed(found.stacks), end="")
            return
        for share in flame.top(found.stacks, TOP):
            print(f"{share.own:6} {share.total:6}  {share.label}")

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
