"""The thread lane: where plain ``def`` handlers run, a bounded number at a time.

Rule 1: a call is given to a thread only when one is free. Until then it waits here, on the loop's side, uses up no
        time, and can be withdrawn.
Rule 2: the threads are daemons: one that is stuck in a handler keeps neither the loop nor the process from ending. They
        are started when first needed, after the fork.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

Call = Callable[[], Any]
#: (value, None) or (None, exception), on the loop.
Done = Callable[[Any, BaseException | None], None]


NO_THREAD_SECONDS = 1.0


class Turn:
    """One call in the lane. ``began`` is called on the loop just before a thread gets it."""

    __slots__ = ("began", "call", "context", "done")

    def __init__(self, call: Call, done: Done, began: Callable[[], None] | None) -> None:
        self.call = call
        self.done = done
        self.began = began
        self.context = contextvars.copy_context()


class Lane:
    """Runs calls in at most ``size`` threads and brings each result back to the loop. Used from the loop only."""

    def __init__(self, size: int, name: str = "lane") -> None:
        self._size = size
        self._name = name
        self._waiting: deque[Turn] = deque()
        self._given: queue.SimpleQueue[Turn | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._threads = 0
        self._living: list[threading.Thread] = []
        self._busy = 0

    def submit(self, call: Call, done: Done, *, began: Callable[[], None] | None = None) -> Turn:
        """Run ``call`` in a thread, in turn; ``done`` is called on the loop when it has ended."""
        turn = Turn(call, done, began)
        if self._busy < self._size:
            self._give(turn)
        else:
            self._waiting.append(turn)
        return turn

    def withdraw(self, turn: Turn) -> bool:
        """Take back a call that no thread has been given yet; false when it is too late for that."""
        try:
            self._waiting.remove(turn)
        except ValueError:
            return False
        return True

    def _give(self, turn: Turn) -> None:
        if self._threads == self._busy and not self._add_thread():
            self._waiting.appendleft(turn)
            return
        self._busy += 1
        if turn.began is not None:
            turn.began()
        self._given.put(turn)

    def _add_thread(self) -> bool:
        """Start one more. False when the system has none to give now; then it is asked again in a moment."""
        name = f"rrqd-{self._name}-{self._threads + 1}"
        thread = threading.Thread(target=self._serve, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            self._loop.call_later(NO_THREAD_SECONDS, self._next)
            return False
        self._threads += 1
        self._living.append(thread)
        return True

    def _next(self) -> None:
        if self._waiting and self._busy < self._size:
            self._give(self._waiting.popleft())

    def _serve(self) -> None:
        while (turn := self._given.get()) is not None:
            value: Any = None
            fault: BaseException | None = None
            try:
                value = turn.context.run(turn.call)
            except BaseException as raised:  # SystemExit from a handler must not end the thread unheard
                fault = raised
            try:
                self._loop.call_soon_threadsafe(self._ended, turn.done, value, fault)
            except RuntimeError:
                return  # the loop is closed: the worker has left, nobody wants to know
            del turn, value, fault

    def _ended(self, done: Done, value: Any, fault: BaseException | None) -> None:
        self._busy -= 1
        self._next()
        done(value, fault)

    def close(self) -> None:
        """Let idle threads end. One that is still in a handler ends with the process."""
        for _ in range(self._threads):
            self._given.put(None)

    def is_alive(self) -> bool:
        """Whether any thread has not ended. May be called in other threads."""
        return any(thread.is_alive() for thread in self._living)
