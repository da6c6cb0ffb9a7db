"""What a handler sees and answers. Names and meanings are those of ``rrq.runner``; the request's helpers are ours."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

OutcomeStatus = Literal["success", "retry", "timeout", "error"]


class JobAid(Protocol):
    """What the running worker does for a handler; given to the request by the runtime."""

    def sandbox(self) -> Path: ...
    def heartbeat(self) -> None: ...
    def progress(self, value: float | None, message: str | None, data: Mapping[str, Any] | None) -> None: ...
    def log(self) -> Any: ...
    def cancelled(self) -> bool: ...


class ExecutionContext(msgspec.Struct, kw_only=True):
    """Where a run stands. ``attempt`` counts from 1; ``deadline`` is this host's wall time, for display;
    ``queue_name`` is the full key (``rrq:queue:default``), as RRQ's runners see it; ``token`` is the fencing
    number of this run: an outside resource that remembers the highest one it saw can refuse a late writer."""

    job_id: str
    attempt: int
    enqueue_time: datetime
    queue_name: str
    deadline: datetime | None = None
    trace_context: dict[str, str] | None = None
    correlation_context: dict[str, str] | None = None
    worker_id: str | None = None
    token: int | None = None


class ExecutionRequest(msgspec.Struct, kw_only=True):
    """One job, handed to its handler."""

    request_id: str
    job_id: str
    function_name: str
    context: ExecutionContext
    params: dict[str, Any] = {}
    protocol_version: str = "2"
    aid: JobAid | None = None

    def _worker(self) -> JobAid:
        if self.aid is None:
            raise RuntimeError("this request is not being run by a worker; build it with rrqd.testing in tests")
        return self.aid

    @property
    def sandbox(self) -> Path:
        """A clean directory for this run alone; made when first asked for, removed after the run."""
        return self._worker().sandbox()

    @property
    def log(self) -> Any:
        """A structlog logger bound to the job's id, function, queue and attempt."""
        return self._worker().log()

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked for this job's end. A plain ``def`` handler should look now and then."""
        return self._worker().cancelled()

    def heartbeat(self) -> None:
        """Say that the job moves on. Never needed to keep the job: the node's lease does that."""
        self._worker().heartbeat()

    def progress(
        self, value: float | None = None, message: str | None = None, data: Mapping[str, Any] | None = None
    ) -> None:
        """Note how far the job is: ``value`` from 0 to 1, a line for people, JSON data. Written soon."""
        self._worker().progress(value, message, data)


class ExecutionError(msgspec.Struct, kw_only=True):
    """Why a run failed. ``type`` is the exception's class name, or a reserved word of the runner protocol."""

    message: str
    type: str | None = None
    code: str | None = None
    details: Any = None


class ExecutionOutcome(msgspec.Struct, kw_only=True):
    """What a handler may return instead of a plain value, to say more than success."""

    status: OutcomeStatus
    job_id: str | None = None
    request_id: str | None = None
    result: Any = None
    error: ExecutionError | None = None
    retry_after_seconds: float | None = None
