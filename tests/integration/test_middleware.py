"""What stands around runs: its order, and what the ready-made ones make of a run's end. Also docs/middleware.md."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from rrqd.bridge.protocol import Request
from rrqd.config.settings import PoolSettings, Settings
from rrqd.exc import ConfigError
from rrqd.handlers import LoadedHandlers, load_middlewares
from rrqd.middleware import Middleware, before
from rrqd.model.job import Job
from rrqd.registry import Registry
from rrqd.standalone import Attendant
from rrqd.store import Store
from tests.support.daemon import ROOT
from tests.support.moves import job, known

happened: list[str] = []


def named(name: str) -> Middleware:
    @contextlib.contextmanager
    def run(request: Any) -> Iterator[None]:
        happened.append(name)
        yield
        happened.append(f"{name} over")

    return run


def named_async(name: str) -> Middleware:
    @contextlib.asynccontextmanager
    async def run(request: Any) -> AsyncIterator[None]:
        await asyncio.sleep(0)
        happened.append(name)
        yield

    return run


@pytest.fixture
def burst(store: Store, dsn: str) -> Callable[..., Any]:
    """Runs what is due."""

    async def run(registry: Registry, *middlewares: Middleware) -> None:
        settings = Settings.model_validate({"rrq": {"redis_dsn": dsn}, "rrqd": {"timeout_grace_seconds": 30.0}})
        handlers = LoadedHandlers(registry, middlewares=middlewares)
        await Attendant(settings, PoolSettings(handlers="tests:registry"), handlers).run(horizon_seconds=0.0)

    happened.clear()
    return run


async def test_the_pools_are_outside_the_handlers_inside_and_nobody_elses_run_has_any(
    store: Store, burst: Callable[..., Any]
) -> None:
    registry, other = Registry(), Registry()
    registry.middleware(named("registry"))

    @registry.handler("plain", middleware=[named("own")])
    def plain(request: Any) -> str:
        happened.append("run")
        return "done"

    @registry.handler("async", middleware=[named_async("own"), named("second")])
    async def asynchronous(request: Any) -> str:
        happened.append("run")
        return "done"

    registry.register("awaited", lambda request: asyncio.sleep(0))
    registry.register("refused", lambda request: None, middleware=[named_async("for async ones only")])
    other.register("alone", lambda request: None)
    assert registry.get("plain") is registry.get("plain")
    assert (entry := other.get("alone")) is not None
    assert entry.within() is entry, "it is called as it is"

    for name, inner in (("plain", ["own", "run", "own over"]), ("async", ["own", "second", "run", "second over"])):
        happened.clear()
        await store.enqueue_many([job(name, function=name)])
        await burst(registry, named("pool"))
        assert happened == ["pool", "registry", *inner, "registry over", "pool over"]
        assert (await known(store, name)).result == "done"
    happened.clear()
    await store.enqueue_many([job("awaited", function="awaited")])
    await burst(registry)
    assert happened == ["registry", "registry over"]
    await store.enqueue_many([job("refused", function="refused", max_retries=1)])
    await burst(registry)
    assert "no context manager" in ((await known(store, "refused")).last_error or "")


async def test_the_page(store: Store, dsn: str, burst: Callable[..., Any]) -> None:
    (example,) = re.findall(r"(?ms)^```python\n(.*?)^```$", (ROOT / "docs" / "middleware.md").read_text())
    names: dict[str, Any] = {}
    exec(example, names)
    registry = names["registry"]
    urls = ("busy", "nonsense", "down", "fine")
    jobs = [job(url, function="fetch", params=b'{"url": "%s", "most_seconds": null}' % url.encode()) for url in urls]
    await store.enqueue_many(jobs)
    await burst(registry)

    now = {url: await known(store, url) for url in urls}
    assert [now[url].status for url in urls] == ["PENDING", "FAILED", "RETRYING", "COMPLETED"]
    assert names["seconds"].keys() == {"fine"}
    assert 26 < delay_of(now["down"]) < 34
    assert 0.9 < delay_of(now["busy"]) < 5.1
    assert now["down"].error is not None
    assert now["down"].error["type"] == "ConnectionError"
    assert "middleware.py" not in now["down"].error["traceback"].partition("ConnectionError")[0].partition("fetch")[0]
    assert "fault" in str(await store.log_lines("fine"))


def delay_of(job: Job) -> float:
    due, began = job.moment("next_scheduled_run_time"), job.moment("enqueue_time")
    assert due is not None
    assert began is not None
    return (due - began).total_seconds()


async def test_a_requeue_that_has_been_had_often_enough_is_a_failure(store: Store, burst: Callable[..., Any]) -> None:
    from rrqd.middleware import requeue_on

    registry = Registry()
    seen: list[tuple[int, int]] = []

    @registry.handler("busy", middleware=[requeue_on(OSError, delay_seconds=(0.0, 0.0), most=2)])
    def busy(request: Any) -> None:
        seen.append((request.context.attempt, request.context.snoozes))
        raise OSError("taken")

    await store.enqueue_many([job("a", function="busy", max_retries=1)])
    await burst(registry)

    assert seen == [(1, 0), (1, 1), (1, 2)]
    assert (await known(store, "a")).status == "FAILED"


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_a_limit_is_a_timeout(store: Store, burst: Callable[..., Any], kind: str) -> None:
    from rrqd.middleware import timeout

    registry = Registry()

    async def patient(request: Any) -> None:
        await asyncio.sleep(60)

    def told(request: Any) -> None:
        import threading

        over = threading.Event()
        request.when_stopped(lambda why: (happened.append(why), over.set()))
        over.wait()

    around = [timeout(30), timeout(lambda request: request.params["seconds"]), timeout(lambda request: None)]
    registry.register("patient", patient if kind == "async" else told, middleware=around)
    await store.enqueue_many([job("a", function="patient", params=b'{"seconds": 0.05}', max_retries=1)])
    await burst(registry)

    assert "timed out after 0.0" in ((await known(store, "a")).last_error or "")
    assert happened == ([] if kind == "async" else ["timeout"])


async def test_rrqds_own_runner_has_them_too() -> None:
    from rrqd.bridge.server import Run, Server

    registry = Registry()

    @registry.handler("patient", middleware=[named("own"), before(lambda request: request.limit(0.01))])
    async def patient(request: Any) -> None:
        await asyncio.sleep(60)

    happened.clear()
    server = Server(LoadedHandlers(registry))
    asked = request_of_nobody()
    run = Run(Request(request_id="r", job_id="a", function_name="patient", context=asked.context), server._limit)
    server._runs["r"] = run
    run.task = asyncio.create_task(server._answer(run))  # type: ignore[arg-type]
    with pytest.raises(asyncio.CancelledError):
        await run.task

    assert (happened, run.is_late) == (["own"], True)


def test_a_pool_names_them() -> None:
    assert len(load_middlewares(["rrqd.middleware:before", "rrqd.middleware:after"])) == 2
    with pytest.raises(ConfigError, match=r'middleware = "rrqd.middleware:befor": .* did you mean "before"'):
        load_middlewares(["rrqd.middleware:befor"])
    with pytest.raises(ConfigError, match="is a tuple, nothing that can be called"):
        load_middlewares(["rrqd.middleware:WISHES"])
    with pytest.raises(RuntimeError, match="not being run by a worker"):
        request_of_nobody().limit(1.0)
    with pytest.raises(ValueError, match="positive number of seconds, not 0"):
        request_of_nobody().limit(0)


def request_of_nobody() -> Any:
    from datetime import UTC, datetime

    from rrqd.runner import ExecutionContext, ExecutionRequest

    context = ExecutionContext(job_id="a", attempt=2, enqueue_time=datetime.now(UTC), queue_name="rrq:queue:mail")
    return ExecutionRequest(request_id="a", job_id="a", function_name="send", context=context)


def test_those_of_a_pool_stay_when_its_handlers_are_made_after_the_fork() -> None:
    made = LoadedHandlers(Registry())
    loaded = LoadedHandlers(Registry(), prepare=lambda door: made, middlewares=(named("pool"),))
    door: Any = None

    assert loaded.behind(door).registry is made.registry
    assert loaded.behind(door).middlewares == loaded.middlewares
    assert made.behind(door) is made


def test_sentry_hears_of_failures_and_not_of_wishes() -> None:
    sentry_sdk = pytest.importorskip("sentry_sdk")
    from rrqd.exc import RetryJob
    from rrqd.integrations.sentry import report

    events: list[Any] = []
    sentry_sdk.init(
        dsn="http://key@localhost/1", before_send=lambda event, hint: events.append(event), default_integrations=False
    )
    try:
        for fault in (RetryJob("again"), ZeroDivisionError("by zero")):
            with pytest.raises(type(fault)), report(request_of_nobody()):
                raise fault
    finally:
        sentry_sdk.init()

    (event,) = events
    assert event["tags"] == {"job_id": "a", "function": "send", "queue": "mail"}
    assert event["contexts"]["job"] == {"id": "a", "attempt": 2, "worker": None}
    assert event["exception"]["values"][0]["type"] == "ZeroDivisionError"
