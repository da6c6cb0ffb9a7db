"""Handlers for rrq.example.toml. A handler takes the request and answers with anything that JSON can hold."""

from __future__ import annotations

import asyncio
from typing import Any

from rrqd.exc import RetryJob
from rrqd.registry import Registry
from rrqd.runner import ExecutionRequest

registry = Registry()


@registry.handler
async def hello(request: ExecutionRequest) -> str:
    """Greets `name`."""
    return f"Hello, {request.params.get('name', 'world')}!"


@registry.handler
def add(request: ExecutionRequest) -> Any:
    """The sum of `a` and `b`. Not async: it runs in a thread, so it may take its time."""
    return request.params["a"] + request.params["b"]


@registry.handler
async def slow(request: ExecutionRequest) -> float:
    """Takes `seconds` (default 5), and others run meanwhile."""
    seconds = float(request.params.get("seconds", 5))
    await asyncio.sleep(seconds)
    return seconds


@registry.handler
async def flaky(request: ExecutionRequest) -> str:
    """Asks for another run the first time, as one does when some service says: later."""
    if request.context.attempt < 2:
        raise RetryJob("not yet", defer_seconds=1)
    return f"done in run {request.context.attempt}"
