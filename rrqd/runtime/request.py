"""What the worker does for a handler that runs: sandbox, progress, logger; each made when first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import structlog

from rrqd import clock
from rrqd.model.job import QUEUE_PREFIX, ClaimedJob
from rrqd.runner import ExecutionContext, ExecutionRequest
from rrqd.runtime.sandbox import Sandboxes


class Aid:
    """The running worker's side of one request. Used from the loop, or from the one thread that runs the handler."""

    __slots__ = ("_job", "_log", "_note", "_sandboxes", "is_cancelled", "path")

    def __init__(self, job: ClaimedJob, sandboxes: Sandboxes | None, note: Callable[[ClaimedJob, bytes], None]) -> None:
        self._job = job
        self._sandboxes = sandboxes
        self._note = note
        self._log: Any = None
        self.path: Path | None = None
        self.is_cancelled = False

    def sandbox(self) -> Path:
        if self.path is None:
            if self._sandboxes is None:
                raise RuntimeError("this pool offers no sandbox (sandbox = false)")
            self.path = self._sandboxes.make(self._job.token)
        return self.path

    def heartbeat(self) -> None:
        self.progress(None, None, None)

    def progress(self, value: float | None, message: str | None, data: Mapping[str, Any] | None) -> None:
        note: dict[str, Any] = {"at": clock.wall().isoformat()}
        if value is not None:
            note["value"] = min(1.0, max(0.0, float(value)))
        if message is not None:
            note["message"] = str(message)[:1000]
        if data is not None:
            note["data"] = dict(data)
        self._note(self._job, msgspec.json.encode(note))

    def log(self) -> Any:
        if self._log is None:
            job = self._job
            self._log = structlog.get_logger().bind(
                job_id=job.id, function=job.function, queue=job.queue, attempt=job.attempt
            )
        return self._log

    def cancelled(self) -> bool:
        return self.is_cancelled


def build_request(job: ClaimedJob, name: str, worker_id: str, timeout_seconds: float, aid: Aid) -> ExecutionRequest:
    """The request a handler gets, as RRQ's runners would see it."""
    return ExecutionRequest(
        request_id=f"{job.id}:{job.token}",
        job_id=job.id,
        function_name=name,
        params=job.params,
        aid=aid,
        context=ExecutionContext(
            job_id=job.id,
            attempt=job.attempt,
            enqueue_time=job.enqueue_time,
            queue_name=QUEUE_PREFIX + job.queue,
            deadline=clock.from_ms(clock.wall_ms() + timeout_seconds * 1000),
            trace_context=job.trace_context,
            correlation_context=job.correlation_context,
            worker_id=worker_id,
            token=job.token,
        ),
    )
