"""Injection: what a task needs and its caller does not give.

    async def get_db(): ...
        yield connection                       # closed after the task

    @app.task()
    async def report(day: str, db: DB = Depends(get_db)): ...

A provider may be a function, a coroutine function, a generator or an async generator with one ``yield``; it may take
other providers, or a parameter called ``request``. Each is asked once a job. Plain tasks take plain providers.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

from rrqd.runner import ExecutionRequest

T = TypeVar("T")
Provider = Callable[..., Any]


class Dependency:
    """The default of an injected parameter."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider


def Depends(provider: Callable[..., Any]) -> Any:
    """The default value of a parameter that the worker fills in."""
    return Dependency(provider)


def needs_of(function: Any) -> dict[str, Provider]:
    """Injected parameters of a function or provider, by name."""
    return {
        name: parameter.default.provider
        for name, parameter in inspect.signature(function).parameters.items()
        if isinstance(parameter.default, Dependency)
    }


def is_plain(provider: Provider) -> bool:
    """Whether it can be used without an event loop, and so can all it needs."""
    awaited = inspect.iscoroutinefunction(provider) or inspect.isasyncgenfunction(provider)
    return not awaited and all(is_plain(one) for one in needs_of(provider).values())


class Injector:
    """The providers of one run. Leaving ``stack`` closes what was opened, the last first."""

    def __init__(self, request: ExecutionRequest, replaced: dict[Provider, Provider]) -> None:
        self._request = request
        self._replaced = replaced
        self._made: dict[Provider, Any] = {}

    def _arguments(self, provider: Provider) -> dict[str, Any]:
        takes_request = "request" in inspect.signature(provider).parameters
        return {"request": self._request} if takes_request else {}

    def plain(self, needs: dict[str, Provider], stack: contextlib.ExitStack) -> dict[str, Any]:
        """Values for these parameters, of plain providers only."""
        return {name: self._one(provider, stack) for name, provider in needs.items()}

    def _one(self, wanted: Provider, stack: contextlib.ExitStack) -> Any:
        if wanted not in self._made:
            provider = self._replaced.get(wanted, wanted)
            arguments = self._arguments(provider) | self.plain(needs_of(provider), stack)
            if inspect.isgeneratorfunction(provider):
                self._made[wanted] = stack.enter_context(contextlib.contextmanager(provider)(**arguments))
            else:
                self._made[wanted] = provider(**arguments)
        return self._made[wanted]

    async def awaited(self, needs: dict[str, Provider], stack: contextlib.AsyncExitStack) -> dict[str, Any]:
        """Values for these parameters, of providers of any kind."""
        return {name: await self._one_awaited(provider, stack) for name, provider in needs.items()}

    async def _one_awaited(self, wanted: Provider, stack: contextlib.AsyncExitStack) -> Any:
        if wanted not in self._made:
            provider = self._replaced.get(wanted, wanted)
            arguments = self._arguments(provider) | await self.awaited(needs_of(provider), stack)
            made: Any
            if inspect.isasyncgenfunction(provider):
                made = await stack.enter_async_context(contextlib.asynccontextmanager(provider)(**arguments))
            elif inspect.isgeneratorfunction(provider):
                made = stack.enter_context(contextlib.contextmanager(provider)(**arguments))
            else:
                made = provider(**arguments)
                made = await cast(Any, made) if inspect.isawaitable(made) else made
            self._made[wanted] = made
        return self._made[wanted]
