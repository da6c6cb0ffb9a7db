"""The worker's two beats in its flight page, and who is to blame when one stops.

The loop stores one beat, a thread the other. Loop stale, thread fresh: a coroutine blocks, and the thread can name its
job. Both stale: the interpreter itself is held (a C call, a stopped process); the master reads that from outside.
"""

from __future__ import annotations

import asyncio
import os
import threading

from rrqd import clock
from rrqd.flight import Counter, FlightPage
from rrqd.runtime.executor import TASK_PREFIX

LOOP_BEAT_SECONDS = 0.25
THREAD_BEAT_SECONDS = 0.5
STALE_SECONDS = 1.0


class Watchdog:
    """Beats until stopped."""

    def __init__(self, page: FlightPage) -> None:
        self._page = page
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._beat_ns = clock.monotonic_ns()
        self._suspected = False
        self._leave_at: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._beat()
        threading.Thread(target=self._watch, name="rrqd-watchdog", daemon=True).start()

    def stop(self) -> None:
        """No further beats; the process is about to end."""
        self._stop.set()
        if self._timer is not None:
            self._timer.cancel()

    def leave_by(self, seconds: float) -> None:
        """End the process after ``seconds`` whatever the loop is doing: for a worker whose master is dead."""
        self._leave_at = clock.monotonic() + seconds

    def _beat(self) -> None:
        self._beat_ns = clock.monotonic_ns()
        self._page.beat_loop(self._beat_ns)
        if self._suspected:
            self._suspected = False
            self._page.set_suspect(None)
        self._timer = self._loop.call_later(LOOP_BEAT_SECONDS, self._beat)

    def _watch(self) -> None:
        while not self._stop.wait(THREAD_BEAT_SECONDS):
            now_ns = clock.monotonic_ns()
            self._page.beat_thread(now_ns)
            if self._leave_at is not None and clock.monotonic() > self._leave_at:
                os._exit(1)
            if now_ns - self._beat_ns > STALE_SECONDS * 1e9 and not self._suspected:
                self._suspect()

    def _suspect(self) -> None:
        task = asyncio.current_task(self._loop)
        name = task.get_name() if task is not None else ""
        if name.startswith(TASK_PREFIX):
            self._suspected = True
            self._page.set_suspect(name.removeprefix(TASK_PREFIX))
            self._page.add(Counter.LOOP_STALLS)
