"""OpenTelemetry: one trace from whoever enqueues, through the worker, into the handler and what it calls.

``enable()`` may stand in the module of the handlers, which is imported before the workers are forked: nothing that has
a thread is made before the first job (or the first enqueue) of a process.

Rule 1: every run has a context of its own, made at its start; nothing is attached to the loop's or to a thread's.
Rule 2: a fault in here is logged once and costs no job anything.
"""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from types import TracebackType
from typing import Any, Self, TypeVar, cast

try:
    from opentelemetry import context as contexts
    from opentelemetry import propagate, trace
    from opentelemetry.trace import SpanKind, Status, StatusCode
except ImportError:
    raise ImportError("OpenTelemetry is not installed: pip install 'rrqd[otel]'") from None

from rrqd import clock, tracing
from rrqd.exc import ConfigError
from rrqd.integrations.otel_export import Providers
from rrqd.job import EnqueueReport
from rrqd.model.job import ClaimedJob, short_queue_name
from rrqd.model.lifecycle import End
from rrqd.model.verdict import Failed, Outcome, TimedOut, Verdict
from rrqd.runner import ExecutionRequest
from rrqd.tracing import Wish

F = TypeVar("F", bound=Callable[..., Any])
log = logging.getLogger("rrqd.otel")

#: How a run ended, in RRQ's words, and in ours where it has none.
OUTCOMES = {
    End.COMPLETE: "success", End.ADVANCE: "success", End.RETRY: "retry", End.SNOOZE: "snooze", End.CANCEL: "cancelled",
    End.DIVERT: "diverted",
}  # fmt: skip


def enable(*, service_name: str = "rrq", tracer_provider: Any | None = None, meter_provider: Any | None = None) -> None:
    """Trace and measure from now on, in this process and in those forked from it.

    Spans and metrics go to the providers given, else to the process's global ones if an application has set them, else
    by OTLP over HTTP to where ``OTEL_EXPORTER_OTLP_ENDPOINT`` (or ``…_TRACES_ENDPOINT``, ``…_METRICS_ENDPOINT``)
    points. With none of these nothing is sent, and trace contexts are still handed on. ``OTEL_SERVICE_NAME`` and
    ``OTEL_RESOURCE_ATTRIBUTES`` go before ``service_name``. Called again, the last call counts.
    """
    if not service_name:
        raise ConfigError("otel.enable: service_name can't be empty")
    tracing.install(Otel(Providers(service_name, tracer_provider, meter_provider)))


def disable() -> None:
    """Stop watching. What was collected is still sent when the process ends."""
    tracing.install(None)


_told: set[str] = set()


def harmless(method: F) -> F:
    """A fault of telemetry is told once for each place."""

    @wraps(method)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except Exception as fault:
            if method.__qualname__ not in _told:
                _told.add(method.__qualname__)
                log.warning("telemetry failed in %s: %r", method.__qualname__, fault)
            return None

    return cast(F, guarded)


class Otel:
    """The watcher."""

    def __init__(self, providers: Providers) -> None:
        self._providers = providers

    def asking(self, jobs: Iterable[Wish], usual_queue: str) -> tracing.Asking:
        return OtelAsking(self._providers, list(jobs), usual_queue)

    @harmless
    def claimed(self, worker_id: str, jobs: Sequence[ClaimedJob], settled: int, seconds: float) -> None:
        """The span ``rrq.claim``, of no job's trace."""
        queues = {job.queue for job in jobs}
        attributes: dict[str, Any] = {
            "messaging.system": "redis", "messaging.operation": "receive", "rrq.worker_id": worker_id,
            "messaging.batch.message_count": len(jobs), "rrqd.settled": settled,
        }  # fmt: skip
        if len(queues) == 1:
            attributes["messaging.destination.name"] = attributes["rrq.queue"] = queues.pop()
        end_ns = clock.wall_ns()
        span = self._providers.tracer.start_span(
            "rrq.claim", contexts.Context(), SpanKind.CLIENT, attributes, start_time=end_ns - int(seconds * 1e9)
        )
        span.end(end_ns)

    def running(self, job: ClaimedJob, worker_id: str, runner: str, timeout_seconds: float) -> OtelRun:
        run = OtelRun(self._providers, job, runner)
        run.begin(worker_id, timeout_seconds)
        return run

    def serving(self, request: ExecutionRequest) -> OtelServed:
        served = OtelServed(self._providers, request.context.trace_context)
        served.begin(request)
        return served

    @harmless
    def flush(self, seconds: float) -> None:
        self._providers.flush(seconds)


class OtelAsking(tracing.Asking):
    """The span ``rrq.enqueue``. Its context goes into every job that was not given one."""

    def __init__(self, providers: Providers, jobs: list[Wish], usual_queue: str) -> None:
        super().__init__(jobs)
        self._providers = providers
        self._queues = [_queue_of(options) or usual_queue for _, options in jobs]
        self._span: Any = None
        self._token: Any = None
        self._began_ns = 0

    @harmless
    def _begin(self) -> None:
        jobs = cast(list[Wish], self.jobs)
        attributes: dict[str, Any] = {"messaging.system": "redis", "messaging.operation": "publish"}
        if len(set(self._queues)) == 1:
            attributes["messaging.destination.name"] = attributes["rrq.queue"] = self._queues[0]
        if len(jobs) == 1:
            attributes["rrq.function"] = jobs[0][0]
        else:
            attributes["messaging.batch.message_count"] = len(jobs)
        self._began_ns = clock.monotonic_ns()
        span = self._providers.tracer.start_span("rrq.enqueue", kind=SpanKind.PRODUCER, attributes=attributes)
        self._token = contexts.attach(trace.set_span_in_context(span))
        self._span = span
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        self.jobs = [
            (name, {**(options or {}), "trace_context": {**carrier, **((options or {}).get("trace_context") or {})}})
            for name, options in jobs
        ]

    def __enter__(self) -> Self:
        self._begin()
        return self

    @harmless
    def answered(self, reports: Sequence[EnqueueReport]) -> None:
        if self._span is None:
            return
        if len(reports) == 1:
            self._span.set_attribute("rrq.job_id", reports[0].job_id or "")
            self._span.set_attribute("rrq.enqueue_result", reports[0].happened.value)
        for queue, report in zip(self._queues, reports, strict=True):
            self._providers.enqueued(queue, report.happened.value)

    @harmless
    def _finish(self, fault: BaseException | None) -> None:
        if self._span is None:
            return
        contexts.detach(self._token)
        self._providers.enqueue_took((clock.monotonic_ns() - self._began_ns) / 1e6)
        if fault is not None:
            self._span.record_exception(fault)
            self._span.set_status(Status(StatusCode.ERROR, str(fault)))
            for queue in self._queues:
                self._providers.enqueued(queue, "error")
        self._span.end()

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish(fault)


class Continued:
    """A span that continues the trace a job carries, and the context in which it is the current one."""

    def __init__(self, providers: Providers, carried: Mapping[str, str] | None) -> None:
        self._providers = providers
        self._span: Any = None
        self.carrier = dict(carried or {})
        self.context = contextvars.copy_context()

    def _start(self, name: str, attributes: dict[str, Any], correlated: Mapping[str, str] | None) -> None:
        outer = propagate.extract(self.carrier, context=contexts.Context())
        own = {name: value for name, value in (correlated or {}).items() if name and value}
        usual = {"messaging.system": "redis", "messaging.operation": "process", "span.kind": "consumer"}
        self._span = self._providers.tracer.start_span(
            name, context=outer, kind=SpanKind.CONSUMER, attributes={**own, **usual, **attributes}
        )
        ours = trace.set_span_in_context(self._span, outer)
        self.context.run(contexts.attach, ours)
        propagate.inject(self.carrier, context=ours)

    def _end(self, word: str, seconds: float, error_type: str | None, error: str, stack: str, failed: bool) -> None:
        span, self._span = self._span, None
        span.set_attribute("rrq.outcome", word)
        span.set_attribute("rrq.duration_ms", seconds * 1000.0)
        if error:
            span.set_attribute("rrq.error_message", error)
        if error_type is not None:
            span.set_attribute("rrq.error_type", error_type)
            words = {"exception.type": error_type, "exception.message": error}
            span.add_event("exception", {**words, "exception.stacktrace": stack})
        if failed:
            span.set_status(Status(StatusCode.ERROR, error))
        span.end()


class OtelRun(Continued):
    """The span ``rrq.job``."""

    def __init__(self, providers: Providers, job: ClaimedJob, runner: str) -> None:
        super().__init__(providers, job.trace_context)
        self._job = job
        self._runner = runner

    @harmless
    def begin(self, worker_id: str, timeout_seconds: float) -> None:
        """Start it."""
        job = self._job
        deadline = clock.from_ms(clock.wall_ms() + timeout_seconds * 1000)
        attributes = {
            "messaging.destination.name": job.queue, "messaging.message.id": job.id,
            "rrq.job_id": job.id, "rrq.function": job.function, "rrq.queue": job.queue, "rrq.attempt": job.attempt,
            "rrq.worker_id": worker_id, "rrq.runner": self._runner, "rrq.queue_wait_ms": self._wait_ms,
            "rrq.deadline": deadline.isoformat(), "rrq.deadline_remaining_ms": timeout_seconds * 1000.0,
            "rrqd.token": job.token,
        }  # fmt: skip
        self._start("rrq.job", attributes, job.correlation_context)
        self._providers.run_began(job.queue)

    @property
    def _wait_ms(self) -> float:
        """From when it was due to when it was claimed, by the server's clock."""
        return max(0.0, self._job.claimed_ms - self._job.due_ms)

    @harmless
    def ended(self, outcome: Outcome, verdict: Verdict | None, seconds: float) -> None:
        if self._span is None:
            return
        word = outcome_word(outcome, verdict)
        if verdict is not None and verdict.delay_ms and verdict.end in (End.RETRY, End.SNOOZE):
            self._span.set_attribute("rrq.retry_delay_ms", float(verdict.delay_ms))
        if verdict is not None and verdict.end is End.BURY:
            self._span.set_attribute("rrqd.buried", True)
        failure = outcome if isinstance(outcome, Failed) else None
        self._end(
            word,
            seconds,
            (failure.type or "error") if failure is not None else None,
            getattr(outcome, "message", ""),
            (failure.traceback or "") if failure is not None else "",
            isinstance(outcome, Failed | TimedOut),
        )
        self._providers.run_ended(self._job.queue, self._runner, word, seconds * 1000.0, self._wait_ms)


class OtelServed(Continued):
    """The span ``rrq.runner``, in a runner process of ours; under ``rrq.job``, or a real orchestrator's."""

    @harmless
    def begin(self, request: ExecutionRequest) -> None:
        """Start it."""
        context = request.context
        queue = short_queue_name(context.queue_name)
        attributes: dict[str, Any] = {
            "messaging.destination.name": queue, "messaging.message.id": request.job_id,
            "rrq.job_id": request.job_id, "rrq.function": request.function_name, "rrq.queue": queue,
            "rrq.attempt": context.attempt, "rrq.worker_id": context.worker_id or "",
        }  # fmt: skip
        if context.deadline is not None:
            left = context.deadline.timestamp() * 1000 - clock.wall_ms()
            attributes["rrq.deadline"] = context.deadline.isoformat()
            attributes["rrq.deadline_remaining_ms"] = max(0.0, left)
        self._start("rrq.runner", attributes, context.correlation_context)

    @harmless
    def answered(self, outcome: str, error_type: str | None, error: str | None, seconds: float) -> None:
        if self._span is not None:
            failed = outcome in ("error", "timeout")
            self._end(outcome, seconds, (error_type or "error") if failed else None, error or "", "", failed)


def outcome_word(outcome: Outcome, verdict: Verdict | None) -> str:
    """RRQ's word for an end: success, retry, timeout, error, fatal; ours: snooze, diverted, cancelled, released."""
    if verdict is None:
        return "released"
    if isinstance(outcome, TimedOut):
        return "timeout"
    if isinstance(outcome, Failed):
        return "fatal" if outcome.fatal else "error"
    return OUTCOMES.get(verdict.end, "error")


def _queue_of(options: Any) -> str:
    named = (options or {}).get("queue_name")
    return short_queue_name(named) if isinstance(named, str) and named.strip() else ""
