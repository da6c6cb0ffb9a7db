"""What can befall a run between its claim and its end, done on purpose, once for each job.

Every engine that loses nothing delivers some jobs twice: a worker may die after its handler's effect and before the
note that it happened. These are the ways; a handler that stands all of them is idempotent.

Rule 1: the engine's own ways are used: the worker is closed in the store, as after a lapsed lease; its job is claimed
        anew under another token; what the first run says comes too late.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from rrqd.runner import ExecutionRequest

Handler = Callable[[ExecutionRequest], Any]
#: Takes a worker's jobs away from it, as if it were dead.
Kill = Callable[[str], None]


class Fault(StrEnum):
    """DUPLICATE: the handler is called twice for one job. KILL_BEFORE: the worker dies before the handler has done
    anything. KILL_AFTER: it dies when the handler has returned, and nobody has heard of it. LAPSE: its lease ends
    while the handler runs; the handler goes on, and another worker runs the job, too."""

    DUPLICATE = "duplicate"
    KILL_BEFORE = "kill-before"
    KILL_AFTER = "kill-after"
    LAPSE = "lapse"


FAULTS = tuple(Fault)


def befall(fault: Fault, request: ExecutionRequest, handler: Handler, kill: Kill) -> Any:
    """Run a handler with a fault. Answers what it answers; awaitable, if that is."""
    worker_id = request.context.worker_id or ""
    if fault is Fault.KILL_BEFORE:
        kill(worker_id)
        return None
    if fault is Fault.LAPSE:
        kill(worker_id)
    answer = handler(request)
    if inspect.isawaitable(answer):
        return _befall_awaited(fault, request, handler, kill, answer)
    if fault is Fault.KILL_AFTER:
        kill(worker_id)
    return handler(request) if fault is Fault.DUPLICATE else answer


async def _befall_awaited(fault: Fault, request: ExecutionRequest, handler: Handler, kill: Kill, first: Any) -> Any:
    answer = await _to_its_end(first)
    if fault is Fault.KILL_AFTER:
        kill(request.context.worker_id or "")
    if fault is Fault.DUPLICATE:
        again = handler(request)
        answer = await again if inspect.isawaitable(again) else again
    return answer


async def _to_its_end(awaitable: Any) -> Any:
    """A worker that hears of its own end cancels what it runs; here the effect is to happen all the same."""
    run = asyncio.ensure_future(awaitable)
    try:
        return await asyncio.shield(run)
    except asyncio.CancelledError:
        await asyncio.wait([run])
        raise
