"""The other end of the runner protocol: serves the handlers of a registry, on any number of connections.

Rule 1: every request is answered, once, when its handler has really ended: a result that is no JSON, or too large, is
        an error with a reason and not silence; a plain ``def`` handler that was cancelled is answered when it returns.
Rule 2: what one request does costs no other request and no connection anything. A connection that breaks the protocol
        is closed, and what it asked for is cancelled.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import msgspec
import structlog
from msgspec import UNSET

from rrqd import clock, tracing
from rrqd.bridge import protocol
from rrqd.bridge.driver import SNOOZE
from rrqd.bridge.help import RunAid
from rrqd.bridge.line import Line, Message
from rrqd.bridge.protocol import MOST_IN_FLIGHT, Cancel, Error, FrameTooLarge, Oversize, Request, Response
from rrqd.deadlines import Deadlines
from rrqd.exc import RetryJob, SnoozeJob
from rrqd.handlers import LoadedHandlers
from rrqd.model.answer import result_json
from rrqd.registry import Handler
from rrqd.runner import ExecutionOutcome, ExecutionRequest

STOP_SECONDS = 1.0
MOST_TRACE_CHARACTERS = 8_000
NULL = msgspec.Raw(b"null")

log: Any = structlog.get_logger()


class Run:
    """One request being served. Nothing that it holds may hold it: it would live on until the garbage collector comes,
    and the collector would come often."""

    __slots__ = ("aid", "asked", "began_ns", "is_late", "request", "task", "trace")

    def __init__(self, request: Request, limit: Callable[[Request, float], None]) -> None:
        self.request = request
        self.aid = RunAid(request, limit)
        self.asked = execution_request(request, self.aid)
        self.trace: tracing.ServeTrace | None = None
        self.began_ns = clock.monotonic_ns()
        self.task: asyncio.Task[None] | None = None
        self.is_late = False


class Server:
    """Serves requests of any number of connections; a cancel reaches them from every one."""

    def __init__(self, handlers: LoadedHandlers) -> None:
        self._registry = handlers.registry
        self._handlers = handlers
        self._loop = asyncio.get_running_loop()
        self._runs: dict[str, Run] = {}
        self._deadlines = Deadlines[Run](self._loop.call_later, self._late)
        # Plain handlers block their thread; as many as one connection may ask for.
        self._threads = ThreadPoolExecutor(MOST_IN_FLIGHT, thread_name_prefix="rrqd-handler")
        self.ended = asyncio.Event()

    # Connections.

    def connection(self) -> Line:
        """The protocol for one more connection."""
        mine: set[str] = set()

        def heard(message: Message | Oversize) -> None:
            if isinstance(message, Request):
                self._ask(line, mine, message)
            elif isinstance(message, Cancel):
                self._cancel(message)
            else:
                kind = "frame above the limit" if isinstance(message, Oversize) else type(message).__name__.lower()
                log.error("runner.connection_refused", why=f"a {kind} is nothing that a runner can take")
                line.abort()

        def lost(why: str) -> None:
            if mine:
                log.warning("runner.connection_lost", why=why, cancelled=len(mine))
            for request_id in list(mine):
                self._stop(self._runs[request_id])

        line = Line(heard, lost)
        return line

    def _ask(self, line: Line, mine: set[str], request: Request) -> None:
        problem = None
        if request.protocol_version != protocol.VERSION:
            problem = Error(message=f"protocol version {request.protocol_version!r} is not spoken here, only 2")
        elif len(mine) >= MOST_IN_FLIGHT:
            problem = Error(message=f"the runner is busy with {MOST_IN_FLIGHT} requests of this connection")
        elif request.request_id in self._runs:
            problem = Error(message=f"request {request.request_id} is running already", type="duplicate_request")
        if problem is not None:
            self._say(line, request, Response(status="error", error=problem))
            return
        run = Run(request, self._limit)
        self._runs[request.request_id] = run
        mine.add(request.request_id)
        if tracing.watcher is not None:
            run.trace = tracing.watcher.serving(run.asked)
            run.asked.context.trace_context = run.trace.carrier
        context = run.trace.context if run.trace is not None else None
        run.task = self._loop.create_task(self._serve(line, mine, run), name=f"job:{request.job_id}", context=context)

    def _cancel(self, cancel: Cancel) -> None:
        if cancel.request_id is not None:
            runs = [run for run in (self._runs.get(cancel.request_id),) if run is not None]
        else:
            runs = [run for run in self._runs.values() if run.request.job_id == cancel.job_id]
        for run in runs:
            self._stop(run)

    def _stop(self, run: Run) -> None:
        run.aid.stop("timeout" if run.is_late else "cancel")
        if run.task is not None:
            self._loop.call_soon(run.task.cancel)  # not before its first step: then it would never answer

    # One request.

    async def _serve(self, line: Line, mine: set[str], run: Run) -> None:
        request = run.request
        try:
            response = await self._answer(run)
        except BaseException as fault:  # SystemExit of a handler is its own end, not the runner's
            response = _from_fault(fault, run)
        finally:
            self._deadlines.drop(run)
            self._runs.pop(request.request_id, None)
            mine.discard(request.request_id)
            run.aid.clean_up()
        if run.trace is not None:
            cancelled = run.aid.is_cancelled and not run.is_late
            error = response.error or Error(message="")
            seconds = (clock.monotonic_ns() - run.began_ns) / 1e9
            word = "cancelled" if cancelled else response.status
            run.trace.answered(word, error.type, error.message, seconds)
        self._say(line, request, response)

    async def _answer(self, run: Run) -> Response:
        request = run.request
        entry = self._registry.get(request.function_name)
        if entry is None:
            message = f"No handler registered for function '{request.function_name}'"
            return Response(status="error", error=Error(message=message, type="handler_not_found"))
        deadline = request.context.deadline
        if deadline is not None:
            left = deadline.timestamp() - clock.wall_ms() / 1000
            if left <= 0:
                run.is_late = True
                raise asyncio.CancelledError
            self._deadlines.set(run, run.began_ns + int(left * 1e9))
        entry = entry.within()
        call = entry.handler(run.asked) if entry.is_async else self._in_thread(entry.handler, run)
        return _response(await call, request)

    def _limit(self, request: Request, seconds: float) -> None:
        """From any thread."""
        self._loop.call_soon_threadsafe(self._shorten, request, seconds)

    def _shorten(self, request: Request, seconds: float) -> None:
        run = self._runs.get(request.request_id)
        if run is not None and run.request is request:
            self._deadlines.shorten(run, seconds)

    async def _in_thread(self, handler: Handler, run: Run) -> Any:
        done = self._loop.run_in_executor(self._threads, copy_context().run, handler, run.asked)
        while not done.done():
            try:
                await asyncio.shield(done)
            except asyncio.CancelledError:
                if done.done():
                    raise
                run.aid.stop("cancel")  # it may look; what runs in a thread can't be stopped
        if run.is_late or run.aid.is_cancelled:
            done.exception()
            raise asyncio.CancelledError
        value = done.result()
        return await value if asyncio.iscoroutine(value) else value

    def _late(self, run: Run) -> None:
        run.is_late = True
        self._stop(run)

    def _say(self, line: Line, request: Request, response: Response) -> None:
        response.job_id, response.request_id = request.job_id, request.request_id
        try:
            frame = protocol.frame(response)
        except FrameTooLarge as fault:
            error = Error(message=str(fault), type="ResultTooLarge")
            frame = protocol.frame(
                Response(status="error", error=error, job_id=request.job_id, request_id=request.request_id)
            )
        line.send(frame)

    # The end.

    async def close(self) -> None:
        """Cancel what runs, and give it a moment to end and be answered."""
        tasks = [run.task for run in self._runs.values() if run.task is not None]
        for run in list(self._runs.values()):
            self._stop(run)
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_SECONDS)
        self._threads.shutdown(wait=False, cancel_futures=True)


def execution_request(request: Request, aid: RunAid) -> ExecutionRequest:
    """What the handler sees."""
    return ExecutionRequest(
        request_id=request.request_id,
        job_id=request.job_id,
        function_name=request.function_name,
        params=request.params,
        protocol_version=request.protocol_version,
        aid=aid,
        context=request.context,
        args=[] if request.args is UNSET else request.args,
        parents={} if request.parents is UNSET else request.parents,
    )


def _response(value: Any, request: Request) -> Response:
    """What a handler returned, as an answer."""
    if isinstance(value, ExecutionOutcome):
        if value.next is not None and request.context.token is None:
            message = "complete_into: whoever asked is not rrqd, and can't let a job go on in another queue"
            return Response(status="error", error=Error(message=message, type="InvalidNextStep"))
        error: Any = value.error
        if error is not None:
            error = Error(
                message=str(getattr(error, "message", error)),
                type=getattr(error, "type", None),
                code=getattr(error, "code", None),
                details=getattr(error, "details", None),
            )
        return Response(
            status=value.status,
            result=_raw(value.result),
            error=error,
            retry_after_seconds=value.retry_after_seconds,
            next=UNSET if value.next is None else _raw(value.next),
        )
    return Response(status="success", result=_raw(value))


def _raw(value: Any) -> msgspec.Raw:
    return NULL if value is None else msgspec.Raw(result_json(value))


def _from_fault(fault: BaseException, run: Run) -> Response:
    """What a handler raised, as an answer. A TimeoutError of its own is a failure like any other."""
    message = str(fault) or type(fault).__qualname__
    if run.is_late:
        return Response(status="timeout", error=Error(message="The job's deadline is over.", type="timeout"))
    if isinstance(fault, asyncio.CancelledError) and run.aid.is_cancelled:
        return Response(status="error", error=Error(message="Job cancelled", type="cancelled"))
    if isinstance(fault, RetryJob):
        error = Error(message=message, type="RetryJob")
        return Response(status="retry", error=error, retry_after_seconds=fault.defer_seconds)
    if isinstance(fault, SnoozeJob):
        return Response(
            status="retry", error=Error(message=message, type=SNOOZE), retry_after_seconds=float(fault.seconds)
        )
    trace = "".join(traceback.format_exception(fault))[-MOST_TRACE_CHARACTERS:]
    log.warning("runner.handler_failed", job_id=run.request.job_id, function=run.request.function_name, error=message)
    return Response(
        status="error", error=Error(message=message, type=type(fault).__qualname__, details={"traceback": trace})
    )
