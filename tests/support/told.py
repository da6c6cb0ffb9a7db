"""One handler that does what it is told: ``{"do": "sleep", "seconds": 2}``. Async and plain.

With ``ledger`` (a path) each start appends a line, so that a test can count side effects.
``{"do": "wait", "gate": path}`` runs until that file is there: as long as the test needs it, on any machine.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import Any

from rrqd.exc import RetryJob, SnoozeJob
from rrqd.registry import Registry
from rrqd.runner import ExecutionError, ExecutionOutcome, ExecutionRequest

GATE_LOOK_SECONDS = 0.02

registry = Registry()
KEPT: list[bytes] = []
"""What ``keep`` has kept: memory that this process will never give back."""


def note(request: ExecutionRequest) -> None:
    path = request.params.get("ledger")
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{request.job_id} {request.context.attempt} {os.getpid()}\n")


def simple(request: ExecutionRequest) -> Any:
    """Everything that needs no waiting."""
    params = request.params
    match params.get("do", "ok"):
        case "ok":
            return params.get("answer")
        case "fail":
            raise ValueError(params.get("message", "told to fail"))
        case "fail until":
            if request.context.attempt < params["attempt"]:
                raise ValueError(f"attempt {request.context.attempt}")
            return request.context.attempt
        case "retry until":
            if request.context.attempt < params["attempt"]:
                raise RetryJob("again", params.get("seconds"))
            return request.context.attempt
        case "snooze once":
            if not os.path.exists(params["marker"]):
                open(params["marker"], "w").close()
                raise SnoozeJob(params["seconds"])
            return request.context.attempt
        case "outcome":
            error = ExecutionError(message=params["message"], type=params.get("type"))
            return ExecutionOutcome(status=params["status"], error=error)
        case "timeout error":
            raise TimeoutError("a socket of mine")
        case "exit":
            os._exit(params.get("code", 3))
        case "sys.exit":
            raise SystemExit(3)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "nan":
            return {"value": float("nan")}
        case "object":
            return object()
        case "big":
            return "x" * params["bytes"]
        case "block":
            threading.Event().wait(params["seconds"])
            return "blocked"
        case "block until":
            while not os.path.exists(params["gate"]):
                threading.Event().wait(GATE_LOOK_SECONDS)
            return "blocked"
        case "sandbox":
            (request.sandbox / "file").write_text("mine")
            return str(request.sandbox)
        case "context":
            context = request.context
            return {
                "attempt": context.attempt,
                "queue": context.queue_name,
                "trace": context.trace_context,
                "correlation": context.correlation_context,
                "worker": context.worker_id,
                "deadline": context.deadline is not None,
            }
    raise LookupError(params["do"])


async def _opened(gate: str) -> None:
    while not os.path.exists(gate):  # noqa: ASYNC110, ASYNC240
        await asyncio.sleep(GATE_LOOK_SECONDS)


@registry.handler("told")
async def told(request: ExecutionRequest) -> Any:
    note(request)
    params = request.params
    match params.get("do"):
        case "wait":
            await _opened(params["gate"])
            return "let go"
        case "sleep":
            await asyncio.sleep(params["seconds"])
            return "slept"
        case "keep":
            KEPT.append(b"x" * params["bytes"])
            await _opened(params["gate"])
            return "kept"
        case "progress":
            request.progress(0.5, "half way", {"rows": 7})
            await asyncio.sleep(params["seconds"])
            return "done"
        case "ignore cancel":
            while True:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    continue
    return simple(request)


@registry.handler("told_plain")
def told_plain(request: ExecutionRequest) -> Any:
    note(request)
    if request.params.get("do") == "until cancelled":
        while not request.cancelled:
            threading.Event().wait(0.01)
        return "saw it"
    return simple(request)
