"""What a handler sees and answers. Names and meanings are those of ``rrq.runner``; the request's helpers are ours."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from rrqd.job import JobResult

OutcomeStatus = Literal["success", "retry", "timeout", "error"]


class JobAid(Protocol):
    """What the running worker does for a handler; given to the request by the runtime."""

    def sandbox(self) -> Path: ...
    def heartbeat(self) -> None: ...
    def progress(self, value: float | None, message: str | None, data: Mapping[str, Any] | None) -> None: ...
    def log(self) -> Any: ...
    def cancelled(self) -> bool: ...
    def when_stopped(self, tell: Callable[[str], None]) -> None: ...
    def limit(self, seconds: float) -> None: ...


class StopSign:
    """The part of a `JobAid` that tells its handler of the end. ``is_cancelled``: whether the run is to end."""

    __slots__ = ("_stopped", "_tell", "is_cancelled")

    def __init__(self) -> None:
        self.is_cancelled = False
        self._stopped = ""
        self._tell: Callable[[str], None] | None = None

    def cancelled(self) -> bool:
        """Whether the run is to end."""
        return self.is_cancelled

    def when_stopped(self, tell: Callable[[str], None]) -> None:
        """Tell once the run is to end; now, if it is already."""
        self._tell = tell
        if self._stopped:  # it came before; if it comes just now, `tell` hears of it twice
            tell(self._stopped)

    def stop(self, why: str) -> None:
        """The run is to end: ``"cancel"``, ``"timeout"`` or ``"drain"``; the first word counts. Called on the loop."""
        self.is_cancelled = True
        self._stopped = self._stopped or why
        if self._tell is not None:
            self._tell(self._stopped)


class ExecutionContext(msgspec.Struct, kw_only=True):
    """Where a run stands. ``attempt`` counts from 1; ``deadline`` is this host's wall time, for display;
    ``queue_name`` is the full key (``rrq:queue:default``), as RRQ's runners see it; ``token`` is the fencing
    number of this run: an outside resource that remembers the highest one it saw can refuse a late writer.
    ``snoozes``: how often it went back to its queue without an attempt."""

    job_id: str
    attempt: int
    enqueue_time: datetime
    queue_name: str
    deadline: datetime | None = None
    trace_context: dict[str, str] | None = None
    correlation_context: dict[str, str] | None = None
    worker_id: str | None = None
    token: int | None = None
    snoozes: int = 0


class ExecutionRequest(msgspec.Struct, kw_only=True):
    """One job, handed to its handler. ``args``: positional arguments, which only jobs of RRQ's first API have.
    ``parents``: how the jobs ended for which it has waited, by id; ``None``: the record of that one has expired."""

    request_id: str
    job_id: str
    function_name: str
    context: ExecutionContext
    params: dict[str, Any] = {}
    args: list[Any] = []
    protocol_version: str = "2"
    aid: JobAid | None = None
    parents: dict[str, JobResult | None] = {}

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
        """A structlog logger bound to the job's id, function, queue and attempt. Called itself,
        ``request.log("half way", rows=12)``, it writes a line that is kept with the job (``rrqd job log``)."""
        return self._worker().log()

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked for this job's end. A plain ``def`` handler should look now and then."""
        return self._worker().cancelled()

    def when_stopped(self, tell: Callable[[str], None]) -> None:
        """Call ``tell`` once the run is to end, with ``"cancel"``, ``"timeout"`` or ``"drain"``; now, if it is already.
        It is called on the worker's loop, or here, perhaps twice, and must not block."""
        self._worker().when_stopped(tell)

    def limit(self, seconds: float) -> None:
        """End the run ``seconds`` from now, as its own timeout would, unless that comes first. From any thread.
        Raises ValueError for what is no positive number."""
        if not (type(seconds) in (int, float) and 0 < seconds < math.inf):
            raise ValueError(f"a limit must be a positive number of seconds, not {seconds!r}")
        self._worker().limit(seconds)

    def heartbeat(self) -> None:
        """Say that the job moves on. Never needed to keep the job: the node's lease does that."""
        self._worker().heartbeat()

    def progress(
        self, value: float | None = None, message: str | None = None, data: Mapping[str, Any] | None = None
    ) -> None:
        """Note how far the job is: ``value`` from 0 to 1, a line for people, JSON data. Written soon."""
        self._worker().progress(value, message, data)

    def complete_into(
        self,
        queue: str | None = None,
        *,
        function: str | None = None,
        params: Mapping[str, Any] | None = None,
        delay_seconds: float = 0.0,
        depends_on: Sequence[str] = (),
        on_parent: str | None = None,
        priority: float | None = None,
        result: Any = None,
    ) -> ExecutionOutcome:
        """The answer of a handler whose job is to go on instead of ending: ``return request.complete_into("pack")``.

        The same job waits in ``queue`` next, for ``function``, with ``params``; what is left out stays as it is.
        ``result`` is kept with this step. The attempts start afresh.
        """
        step = NextStep(
            queue=queue, function=function, params=params, delay_seconds=delay_seconds, depends_on=depends_on,
            on_parent=on_parent, priority=priority,
        )  # fmt: skip
        return ExecutionOutcome(status="success", result=result, next=step)

    def fail(self, group: str, message: str = "Job failed") -> ExecutionOutcome:
        """The answer of a handler whose job has failed for good: ``return request.fail("no-address", "…")``.

        ``group``: a name for failures of this kind, under which they are counted, listed and brought back together.
        """
        return ExecutionOutcome(status="error", error=ExecutionError(message=message), group=group)


class NextStep(msgspec.Struct, frozen=True, kw_only=True):
    """Where a job goes on that does not end: the arguments of ``complete_into``, as they were given."""

    queue: str | None = None
    function: str | None = None
    params: Mapping[str, Any] | None = None
    delay_seconds: float = 0.0
    depends_on: Sequence[str] = ()
    on_parent: str | None = None
    priority: float | None = None


class ExecutionError(msgspec.Struct, kw_only=True):
    """Why a run failed. ``type`` is the exception's class name, or a reserved word of the runner protocol."""

    message: str
    type: str | None = None
    code: str | None = None
    details: Any = None


class ExecutionOutcome(msgspec.Struct, kw_only=True):
    """What a handler may return instead of a plain value, to say more than success. ``next``: with success, the job
    goes on there and does not end. ``group``: with error, the job fails for good, among the failures of that name."""

    status: OutcomeStatus
    job_id: str | None = None
    request_id: str | None = None
    result: Any = None
    error: ExecutionError | None = None
    retry_after_seconds: float | None = None
    next: NextStep | None = None
    group: str | None = None
