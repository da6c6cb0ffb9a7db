"""Starlette: a client, or the tasks of an application, for as long as the web server lives.

    app = Starlette(routes=…, lifespan=lifespan())              # request.state.rrqd is a client
    app = Starlette(routes=…, lifespan=lifespan(tasks))         # and the App's own lifespan is around it
    app = Starlette(routes=…, lifespan=lifespan(tasks, worker=["default"]))   # and its jobs run here, too

A worker in the web server is for development and small sites: it ends with the server, and its jobs go back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, cast

from starlette.requests import HTTPConnection

from rrqd.app import App
from rrqd.client import RRQClient
from rrqd.config.pool_table import PoolSettings
from rrqd.config.settings import Settings
from rrqd.handlers import LoadedHandlers
from rrqd.standalone import Attendant, Background

#: What a web framework takes as its lifespan: called with the application, entered, and its value is the state.
Lifespan = Callable[[Any], contextlib.AbstractAsyncContextManager[Mapping[str, Any]]]
GOODBYE_SECONDS = 10.0


def lifespan(
    tasks: App | None = None,
    *,
    dsn: str | None = None,
    worker: Sequence[str] = (),
    concurrency: int = 10,
    within: Callable[[Any], contextlib.AbstractAsyncContextManager[Any]] | None = None,
) -> Lifespan:
    """A lifespan that leaves a client of jobs in ``request.state.rrqd``.

    ``tasks``: an App, whose client that is and whose own lifespan is around it. ``dsn``: the server, without an App;
    left out: ``RRQ_REDIS_DSN``, or the embedded one. ``worker``: queues whose jobs a thread of this process runs.
    ``within``: the application's own lifespan; its state is kept.
    """
    if tasks is not None and dsn is not None:
        raise ValueError("the server of an App is App(dsn=…); lifespan(tasks, dsn=…) would name another")
    if worker and tasks is None:
        raise ValueError("lifespan(worker=…) needs the tasks that it is to run: lifespan(tasks, worker=[…])")

    @contextlib.asynccontextmanager
    async def live(app: Any) -> AsyncIterator[Mapping[str, Any]]:
        own = tasks if tasks is not None else App(dsn=dsn)
        async with contextlib.AsyncExitStack() as stack:
            state = dict(await stack.enter_async_context(within(app)) or {}) if within is not None else {}
            jobs = await asyncio.to_thread(getattr, own, "client")  # an embedded server may have to start
            stack.push_async_callback(jobs.close)
            await stack.enter_async_context(_working(own, worker, concurrency) if worker else own.alive())
            yield {**state, "rrqd": jobs}

    return live


def client(connection: HTTPConnection) -> RRQClient:
    """The client of the application that serves this request. Raises RuntimeError outside of :func:`lifespan`."""
    found = getattr(connection.state, "rrqd", None)
    if found is None:
        raise RuntimeError("this application was not started with rrqd's lifespan: Starlette(lifespan=lifespan())")
    return cast(RRQClient, found)


@contextlib.asynccontextmanager
async def _working(tasks: App, queues: Sequence[str], concurrency: int) -> AsyncIterator[None]:
    """A worker of these queues in a thread with a loop of its own: no request waits for a job."""
    place = tasks.place
    settings = Settings.model_validate(
        {"rrq": {"redis_dsn": place.dsn}, "rrqd": {"namespace": place.namespace, "lease_seconds": 5.0}}
    )
    pool = PoolSettings(handlers="rrqd.app:tasks", queues=list(queues), concurrency=concurrency, sandbox=False)
    handlers = LoadedHandlers(tasks.registry, tasks.on_startup, tasks.on_shutdown)
    background = Background(lambda: Attendant(settings, pool, handlers, pool_name="web"))
    await asyncio.to_thread(background.start)
    try:
        yield
    finally:
        await asyncio.to_thread(background.stop, GOODBYE_SECONDS)
        background.join()
