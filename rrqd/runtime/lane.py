"""The thread lane: where plain ``def`` handlers run, a bounded number at a time.

The threads are daemons: one that is stuck in a handler keeps neither the loop nor the process from ending. They are
started when first needed, after the fork.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any

Call = Callable[[], Any]
#: (value, None) or (None, exception), on the loop.
Done = Callable[[Any, BaseException | None], None]


class Lane:
    """Runs calls in at most ``size`` threads and brings each result back to the loop."""

    def __init__(self, size: int, name: str = "lane") -> None:
        self._size = size
        self._name = name
        self._work: queue.SimpleQueue[tuple[Call, Done, contextvars.Context] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._threads = 0
        self._busy = 0
        self.owners: dict[int, Any] = {}

    def submit(self, call: Call, done: Done) -> None:
        """Run ``call`` in a thread; ``done`` is called on the loop when it has ended."""
        self._busy += 1
        if self._threads < min(self._busy, self._size):
            self._threads += 1
            threading.Thread(target=self._serve, name=f"rrqd-{self._name}-{self._threads}", daemon=True).start()
        self._work.put((call, done, contextvars.copy_context()))

    def _serve(self) -> None:
        while (item := self._work.get()) is not None:
            call, done, context = item
            value: Any = None
            fault: BaseException | None = None
            try:
                value = context.run(call)
            except BaseException as raised:  # SystemExit from a handler must not end the thread unheard
                fault = raised
            try:
                self._loop.call_soon_threadsafe(self._ended, done, value, fault)
            except RuntimeError:
                return  # the loop is closed: the worker has left, nobody wants to know
            del call, done, context, value, fault, item

    def _ended(self, done: Done, value: Any, fault: BaseException | None) -> None:
        self._busy -= 1
        done(value, fault)

    def close(self) -> None:
        """Let idle threads end. One that is still in a handler ends with the process."""
        for _ in range(self._threads):
            self._work.put(None)
