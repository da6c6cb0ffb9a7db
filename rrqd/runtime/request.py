"""What the worker does for a handler that runs: sandbox, progress, logger; each made when first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import structlog

from rrqd import clock
from rrqd.model.job import QUEUE_PREFIX, ClaimedJob
from rrqd.model.joblog import write_line
from rrqd.runner import ExecutionContext, ExecutionRequest, StopSign
from rrqd.runtime.reports import Reports
from rrqd.runtime.sandbox import Sandboxes

NOTHING_SAID: Mapping[str, Any] = {}


class Aid(StopSign):
    """The running worker's side of one request. Used from the loop, or from the one thread that runs the handler."""

    __slots__ = (
        "_job",
        "_limit",
        "_log",
        "_reports",
        "_said",
        "_sandboxes",
        "beat_ns",
        "path",
    )

    def __init__(
        self,
        job: ClaimedJob,
        sandboxes: Sandboxes | None,
        reports: Reports,
        limit: Callable[[int, float], None],
    ) -> None:
        super().__init__()
        self._job = job
        self._limit = limit
        self._sandboxes = sandboxes
        self._reports = reports
        self._log: Any = None
        self._said: Mapping[str, Any] = NOTHING_SAID
        self.path: Path | None = None
        self.beat_ns = 0  # when it last said that it moves on

    def sandbox(self) -> Path:
        if self.path is None:
            if self._sandboxes is None:
                raise RuntimeError("this pool offers no sandbox (sandbox = false)")
            self.path = self._sandboxes.make(self._job.token)
        return self.path

    def heartbeat(self) -> None:
        self._note(self._said)

    def progress(self, value: float | None, message: str | None, data: Mapping[str, Any] | None) -> None:
        note: dict[str, Any] = {}
        if value is not None:
            note["value"] = min(1.0, max(0.0, float(value)))
        if message is not None:
            note["message"] = str(message)[:1000]
        if data is not None:
            note["data"] = dict(data)
        self._note(note)

    def _note(self, note: Mapping[str, Any]) -> None:
        """A mere sign of life leaves what was said before as it is."""
        self.beat_ns = clock.monotonic_ns()
        self._reports.note(self._job, msgspec.json.encode({"at": clock.wall().isoformat(), **note}))
        self._said = note

    def log(self) -> Any:
        if self._log is None:
            job = self._job
            bound = structlog.get_logger().bind(
                job_id=job.id, function=job.function, queue=job.queue, attempt=job.attempt
            )
            self._log = JobLog(bound, job, self._reports)
        return self._log

    def limit(self, seconds: float) -> None:
        self._limit(self._job.token, seconds)


class JobLog:
    """``request.log``. Called, ``request.log("half way", rows=12)``, it writes a line to the job's own log, which
    ``rrqd job log`` shows; by its methods (``.info`` …) it is a structlog logger of the process. From any thread."""

    __slots__ = ("_bound", "_job", "_reports")

    def __init__(self, bound: Any, job: ClaimedJob, reports: Reports) -> None:
        self._bound = bound
        self._job = job
        self._reports = reports

    def __call__(self, message: str, /, **fields: Any) -> None:
        self._reports.line(self._job, write_line(clock.wall(), self._job.attempt, message, fields))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bound, name)


def build_request(job: ClaimedJob, name: str, worker_id: str, timeout_seconds: float, aid: Aid) -> ExecutionRequest:
    """The request a handler gets, as RRQ's runners would see it."""
    return ExecutionRequest(
        request_id=f"{job.id}:{job.token}",
        job_id=job.id,
        function_name=name,
        params=job.params,
        args=job.args,
        aid=aid,
        parents=job.parent_results,
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
            snoozes=job.snoozes,
        ),
    )
