"""Where spans and metrics go: providers, made when first needed, after the fork; and the instruments.

Whoever has set global providers keeps them. Else they are made here, and set as the global ones, so that what handlers
call (an instrumented HTTP client, say) is exported too.
"""

from __future__ import annotations

import os
import threading
from functools import cached_property
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

import rrqd

NAME = "rrqd"


def destination(signal: str) -> bool:
    """Whether the environment says where ``TRACES`` or ``METRICS`` go; an empty value of its own: nowhere."""
    own = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    return bool(own if own is not None else os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"))


class Providers:
    """Tracer and instruments of one process."""

    def __init__(self, service_name: str, tracer_provider: Any | None, meter_provider: Any | None) -> None:
        self._service_name = service_name
        self._given = tracer_provider, meter_provider
        self._lock = threading.RLock()
        self._made: list[Any] = []

    @cached_property
    def tracer(self) -> Any:
        with self._lock:
            return self._tracer_provider().get_tracer(NAME, rrqd.__version__)

    def _tracer_provider(self) -> Any:
        if self._given[0] is not None:
            return self._noted(self._given[0])
        there = trace.get_tracer_provider()
        if isinstance(there, TracerProvider):
            return self._noted(there)
        made = TracerProvider(resource=self._resource())
        if destination("TRACES"):
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(made)
        return self._noted(made)

    def _meter_provider(self) -> Any:
        if self._given[1] is not None:
            return self._noted(self._given[1])
        there = metrics.get_meter_provider()
        if isinstance(there, MeterProvider):
            return self._noted(there)
        readers = []
        if destination("METRICS"):
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

            readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
        made = MeterProvider(resource=self._resource(), metric_readers=readers)
        metrics.set_meter_provider(made)
        return self._noted(made)

    def _resource(self) -> Any:
        named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        return Resource.create({} if named else {"service.name": self._service_name})

    def _noted(self, provider: Any) -> Any:
        self._made.append(provider)
        return provider

    def flush(self, seconds: float) -> None:
        """Send what is collected."""
        for provider in list(self._made):
            provider.force_flush(int(seconds * 1000 / max(1, len(self._made))))

    # Metrics, under RRQ's names.

    @cached_property
    def _meter(self) -> Any:
        with self._lock:
            return self._meter_provider().get_meter(NAME, rrqd.__version__)

    @cached_property
    def _enqueues(self) -> Any:
        return self._meter.create_counter("rrq_enqueue_total", description="Jobs asked for, by queue and result.")

    @cached_property
    def _enqueue_ms(self) -> Any:
        return self._meter.create_histogram("rrq_enqueue_duration_ms", "ms", "Time of an enqueue call.")

    @cached_property
    def _processed(self) -> Any:
        return self._meter.create_counter(
            "rrq_jobs_processed_total", description="Runs that ended, by queue, runner and outcome."
        )

    @cached_property
    def _duration_ms(self) -> Any:
        return self._meter.create_histogram("rrq_job_duration_ms", "ms", "Time of a run.")

    @cached_property
    def _wait_ms(self) -> Any:
        return self._meter.create_histogram("rrq_queue_wait_ms", "ms", "From due to claimed, by the server's clock.")

    @cached_property
    def _running(self) -> Any:
        return self._meter.create_up_down_counter("rrqd_jobs_running", description="Runs under way.")

    def enqueued(self, queue: str, result: str) -> None:
        """One job was asked for."""
        self._enqueues.add(1, {"queue": queue, "result": result})

    def enqueue_took(self, ms: float) -> None:
        """An enqueue call has its answer."""
        self._enqueue_ms.record(ms)

    def run_began(self, queue: str) -> None:
        """A run is under way."""
        self._running.add(1, {"queue": queue})

    def run_ended(self, queue: str, runner: str, outcome: str, ms: float, wait_ms: float) -> None:
        """It no longer is."""
        where = {"queue": queue, "runner": runner, "outcome": outcome}
        self._processed.add(1, where)
        self._duration_ms.record(ms, where)
        self._wait_ms.record(wait_ms, {"queue": queue})
        self._running.add(-1, {"queue": queue})
