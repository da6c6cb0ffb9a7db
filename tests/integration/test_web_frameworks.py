"""Starlette, FastAPI and Flask: a client for requests, and jobs that have what they need around them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from flask import Flask, current_app
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from rrqd import App, Registry
from rrqd.integrations import starlette
from rrqd.integrations.fastapi import Client, lifespan
from rrqd.integrations.flask import Jobs, in_app_context
from rrqd.testing import Engine


@pytest.fixture(scope="module")
def running() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.close()


@pytest.fixture
def engine(running: Engine) -> Iterator[Engine]:
    running.clear()
    with running.in_charge():
        yield running


def tasks_of() -> tuple[App, list[str]]:
    happened: list[str] = []

    @contextlib.asynccontextmanager
    async def alive(app: App) -> AsyncIterator[str]:
        happened.append("begin")
        yield "a database"
        happened.append("end")

    tasks = App(lifespan=alive)

    @tasks.task("double")
    async def double(number: int) -> int:
        happened.append(tasks.state)
        return 2 * number

    return tasks, happened


def test_starlette_has_the_client_and_a_worker_for_as_long_as_it_lives(engine: Engine) -> None:
    tasks, happened = tasks_of()

    @contextlib.asynccontextmanager
    async def own(app: Starlette) -> AsyncIterator[dict[str, str]]:
        yield {"title": "shop"}

    async def ask(request: Request) -> JSONResponse:
        job_id = await starlette.client(request).enqueue("double", {"params": {"number": 21}})
        ended = await starlette.client(request).wait_for_completion(job_id, timeout_seconds=10)
        assert ended is not None
        return JSONResponse([request.state.title, ended.result])

    app = Starlette(routes=[Route("/", ask)], lifespan=starlette.lifespan(tasks, worker=["default"], within=own))
    with TestClient(app) as web:
        assert web.get("/").json() == ["shop", 42]
    assert happened == ["begin", "a database", "end"]


def test_fastapi_gives_the_client_to_endpoints(engine: Engine) -> None:
    tasks, happened = tasks_of()
    app = FastAPI(lifespan=lifespan(tasks))

    @app.post("/{number}")
    async def order(number: int, jobs: Client) -> dict[str, str]:
        return {"job": await jobs.enqueue("double", {"params": {"number": number}})}

    for _ in range(2):  # an application may live twice, as in tests
        with TestClient(app) as web:
            job_id = web.post("/4").json()["job"]
    assert happened == ["begin", "end"] * 2
    assert job_id in [job.id for job in engine.enqueued("double", number=4)]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"worker": ["default"]}, "needs the tasks"),
        ({"tasks": App(), "dsn": "redis://h"}, "would name another"),
    ],
)
def test_a_lifespan_that_cannot_be_is_refused(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        lifespan(**wrong)


def test_a_request_without_the_lifespan_is_told_what_is_missing() -> None:
    async def ask(request: Request) -> JSONResponse:
        return JSONResponse(str(starlette.client(request)))

    with (
        TestClient(Starlette(routes=[Route("/", ask)])) as web,
        pytest.raises(RuntimeError, match="not started with rrqd's lifespan"),
    ):
        web.get("/")


def test_flask_has_the_client_in_views_and_its_context_around_jobs(engine: Engine) -> None:
    jobs, made = Jobs(), []

    def create_app() -> Flask:
        app = Flask("shop")
        app.config["RRQD_DSN"] = engine.dsn
        jobs.init_app(app)
        made.append(app)

        @app.post("/<int:number>")
        def order(number: int) -> str:
            return jobs.client.enqueue("named", {"params": {"number": number}})

        return app

    registry = Registry()
    registry.middleware(in_app_context(create_app))

    @registry.handler("named")
    def named(request: Any) -> str:
        return f"{current_app.name} {request.params['number']}"

    @registry.handler("awaited")
    async def awaited(request: Any) -> str:
        jobs.client.enqueue("named", {"params": {"number": 2}, "job_id": "second"})
        return current_app.name

    web = create_app().test_client()
    ids = [web.post("/1").text, engine.place.client.enqueue("awaited"), "second"]
    engine.use(registry)
    engine.run_all()

    ended = [engine.place.client.get_job_status(job_id) for job_id in ids]
    assert [one and one.result for one in ended] == ["shop 1", "shop", "shop 2"]
    assert len(made) == 2  # one for the web server, one for the worker
    with Flask("bare").app_context(), pytest.raises(RuntimeError, match=r"call jobs\.init_app"):
        _ = jobs.client
