"""OpenTelemetry: one trace from the enqueue into the handler, never mixed up between jobs, and gone when it is off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from rrqd import tracing
from rrqd.bridge.server import Server
from rrqd.client import RRQClient, SyncRRQClient
from rrqd.config.settings import PoolSettings, Settings
from rrqd.exc import ConfigError, RetryJob
from rrqd.handlers import LoadedHandlers
from rrqd.integrations import otel
from rrqd.registry import Registry
from rrqd.standalone import Attendant
from rrqd.store import Store
from tests.support.wait import until
from tests.unit.test_runner_server import join

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
registry = Registry()
tracer = trace.get_tracer("application")


def here() -> str:
    """The trace and the span that are current, as a handler sees them."""
    span = trace.get_current_span().get_span_context()
    return f"{span.trace_id:032x}-{span.span_id:016x}"


@registry.handler("async")
async def work(request: Any) -> list[str]:
    seen = {here()}
    for _ in range(5):
        await asyncio.sleep(0.001)
        seen.add(here())
        seen.add(await asyncio.to_thread(here))
    carried = request.context.trace_context["traceparent"].split("-")
    return [*sorted(seen), f"{carried[1]}-{carried[2]}"]


@registry.handler("plain")
def plain(request: Any) -> list[str]:
    return [here()]


@registry.handler("returns")
def returns(request: Any) -> Any:
    async def later() -> list[str]:
        return [here()]

    return later()


@registry.handler("fail")
async def fail(request: Any) -> None:
    if request.context.attempt == 1:
        raise RetryJob("not yet", defer_seconds=0.0)
    raise ValueError("as told")


@registry.handler("child")
async def child(request: Any) -> str:
    async with RRQClient(config={"redis_dsn": request.params["dsn"]}) as client:
        return await client.enqueue("plain")


class Seen:
    """What was exported."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        self.spans = TracerProvider()
        self.spans.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider(metric_readers=[self.reader])

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def of_job(self, job_id: str, number: int = 1) -> list[ReadableSpan]:
        """The runs of a job, once so many have ended."""

        def ended() -> list[ReadableSpan]:
            found = [one for one in self.named("rrq.job") if (one.attributes or {})["rrq.job_id"] == job_id]
            return found if len(found) >= number else []

        return until(ended, 5, f"{number} spans of {job_id}")

    def metrics(self) -> dict[str, list[Any]]:
        data = self.reader.get_metrics_data()
        assert data is not None
        return {
            metric.name: list(metric.data.data_points)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def seen() -> Iterator[Seen]:
    seen = Seen()
    otel.enable(service_name="shop", tracer_provider=seen.spans, meter_provider=seen.meters)
    yield seen
    otel.disable()


@pytest.fixture
async def client(store: Store, dsn: str) -> AsyncIterator[RRQClient]:
    """A client, and a worker beside it."""
    settings = Settings.model_validate({"rrq": {"redis_dsn": dsn}})
    attendant = Attendant(settings, PoolSettings(handlers="tests:registry"), LoadedHandlers(registry=registry))
    task = asyncio.create_task(attendant.run())
    async with RRQClient(config={"redis_dsn": dsn, "correlation_mappings": {"tenant.id": "tenant"}}) as client:
        yield client
    attendant.stop(0)
    await task


def ids(span: ReadableSpan) -> str:
    context = span.get_span_context()
    assert context is not None
    return f"{context.trace_id:032x}-{context.span_id:016x}"


def parent(span: ReadableSpan) -> str:
    assert span.parent is not None
    return f"{span.parent.trace_id:032x}-{span.parent.span_id:016x}"


async def result(client: RRQClient, job_id: str) -> Any:
    ended = await client.wait_for_completion(job_id, timeout_seconds=10)
    assert ended is not None
    return ended.result


@pytest.mark.parametrize("function", ["async", "plain", "returns"])
async def test_a_trace_goes_from_the_asker_through_the_worker_into_the_handler(
    seen: Seen, client: RRQClient, function: str
) -> None:
    with seen.spans.get_tracer("web").start_as_current_span("request") as request:
        asked_in = here()
        job_id = await client.enqueue(function)
        assert trace.get_current_span() is request
    handler_was_in = set(await result(client, job_id))

    (enqueue,), (run,) = seen.named("rrq.enqueue"), seen.of_job(job_id)
    assert (parent(enqueue), parent(run)) == (asked_in, ids(enqueue))
    assert (enqueue.kind, run.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert handler_was_in == {ids(run)}
    (claim,) = seen.named("rrq.claim")
    assert claim.parent is None
    assert claim.attributes is not None
    assert (claim.attributes["messaging.batch.message_count"], claim.attributes["rrq.queue"]) == (1, "default")


async def test_spans_of_concurrent_jobs_are_never_mixed_up(seen: Seen, client: RRQClient) -> None:
    names = ["async", "plain", "returns"] * 20
    asked = [await client.enqueue(name) for name in names]

    for job_id in asked:
        handler_was_in = set(await result(client, job_id))
        assert handler_was_in == {ids(seen.of_job(job_id)[0])}
    runs = [ids(span) for span in seen.named("rrq.job")]
    assert len(set(runs)) == len({one.partition("-")[0] for one in runs}) == len(names)
    assert not trace.get_current_span().get_span_context().is_valid


async def test_a_context_that_the_caller_gives_goes_before_the_current_one(seen: Seen, client: RRQClient) -> None:
    job_id = await client.enqueue("plain", {"trace_context": {"traceparent": PARENT, "tracestate": "v=1", "x": "y"}})
    await result(client, job_id)

    (run,) = seen.of_job(job_id)
    assert parent(run) == "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"
    assert run.context is not None
    assert run.context.trace_state["v"] == "1"


async def test_a_run_says_what_it_ran_and_how_it_ended(seen: Seen, client: RRQClient) -> None:
    job_id = await client.enqueue("fail", {"max_retries": 2, "params": {"tenant": "t7"}, "queue_name": "default"})
    await client.wait_for_completion(job_id, timeout_seconds=10)

    first, last = (dict(span.attributes or {}) for span in seen.of_job(job_id, 2))
    said = {
        "rrq.job_id": job_id, "rrq.function": "fail", "rrq.queue": "default", "rrq.attempt": 1, "rrq.runner": "python",
        "rrq.outcome": "retry", "rrq.error_message": "not yet", "messaging.system": "redis", "span.kind": "consumer",
        "messaging.operation": "process", "messaging.destination.name": "default", "tenant.id": "t7",
    }  # fmt: skip
    assert {name: first.get(name) for name in said} == said
    for name in ("rrq.worker_id", "rrq.queue_wait_ms", "rrq.duration_ms", "rrq.deadline", "rrq.deadline_remaining_ms"):
        assert name in first
    assert (last["rrq.outcome"], last["rrq.attempt"], last["rrq.error_type"]) == ("error", 2, "ValueError")
    assert last["rrqd.buried"] is True
    span = seen.of_job(job_id, 2)[1]
    assert span.status.status_code is StatusCode.ERROR
    assert [event.name for event in span.events] == ["exception"]


async def test_a_job_enqueued_by_a_handler_belongs_to_its_trace(seen: Seen, client: RRQClient, dsn: str) -> None:
    outer = await client.enqueue("child", {"params": {"dsn": dsn}})
    inner = await result(client, outer)
    await result(client, inner)

    (run,), (inner_run,) = seen.of_job(outer), seen.of_job(inner)
    assert run.context is not None
    assert inner_run.context is not None
    assert run.context.trace_id == inner_run.context.trace_id


async def test_many_jobs_of_one_call_have_one_span_and_a_plain_client_its_own(
    seen: Seen, client: RRQClient, dsn: str
) -> None:
    asked = await client.enqueue_many([("plain", None)] * 3)
    for job_id in asked:
        await result(client, job_id)
        assert parent(seen.of_job(job_id)[0]) == ids(seen.named("rrq.enqueue")[0])
    assert (seen.named("rrq.enqueue")[0].attributes or {})["messaging.batch.message_count"] == 3

    def from_a_thread() -> tuple[str, str]:
        with SyncRRQClient(config={"redis_dsn": dsn}) as plain, seen.spans.get_tracer("x").start_as_current_span("r"):
            return here(), plain.enqueue("plain")

    asked_in, job_id = await asyncio.to_thread(from_a_thread)
    await result(client, job_id)
    assert parent(seen.named("rrq.enqueue")[1]) == asked_in


async def test_a_failed_enqueue_is_a_failed_span(seen: Seen, client: RRQClient) -> None:
    with pytest.raises(ValueError, match="max_retries"):
        await client.enqueue("plain", {"max_retries": "many"})
    (span,) = seen.named("rrq.enqueue")
    assert span.status.status_code is StatusCode.ERROR


@pytest.mark.parametrize("function", ["async", "plain", "returns"])
async def test_a_runner_of_ours_continues_the_trace_of_whoever_asked_it(seen: Seen, function: str) -> None:
    server = Server(LoadedHandlers(registry=registry))
    peer = await join(server)
    context = {
        "job_id": "j", "attempt": 1, "enqueue_time": "2026-01-01T00:00:00Z", "queue_name": "rrq:queue:q",
        "trace_context": {"traceparent": PARENT},
    }  # fmt: skip
    for number, name in enumerate((function, "nobody")):
        peer.say(
            "request", protocol_version="2", request_id=f"r{number}", job_id="j", function_name=name, params={},
            context=context,
        )  # fmt: skip
    said = {one["request_id"]: one for one in [await peer.answer(), await peer.answer()]}
    peer.writer.close()
    await server.close()

    spans = {str((span.attributes or {})["rrq.function"]): span for span in seen.named("rrq.runner")}
    assert {parent(span) for span in spans.values()} == {"0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"}
    assert set(said["r0"]["result"]) == {ids(spans[function])}
    assert (spans[function].attributes or {})["rrq.outcome"] == "success"
    assert (spans["nobody"].attributes or {})["rrq.error_type"] == "handler_not_found"


async def test_metrics_have_rrqs_names(seen: Seen, client: RRQClient) -> None:
    job_id = await client.enqueue("plain")
    await result(client, job_id)
    seen.of_job(job_id)

    found = seen.metrics()
    assert dict(found["rrq_enqueue_total"][0].attributes) == {"queue": "default", "result": "created"}
    where = {"queue": "default", "runner": "python", "outcome": "success"}
    assert [dict(point.attributes) for point in found["rrq_jobs_processed_total"]] == [where]
    assert found["rrq_job_duration_ms"][0].count == found["rrq_queue_wait_ms"][0].count == 1
    assert found["rrq_enqueue_duration_ms"][0].count == 1
    assert found["rrqd_jobs_running"][0].value == 0


async def test_a_fault_of_telemetry_costs_no_job_anything(
    seen: Seen, client: RRQClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("a bad exporter")

    watcher: Any = tracing.watcher
    monkeypatch.setattr(watcher._providers.tracer, "start_span", broken)
    monkeypatch.setattr(watcher._providers, "run_ended", broken)

    assert await result(client, await client.enqueue("plain")) is not None


async def test_off_there_is_no_trace_and_nothing_extra_is_stored(client: RRQClient) -> None:
    job_id = await client.enqueue("plain")
    await result(client, job_id)

    job = await client.get_job(job_id)
    assert job is not None
    assert "trace_context" not in job.fields


def test_a_service_needs_a_name() -> None:
    with pytest.raises(ConfigError, match="service_name can't be empty"):
        otel.enable(service_name="")
