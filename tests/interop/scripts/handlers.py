"""The handlers both sides run: as it stands by the real ``rrq-runner``; with ``rrq`` spelled ``rrqd``, by rrqd.

What an application imports from ``rrq`` stands at the same path in ``rrqd``: that this file needs no other change is a
part of what is tested. Each run is one line in the ledger, written before anything else happens.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from rrq.exc import RetryJob
from rrq.registry import Registry
from rrq.runner import ExecutionRequest
from rrq.runner_settings import PythonRunnerSettings

registry = Registry()
settings = PythonRunnerSettings(registry=registry)

WHO = Registry.__module__.partition(".")[0]
_ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def enter(request: ExecutionRequest) -> None:
    """One line, in one write: whole however many processes write."""
    context = request.context
    line = {
        "job_id": request.job_id,
        "attempt": context.attempt,
        "function": request.function_name,
        "queue": context.queue_name,
        "params": request.params,
        "enqueued": context.enqueue_time.isoformat(),
        "trace": context.trace_context,
        "correlation": context.correlation_context,
        "who": WHO,
    }
    os.write(_ledger, json.dumps(line).encode() + b"\n")


async def plain(request: ExecutionRequest) -> dict[str, Any]:
    """Answers its parameters."""
    enter(request)
    return request.params


async def wait(request: ExecutionRequest) -> str:
    """Takes ``seconds``."""
    enter(request)
    await asyncio.sleep(request.params["seconds"])
    return "waited"


async def fail(request: ExecutionRequest) -> None:
    """Never succeeds."""
    enter(request)
    raise ValueError(f"told to fail: {request.params['n']}")


async def retry_once(request: ExecutionRequest) -> int:
    """Asks for a second attempt, and succeeds in it."""
    enter(request)
    if request.context.attempt == 1:
        raise RetryJob("not yet", defer_seconds=0.1)
    return request.context.attempt


async def succeed_at(request: ExecutionRequest) -> int:
    """Fails until the attempt that ``attempt`` names."""
    enter(request)
    if request.context.attempt < request.params["attempt"]:
        raise RuntimeError(f"attempt {request.context.attempt}")
    await asyncio.sleep(request.params.get("seconds", 0))
    return request.context.attempt


for handler in (plain, wait, fail, retry_once, succeed_at):
    registry.register(handler.__name__, handler)
