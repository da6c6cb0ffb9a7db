"""``@job``: a function that can also be enqueued, ``add.delay(1, 2)``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

from rrqd.rq.job import Job
from rrqd.rq.queue import Queue

P = ParamSpec("P")
R = TypeVar("R")


class Delayed(Generic[P, R]):
    """What ``@job`` makes of a function: called, it is the function; ``delay`` and ``enqueue`` put it in its queue."""

    def __init__(self, function: Callable[P, R], queue: Queue, options: dict[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self.__wrapped__ = function
        self.queue = queue
        self.options = options

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.__wrapped__(*args, **kwargs)

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        """Have it run by a worker, with these arguments."""
        return self.queue.enqueue_call(self.__wrapped__, args, dict(kwargs), **self.options)

    enqueue = delay


def job(
    queue: Queue | str = "default", connection: Any = None, timeout: Any = None, **options: Any
) -> Callable[[Callable[P, R]], Delayed[P, R]]:
    """``@job("low", timeout=30)``; ``options`` are those of ``Queue.enqueue``."""
    if timeout is not None:
        options["timeout"] = timeout
    place = queue if isinstance(queue, Queue) else Queue(queue, connection)

    def wrap(function: Callable[P, R]) -> Delayed[P, R]:
        return Delayed(function, place, options)

    return wrap
