"""What the runners of the tests do, in Python: as it stands for the real ``rrq-runner``; with ``rrq`` spelled ``rrqd``,
for ours. ``runner.mjs`` has the same, and worse, in JavaScript."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from rrq.exc import RetryJob
from rrq.registry import Registry
from rrq.runner import ExecutionRequest
from rrq.runner_settings import PythonRunnerSettings

registry = Registry()
settings = PythonRunnerSettings(registry=registry)


async def echo(request: ExecutionRequest) -> dict[str, Any]:
    """Everything it was asked with."""
    context = request.context
    return {
        "pid": os.getpid(),
        "request_id": request.request_id,
        "job_id": request.job_id,
        "function": request.function_name,
        "version": request.protocol_version,
        "params": request.params,
        "attempt": context.attempt,
        "queue": context.queue_name,
        "has_times": bool(context.enqueue_time and context.deadline),
        "trace": context.trace_context,
        "correlation": context.correlation_context,
        "worker": context.worker_id,
    }


async def fail(request: ExecutionRequest) -> None:
    raise ValueError(f"told to fail: {request.context.attempt}")


async def again(request: ExecutionRequest) -> int:
    if request.context.attempt == 1:
        raise RetryJob("not yet", defer_seconds=0.05)
    return request.context.attempt


async def wait(request: ExecutionRequest) -> int:
    """Waits as a good handler does."""
    await asyncio.sleep(request.params["seconds"])
    return os.getpid()


async def big(request: ExecutionRequest) -> str:
    """More than a frame may hold."""
    return "x" * 17_000_000


async def gather(request: Any) -> Any:
    """Goes on as ``echo``, with the results of its parents. Only ours can."""
    return request.complete_into(function="echo", params={one: end.result for one, end in request.parents.items()})


async def say(request: ExecutionRequest) -> None:
    print(request.params["text"], flush=True)


for handler in (echo, fail, again, wait, big, gather, say):
    registry.register(handler.__name__, handler)
