"""What stands around a run: context managers, each made with the request, the first one outermost.

    @registry.middleware              # or @app.middleware, or middleware = ["myapp:timing"] of a pool
    @contextlib.contextmanager
    def timing(request):
        began = time.monotonic()
        yield                         # the run; an exception of the handler is raised here
        ...

Those of the pool are outside, then come those of the registry (or app), then those of the handler. A handler without
any is called as it is. Below are those that most applications need; ``docs/middleware.md`` shows them at work.
"""

from __future__ import annotations

import contextlib
import inspect
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from rrqd.exc import RetryJob, SnoozeJob
from rrqd.runner import ExecutionRequest

Manager = contextlib.AbstractContextManager[Any] | contextlib.AbstractAsyncContextManager[Any]
#: An asynchronous one stands around ``async def`` handlers only.
Middleware = Callable[[ExecutionRequest], Manager]
Kinds = type[BaseException]
WISHES = (RetryJob, SnoozeJob)
"""A handler's own words on what is to follow: no failures, so nothing here changes them."""


def around(handler: Callable[..., Any], is_async: bool, middlewares: Sequence[Middleware]) -> Callable[..., Any]:
    """The handler with these around it, awaited (``is_async``) or called as before."""

    async def run_async(request: ExecutionRequest) -> Any:
        async with contextlib.AsyncExitStack() as stack:
            for middleware in middlewares:
                manager: Any = middleware(request)
                if hasattr(manager, "__aenter__"):
                    await stack.enter_async_context(manager)
                else:
                    stack.enter_context(manager)
            return await handler(request)

    def run(request: ExecutionRequest) -> Any:
        with contextlib.ExitStack() as stack:
            for middleware in middlewares:
                stack.enter_context(_plain(middleware, request))
            value = handler(request)
            return _awaited(value, stack.pop_all()) if inspect.isawaitable(value) else value

    return run_async if is_async else run


def _plain(middleware: Middleware, request: ExecutionRequest) -> contextlib.AbstractContextManager[Any]:
    manager: Any = middleware(request)
    if not hasattr(manager, "__enter__"):
        name = getattr(middleware, "__qualname__", repr(middleware))
        raise TypeError(f"the middleware {name} gave no context manager that a plain handler can be run in")
    return manager  # type: ignore[no-any-return]


async def _awaited(value: Awaitable[Any], stack: contextlib.ExitStack) -> Any:
    """A plain handler may answer with something to be awaited: the run goes on until then."""
    with stack:
        return await value


def before(call: Callable[[ExecutionRequest], object]) -> Middleware:
    """``call(request)`` before each run. What it raises is the run's end."""

    @contextlib.contextmanager
    def run(request: ExecutionRequest) -> Iterator[None]:
        call(request)
        yield

    return run


def after(call: Callable[[ExecutionRequest, BaseException | None], object]) -> Middleware:
    """``call(request, fault)`` after each run; ``fault``: what the handler raised, a cancellation too, or None."""

    @contextlib.contextmanager
    def run(request: ExecutionRequest) -> Iterator[None]:
        try:
            yield
        except BaseException as fault:
            call(request, fault)
            raise
        call(request, None)

    return run


def retry_on(
    *kinds: Kinds, delay_seconds: float, factor: float = 2.0, max_delay_seconds: float = 3600.0, jitter: float = 0.1
) -> Middleware:
    """After one of these exceptions the next attempt comes ``delay_seconds * factor ** (attempt - 1)`` later, at most
    ``max_delay_seconds``, spread by ± ``jitter`` of it. How many attempts there are stays the job's affair."""

    @contextlib.contextmanager
    def run(request: ExecutionRequest) -> Iterator[None]:
        try:
            yield
        except kinds as fault:
            if not isinstance(fault, WISHES):
                seconds = delay_seconds * factor ** min(request.context.attempt - 1, 100)
                seconds = min(max_delay_seconds, seconds * (1 + jitter * random.uniform(-1, 1)))
                fault.retry_after_seconds = seconds  # type: ignore[attr-defined]
            raise

    return run


def bury_on(*kinds: Kinds) -> Middleware:
    """One of these exceptions is the job's end: no further attempt could help."""

    @contextlib.contextmanager
    def run(request: ExecutionRequest) -> Iterator[None]:
        try:
            yield
        except kinds as fault:
            if not isinstance(fault, WISHES):
                fault.is_final = True  # type: ignore[attr-defined]
            raise

    return run


def requeue_on(*kinds: Kinds, delay_seconds: tuple[float, float] = (1.0, 15.0), most: int | None = None) -> Middleware:
    """After one of these exceptions the job goes back to its queue, due in a time between the two of ``delay_seconds``,
    and the run is no attempt. ``most``: so often (at most 48 times); then the exception is a failure."""

    @contextlib.contextmanager
    def run(request: ExecutionRequest) -> Iterator[None]:
        try:
            yield
        except kinds as fault:
            if isinstance(fault, WISHES) or (most is not None and request.context.snoozes >= min(most, 48)):
                raise
            raise SnoozeJob(random.uniform(*delay_seconds), f"{type(fault).__qualname__}: {fault}") from fault

    return run


def timeout(seconds: float | Callable[[ExecutionRequest], float | None]) -> Middleware:
    """The run ends after so many seconds, a number or what is computed from the request (None: no limit), unless its
    own timeout comes first. What follows is what follows a timeout."""

    def limit(request: ExecutionRequest) -> None:
        most = seconds(request) if callable(seconds) else seconds
        if most is not None:
            request.limit(most)

    return before(limit)
