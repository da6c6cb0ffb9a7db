"""``App``: the tasks of an application, where their jobs lie, and what stands around each run."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from rrqd.app.depends import Provider
from rrqd.app.task import Call, Handle, Task
from rrqd.middleware import Middleware
from rrqd.registry import HandlerPolicy, Registry
from rrqd.rq.connection import Connection, connect
from rrqd.runner_settings import PythonRunnerSettings

if TYPE_CHECKING:
    from rrqd.client import RRQClient, SyncRRQClient

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Lifespan = Callable[["App"], contextlib.AbstractAsyncContextManager[Any]]
M = TypeVar("M", bound=Middleware)

#: Options of a task that are its handler's, in the words of the registry.
_POLICY = ("timeout_seconds", "max_retries", "retry_delay_seconds", "max_retry_delay_seconds", "on_timeout")


class App(PythonRunnerSettings):
    """Tasks; a pool names it as its handlers (``"myapp.tasks:app"``).

    ``dsn``: the server; left out: ``RRQ_REDIS_DSN``, or the embedded one. ``lifespan(app)``: an async context manager
    around each worker's life; what it yields is ``app.state`` there. ``replaced``: providers to use in place of others
    (in tests).
    """

    def __init__(self, *, dsn: str | None = None, namespace: str = "", lifespan: Lifespan | None = None) -> None:
        super().__init__(registry=Registry(), on_startup=self._enter, on_shutdown=self._leave)
        self.state: Any = None
        self.replaced: dict[Provider, Provider] = {}
        self._dsn = dsn
        self._own_place = Connection(dsn, namespace=namespace) if namespace else None
        self._lifespan = lifespan
        self._living: contextlib.AbstractAsyncContextManager[Any] | None = None

    def task(
        self,
        name: str | None = None,
        *,
        queue: str | None = None,
        middleware: Sequence[Middleware] = (),
        **options: Any,
    ) -> Callable[[Callable[P, R]], Task[P, R]]:
        """Decorator. ``name``: what stands in the job; left out: ``module.function``. ``middleware``: around its
        runs, inside of the app's. ``options``: the handler's policy
        (``timeout_seconds``, ``max_retries``, ``retry_delay_seconds``, ``max_retry_delay_seconds``, ``on_timeout``) and
        any option of an enqueue (``priority``, ``tags``, ``unique_key``, ``result_ttl_seconds``, …)."""
        policy = HandlerPolicy(**{key: options.pop(key) for key in _POLICY if key in options})
        if queue is not None:
            options["queue_name"] = queue

        def enter(function: Callable[P, R]) -> Task[P, R]:
            task = Task(self, function, name or f"{function.__module__}.{function.__qualname__}", options)
            self.registry.register(task.name, task.handler(), policy=policy, middleware=middleware)
            return task

        return enter

    def middleware(self, function: M) -> M:
        """Decorator: a context manager around each run, made with its request; the first one is the outermost."""
        return self.registry.middleware(function)

    async def enqueue_many(self, calls: Iterable[Call[Any]]) -> Sequence[Handle[Any]]:
        """Enqueue calls (``task.call(…)``) in one request; they keep their order."""
        listed = list(calls)
        ids = await self.client.enqueue_many([call.wish for call in listed])
        return self._handles(listed, ids)

    def enqueue_many_sync(self, calls: Iterable[Call[Any]]) -> Sequence[Handle[Any]]:
        """The same for code without an event loop."""
        listed = list(calls)
        return self._handles(listed, self.sync_client.enqueue_many([call.wish for call in listed]))

    @property
    def place(self) -> Connection:
        """Where its jobs lie."""
        return self._own_place or connect(self._dsn)

    @property
    def sync_client(self) -> SyncRRQClient:
        """The client for code without an event loop."""
        return self.place.client

    @property
    def client(self) -> RRQClient:
        """The client for event loops, any number of them."""
        return self.sync_client.for_loops

    def _handles(self, calls: Sequence[Call[Any]], ids: Sequence[str]) -> list[Handle[Any]]:
        return [Handle(self, job_id, call.task.signature) for call, job_id in zip(calls, ids, strict=True)]

    async def _enter(self) -> None:
        if self._lifespan is not None:
            self._living = self._lifespan(self)
            self.state = await self._living.__aenter__()

    async def _leave(self) -> None:
        living, self._living = self._living, None
        if living is not None:
            await living.__aexit__(None, None, None)

    @contextlib.asynccontextmanager
    async def alive(self) -> AsyncIterator[Any]:
        """The lifespan outside of a worker: in a test, or in a web server that calls tasks itself."""
        await self._enter()
        try:
            yield self.state
        finally:
            await self._leave()
