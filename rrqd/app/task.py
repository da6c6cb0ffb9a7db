"""A task: a function that can be called, and enqueued with the same arguments; and what is left in hand, a Handle."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast, overload

from rrqd.app.depends import Injector, is_plain, needs_of
from rrqd.app.values import Signature
from rrqd.exc import InvalidRequest
from rrqd.job import JobStatus
from rrqd.registry import is_async_callable
from rrqd.runner import ExecutionError, ExecutionOutcome, ExecutionRequest

if TYPE_CHECKING:
    from rrqd.app.app import App

P = ParamSpec("P")
T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)


class TaskFailed(Exception):
    """The job failed for good, or was cancelled; the text is its last error."""


class Call(Generic[T]):
    """A call of a task that has not been enqueued yet, for ``app.enqueue_many``."""

    def __init__(self, task: Task[..., Any], params: dict[str, Any], options: Mapping[str, Any]) -> None:
        self.task = task
        self.wish = task.name, {**options, "params": params}


class Task(Generic[P, R_co]):
    """What ``@app.task`` makes of a function. Called, it is the function. ``R_co`` is what the function returns: an
    awaitable for an ``async def`` one."""

    def __init__(self, app: App, function: Callable[P, R_co], name: str, options: Mapping[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self.name = name
        self.function = function
        self._app = app
        self._options = dict(options)
        self._needs = needs_of(function)
        self.is_async = is_async_callable(function)
        if not self.is_async:
            for parameter, provider in self._needs.items():
                if not is_plain(provider):
                    raise TypeError(
                        f"{name}: {parameter} needs an event loop; make the task async, or its provider plain"
                    )
        self.signature = Signature(function, set(self._needs))

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        return self.function(*args, **kwargs)

    def options(self, **options: Any) -> Task[P, R_co]:
        """The same task with other options of an enqueue (``defer_by_seconds=60``, ``tags=["vip"]``, …)."""
        return Task(self._app, self.function, self.name, {**self._options, **options})

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call[Any]:
        try:
            return Call(self, self.signature.write(args, kwargs), self._options)
        except TypeError as fault:
            raise InvalidRequest(str(fault)) from None

    @overload
    def call(self: Task[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> Call[T]: ...
    @overload
    def call(self: Task[P, T], *args: P.args, **kwargs: P.kwargs) -> Call[T]: ...
    def call(self, *args: Any, **kwargs: Any) -> Any:
        """One call for ``app.enqueue_many``. Raises InvalidRequest for arguments that don't fit."""
        return self._call(args, kwargs)

    @overload
    async def enqueue(self: Task[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> Handle[T]: ...
    @overload
    async def enqueue(self: Task[P, T], *args: P.args, **kwargs: P.kwargs) -> Handle[T]: ...
    async def enqueue(self, *args: Any, **kwargs: Any) -> Any:
        """Have it run by a worker. Raises InvalidRequest, JobExists, EnqueueFailed."""
        return (await self._app.enqueue_many([self._call(args, kwargs)]))[0]

    @overload
    def enqueue_sync(self: Task[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> Handle[T]: ...
    @overload
    def enqueue_sync(self: Task[P, T], *args: P.args, **kwargs: P.kwargs) -> Handle[T]: ...
    def enqueue_sync(self, *args: Any, **kwargs: Any) -> Any:
        """The same for code without an event loop."""
        return self._app.enqueue_many_sync([self._call(args, kwargs)])[0]

    # In a worker.

    def handler(self) -> Callable[[ExecutionRequest], Any]:
        """What the registry gets."""
        return self._run_async if self.is_async else self._run

    def _arguments(self, request: ExecutionRequest) -> dict[str, Any] | ExecutionOutcome:
        try:
            return self.signature.read(request.params)
        except TypeError as fault:  # the next attempt would find the same
            return ExecutionOutcome(status="error", error=ExecutionError(message=str(fault), type="handler_not_found"))

    def _run(self, request: ExecutionRequest) -> Any:
        arguments = self._arguments(request)
        if isinstance(arguments, ExecutionOutcome):
            return arguments
        injector = Injector(request, self._app.replaced)
        with contextlib.ExitStack() as stack:
            return cast(Any, self.function)(**arguments, **injector.plain(self._needs, stack))

    async def _run_async(self, request: ExecutionRequest) -> Any:
        arguments = self._arguments(request)
        if isinstance(arguments, ExecutionOutcome):
            return arguments
        injector = Injector(request, self._app.replaced)
        async with contextlib.AsyncExitStack() as stack:
            return await cast(Any, self.function)(**arguments, **await injector.awaited(self._needs, stack))


class Handle(Generic[T]):
    """A job that was enqueued, and the type of its result."""

    def __init__(self, app: App, job_id: str, signature: Signature) -> None:
        self.id = job_id
        self._app = app
        self._signature = signature

    def __repr__(self) -> str:
        return f"<Handle {self.id}>"

    async def status(self) -> JobStatus | None:
        """Where it is; None when there is no such job any more."""
        job = await self._app.client.get_job(self.id)
        return job.status if job is not None else None

    async def result(self, timeout_seconds: float = 30.0) -> T:
        """Wait for its end. Raises TimeoutError, and TaskFailed when it failed or was cancelled."""
        ended = await self._app.client.wait_for_completion(self.id, timeout_seconds=timeout_seconds)
        return self._read(ended, timeout_seconds)

    def result_sync(self, timeout_seconds: float = 30.0) -> T:
        """The same for code without an event loop."""
        ended = self._app.sync_client.wait_for_completion(self.id, timeout_seconds=timeout_seconds)
        return self._read(ended, timeout_seconds)

    async def cancel(self) -> str:
        """``cancelled``, ``asked`` (it runs), ``too-late`` or ``unknown``."""
        return str(await self._app.client.cancel(self.id))

    def _read(self, ended: Any, timeout_seconds: float) -> T:
        if ended is None:
            raise TimeoutError(f"job {self.id} has not ended within {timeout_seconds:g} s")
        if ended.status is not JobStatus.COMPLETED:
            raise TaskFailed(ended.last_error or str(ended.status))
        return cast(T, self._signature.read_answer(ended.result))
