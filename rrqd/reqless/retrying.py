"""``@reqless.retry(ConnectionError)``: some exceptions of a job class's method mean another run."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from rrqd.reqless.job import Job


def retry(*excepted: type[Exception]) -> Callable[[Callable[[Job], Any]], Callable[[Job], Any]]:
    """Decorator for a job class's method: on these exceptions (all, when none is named) the job is retried at once."""
    wanted = excepted or (Exception,)

    def decorate(method: Callable[[Job], Any]) -> Callable[[Job], Any]:
        async def awaited(job: Job, answer: Awaitable[Any]) -> Any:
            try:
                return await answer
            except wanted:
                job.retry()

        @functools.wraps(method)
        def tried(job: Job) -> Any:
            try:
                answer = method(job)
            except wanted:
                job.retry()
                return None
            return awaited(job, answer) if inspect.isawaitable(answer) else answer

        return tried

    return decorate
