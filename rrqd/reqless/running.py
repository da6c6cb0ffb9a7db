"""Running a job class in a worker: what ``handlers = "dotted:shop.*"`` does with jobs named ``class:shop.jobs.Order``.

Rule 1: how a job ends is told by its method and written down when that has returned, together with the ends of others.
        What it decided first stands, whatever it does or raises afterwards.
Rule 2: the class is imported and its method called in the handler's thread; an ``async def`` one runs on the loop.
Rule 3: a plain method that is to stop (cancelled, out of time, taken away) is interrupted at its next step.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Any

from rrqd.job import JobStatus
from rrqd.model.job import Job as Stored
from rrqd.reqless import record
from rrqd.reqless.client import Client
from rrqd.reqless.exceptions import LostLockError
from rrqd.reqless.job import Job
from rrqd.rq.connection import Connection
from rrqd.rq.stopping import Interruptible
from rrqd.runner import ExecutionError, ExecutionOutcome, ExecutionRequest, NextStep

if TYPE_CHECKING:
    from rrqd.rq.running import DottedRegistry


class Aboard:
    """The hold on a job that a worker runs: its end is remembered, and is the method's answer."""

    def __init__(self, request: ExecutionRequest) -> None:
        self._request = request
        self.token = request.context.token or 0
        self.attempt = request.context.attempt
        self.outcome: ExecutionOutcome | None = None

    def complete(self, step: NextStep | None) -> None:
        self.outcome = ExecutionOutcome(status="success", next=step)

    def retry(self, delay: float, message: str) -> None:
        self.outcome = ExecutionOutcome(
            status="retry", error=ExecutionError(message=message), retry_after_seconds=delay
        )

    def fail(self, group: str, message: str) -> None:
        self.outcome = ExecutionOutcome(status="error", error=ExecutionError(message=message), group=group)

    def heartbeat(self) -> float:
        """Until when it may run. Raises LostLockError when it is to stop."""
        if self._request.cancelled:
            raise LostLockError(f"job {self._request.job_id} was cancelled, taken away, or is out of time")
        self._request.heartbeat()
        deadline = self._request.context.deadline
        return deadline.timestamp() if deadline is not None else 0.0

    def log(self, message: str, data: Mapping[str, Any]) -> None:
        self._request.log(message, **data)

    def sandbox(self) -> str | None:
        return str(self._request.sandbox)


def start(registry: DottedRegistry, path: str, request: ExecutionRequest) -> Any:
    """In the handler's thread: import, call; or give back what is to be awaited on the loop."""
    hold = Aboard(request)
    job = Job(_client(registry.place), _glimpse(request), 0.0, hold, data=record.data_in(request.params))
    stopper = Interruptible()
    if request.aid is not None:
        request.aid.when_stopped(stopper.stop)

    def run() -> Any:
        registry.allow(path)
        method = job.method()
        registry.ran += 1
        with stopper:
            return method(job)

    answer = job.concluded(run)
    return _finish(job, hold, answer) if inspect.isawaitable(answer) else hold.outcome


async def _finish(job: Job, hold: Aboard, answer: Awaitable[Any]) -> Any:
    """On the loop: an async method."""
    try:
        await answer
    except Exception as fault:
        job.went_wrong(fault)
    else:
        job.went_well()
    return hold.outcome


def _glimpse(request: ExecutionRequest) -> Stored:
    """What a worker knows of the job without asking; the rest is looked up when the method wants it."""
    fields = {"function_name": request.function_name, "queue_name": request.context.queue_name}
    return Stored(id=request.job_id, status=JobStatus.ACTIVE, fields=fields)


@functools.lru_cache(maxsize=8)
def _client(place: Connection) -> Client:
    return Client(place)
