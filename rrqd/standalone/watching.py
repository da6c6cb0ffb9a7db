"""``rrqd worker watch``: a worker for development, started again when files change.

Rule 1: one change, one restart. What is written while the worker is stopped and the programs before a restart run
        (formatters, code generators) is in the next start already, and is no change.
Rule 2: a worker that ends by itself is left ended until something changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
from watchfiles import Change, awatch

from rrqd.standalone.sieve import Sieve
from rrqd.tether import tether

#: Changes so close to each other are one.
DEBOUNCE_MS = 200
#: Between the first signal to a worker and the second, which lets it hand its jobs back at once.
SECOND_SIGNAL_SECONDS = 0.1
KILL_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class WatchPlan:
    """What is watched and what is run. ``before``: programs that must succeed before each start but the first, in
    ``before_folder``, each for at most ``before_seconds``."""

    root: Path
    sieve: Sieve
    command: Sequence[str]
    before: Sequence[Sequence[str]] = ()
    before_folder: Path = Path()
    before_seconds: float | None = None


class Watch:
    """One worker process and the files it depends on."""

    def __init__(self, plan: WatchPlan) -> None:
        self._plan = plan
        self._log = structlog.get_logger()
        self._stopping = asyncio.Event()
        self._worker: asyncio.subprocess.Process | None = None
        self._begun_ns = 0
        self._waits: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Until INT or TERM; answers 0."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        plan = self._plan
        await self._start()
        try:
            async for changes in awatch(
                plan.root, watch_filter=lambda _, path: plan.sieve.lets_through(path), debounce=DEBOUNCE_MS,
                step=20, stop_event=self._stopping, raise_interrupt=False, ignore_permission_denied=True,
            ):  # fmt: skip
                await self._changed(changes)
        finally:
            await self._stop()
        return 0

    async def _changed(self, changes: Iterable[tuple[Change, str]]) -> None:
        fresh = sorted(path for _, path in changes if self._is_fresh(Path(path)))
        if not fresh:
            return
        self._log.info("watch.changed", files=fresh[:5], count=len(fresh))
        await self._stop()
        for words in self._plan.before:
            if not await self._succeeds(words):
                self._begun_ns = time.time_ns()
                return
        await self._start()

    def _is_fresh(self, path: Path) -> bool:
        """Whether it has changed since the worker was started: the file itself, or, when it is gone, its folder."""
        for place in (path, *path.parents):
            try:
                return place.stat().st_ctime_ns > self._begun_ns
            except OSError:
                continue
        return True

    async def _succeeds(self, words: Sequence[str]) -> bool:
        """Run one of the programs; says why when it fails."""
        plan, why = self._plan, ""
        try:
            process = await asyncio.create_subprocess_exec(
                *words, cwd=plan.before_folder, stdin=asyncio.subprocess.DEVNULL, start_new_session=True
            )
        except OSError as fault:
            why = fault.strerror or str(fault)
        else:
            try:
                code = await asyncio.wait_for(process.wait(), plan.before_seconds)
                why = f"exit code {code}" if code else ""
            except TimeoutError:
                process.kill()
                await process.wait()
                why = f"not done within {plan.before_seconds:g} s"
        if why:
            self._log.error("watch.held_back", command=list(words), why=why, what_now="waiting for the next change")
        return not why

    async def _start(self) -> None:
        self._begun_ns = time.time_ns()
        self._worker = worker = await asyncio.create_subprocess_exec(
            *self._plan.command,
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=tether(signal.SIGTERM),
        )
        waiting = asyncio.create_task(self._see_it_end(worker))
        self._waits.add(waiting)
        waiting.add_done_callback(self._waits.discard)

    async def _see_it_end(self, worker: asyncio.subprocess.Process) -> None:
        code = await worker.wait()
        if worker is self._worker:
            self._log.warning("watch.worker_ended", code=code, what_now="waiting for the next change")

    async def _stop(self) -> None:
        worker, self._worker = self._worker, None
        if worker is None:
            return
        for number, seconds in (
            (signal.SIGTERM, SECOND_SIGNAL_SECONDS), (signal.SIGTERM, KILL_SECONDS), (signal.SIGKILL, None)
        ):  # fmt: skip
            with contextlib.suppress(ProcessLookupError):
                worker.send_signal(number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(worker.wait(), seconds)
                return
