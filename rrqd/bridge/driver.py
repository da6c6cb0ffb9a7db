"""Our end of a runner: requests out, answers in, cancels, and whether the runner still listens.

Rule 1: a call ends when the runner has let go of it, never before: a cancelled or overdue one is cancelled over there,
        and its answer is waited for. So no job runs here and elsewhere at the same time.
Rule 2: whoever asks too much of us is answered alone: an oversize answer fails its own job only. An answer to nobody
        is passed over.
Rule 3: a runner that is lost is nobody's failed attempt. The calls stay open, ``on_lost`` is told, and the worker ends;
        who pays is decided as after any crash of a worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET

from rrqd.bridge import protocol
from rrqd.bridge.line import Line, Message
from rrqd.bridge.protocol import Cancel, FrameTooLarge, Oversize, Request, Response
from rrqd.exc import RRQError, SnoozeJob
from rrqd.runner import ExecutionContext, ExecutionError, ExecutionOutcome, ExecutionRequest, NextStep

FIRST_PING_SECONDS = 1.0
LONGEST_PING_SECONDS = 30.0
PING_ANSWER_SECONDS = 1.0
PING_ID = "rrqd-ping"
SNOOZE = "SnoozeJob"
"""Type of an answer ``retry`` that is to cost no attempt; only runners of ours give it."""
_read_step = msgspec.json.Decoder(NextStep).decode


class RunnerLost(RRQError):
    """There is no runner to call."""


class Call:
    """A request that has no answer yet."""

    __slots__ = ("answer", "is_answered", "is_late", "job_id", "request_id")

    def __init__(self, request_id: str, job_id: str, answer: asyncio.Future[Response]) -> None:
        self.request_id = request_id
        self.job_id = job_id
        self.answer = answer
        self.is_answered = False
        self.is_late = False


class Driver:
    """One runner, spoken to over one line.

    ``on_lost(why)``: once, when the runner can't be used any more. ``on_silent(flag)``: it does not answer at the
    moment, and should be given no more work; or it does again.
    """

    def __init__(
        self,
        *,
        grace_seconds: float,
        response_timeout_seconds: float | None,
        on_lost: Callable[[str], None],
        on_silent: Callable[[bool], None],
        log: Any,
    ) -> None:
        self._grace_seconds = grace_seconds
        self._response_timeout_seconds = response_timeout_seconds
        self._on_lost = on_lost
        self._on_silent = on_silent
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._calls: dict[str, Call] = {}
        self._is_over = False
        self._heard_at = self._loop.time()
        self._pinged_at: float | None = None
        self._ping_pause = FIRST_PING_SECONDS
        self._watching: asyncio.TimerHandle | None = None
        self._greeting: asyncio.Future[None] | None = None
        self.is_silent = False
        self.line = Line(self._heard, self.lose)

    # Calling.

    async def greet(self, gone: asyncio.Future[str], seconds: float) -> bool:
        """Ask whether somebody is there, and wait until it says anything. False: not in time, or ``gone`` came first.
        For a runner that had its socket before it could listen."""
        self._greeting = self._loop.create_future()
        self.line.send(PING)
        waiting: set[asyncio.Future[Any]] = {self._greeting, gone}
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return self._greeting.done()

    async def call(self, request: ExecutionRequest) -> ExecutionOutcome:
        """Let the runner run this job. Raises CancelledError like any handler, once the runner has let go."""
        if self._is_over:
            raise RunnerLost("its runner is gone")
        try:
            frame = protocol.frame(wire(request))
        except FrameTooLarge as fault:
            return _failed("RequestTooLarge", str(fault))
        call = Call(request.request_id, request.job_id, self._loop.create_future())
        self._calls[call.request_id] = call
        self.line.send(frame)
        self._watch()
        limit = self._response_timeout_seconds
        timer = self._loop.call_later(limit, self._answers_too_late, call) if limit is not None else None
        try:
            return _outcome(await call.answer, call)
        except asyncio.CancelledError:
            if not call.is_answered:
                await self._let_go(call)
            raise
        finally:
            self._calls.pop(call.request_id, None)
            if timer is not None:
                timer.cancel()

    async def _let_go(self, call: Call) -> None:
        """Cancel the request over there, and wait until it has ended."""
        self._cancel(call)
        while not call.is_answered and not self._is_over:
            call.answer = self._loop.create_future()
            try:
                await call.answer
            except asyncio.CancelledError:
                continue  # asked a second time, by a worker that leaves: it is not over for that

    def _cancel(self, call: Call) -> None:
        self.line.send(protocol.frame(Cancel(job_id=call.job_id, request_id=call.request_id)))
        self._loop.call_later(self._grace_seconds / 4, self._ask_after, call)
        self._loop.call_later(self._grace_seconds * 3 / 4, self._is_wedged, call)

    def _answers_too_late(self, call: Call) -> None:
        """``response_timeout_seconds`` is over: the request is cancelled, and what it answers then is no success."""
        if call.is_answered:
            return
        call.is_late = True
        self._log.warning("runner.no_answer", job_id=call.job_id, seconds=self._response_timeout_seconds)
        self._cancel(call)
        # It has had its time and its grace; whoever else is aboard is put back uncharged.
        self._loop.call_later(self._grace_seconds, self._lose_for, call)

    def _lose_for(self, call: Call) -> None:
        if not call.is_answered:
            self.lose(f"job {call.job_id} was not answered within response_timeout_seconds, nor when it was cancelled")

    # Hearing.

    def _heard(self, message: Message | Oversize) -> None:
        self._heard_at = self._loop.time()
        self._pinged_at = None
        if self._greeting is not None and not self._greeting.done():
            self._greeting.set_result(None)
        if self.is_silent:
            self.is_silent = False
            self._log.warning("runner.speaks_again")
            self._on_silent(False)
        if isinstance(message, Response):
            self._ping_pause = FIRST_PING_SECONDS
            self._take(message)
        elif isinstance(message, Oversize):
            self._oversize(message)
        else:
            self.lose(f"it sent a {type(message).__name__.lower()}, which only a worker may")

    def _take(self, response: Response) -> None:
        request_id = response.request_id
        if request_id is None:
            if len(self._calls) > 1:
                self.lose("it sent an answer without request_id, with several requests open")
                return
            request_id = next(iter(self._calls), "")
        call = self._calls.get(request_id)
        if call is None or call.is_answered:
            return  # to a ping; or late: whoever asked has been told otherwise
        self._answer(call, response)

    def _oversize(self, frame: Oversize) -> None:
        request_id = next(iter(self._calls)) if len(self._calls) == 1 else frame.named(self._calls)
        call = self._calls.get(request_id or "")
        self._log.warning("runner.oversize_answer", size_bytes=frame.size, job_id=call.job_id if call else None)
        if call is None:
            self.lose(f"it sent an answer of {frame.size} bytes that names none of the open requests")
            return
        message = f"The answer is {frame.size} bytes; the runner protocol allows {protocol.LARGEST_FRAME_BYTES}."
        error = protocol.Error(message=message, type="ResultTooLarge")
        self._answer(call, Response(status="error", error=error, job_id=call.job_id))

    def _answer(self, call: Call, response: Response) -> None:
        call.is_answered = True
        if not call.answer.done():
            call.answer.set_result(response)

    # Silence. A request of a version that is none is refused by every runner at once and runs nothing: it asks whether
    # somebody is there.

    def _watch(self) -> None:
        if self._watching is None:
            self._heard_at = self._loop.time()  # before, there was nothing to be heard
            self._watching = self._loop.call_later(FIRST_PING_SECONDS, self._look)

    def _look(self) -> None:
        self._watching = None
        if not self._calls or self._is_over:
            return
        now = self._loop.time()
        if self._pinged_at is None:
            if now - self._heard_at >= self._ping_pause:
                self._ping()
        elif now - self._pinged_at >= PING_ANSWER_SECONDS and not self.is_silent:
            self.is_silent = True
            self._log.warning(
                "runner.silent", running=len(self._calls), what_now="it gets no more jobs until it answers"
            )
            self._on_silent(True)
        self._watching = self._loop.call_later(FIRST_PING_SECONDS, self._look)

    def _ping(self) -> None:
        self._pinged_at = self._loop.time()
        self._ping_pause = min(self._ping_pause * 2, LONGEST_PING_SECONDS)
        self.line.send(PING)

    def _ask_after(self, call: Call) -> None:
        """A cancelled request is still there. Does the runner hear at all?"""
        if not call.is_answered and not self._is_over and self._pinged_at is None:
            self._ping()

    def _is_wedged(self, call: Call) -> None:
        """It does not. With several aboard it is not known whose work holds it, and none of them can be blamed; one
        that is alone is left to the worker, which knows what its job's timeout means."""
        if call.is_answered or self._is_over or self._pinged_at is None or len(self._calls) < 2:
            return
        if self._loop.time() - self._pinged_at < self._grace_seconds / 4:
            return
        self.lose(f"it does not answer; job {call.job_id} should have ended")

    # The end.

    def lose(self, why: str) -> None:
        """The runner can't be used any more. Calls stay open until ``abandon``."""
        if not self._is_over:
            self._is_over = True
            self._on_lost(why)

    def abandon(self) -> None:
        """Nobody waits for answers any more."""
        self._is_over = True
        if self._watching is not None:
            self._watching.cancel()
        for call in self._calls.values():
            if not call.answer.done():
                call.answer.cancel()
        self.line.close()

    @property
    def running(self) -> int:
        """Requests without an answer."""
        return len(self._calls)


def wire(request: ExecutionRequest) -> Request:
    """The request as runners read it."""
    return Request(
        request_id=request.request_id,
        job_id=request.job_id,
        function_name=request.function_name,
        params=request.params,
        context=request.context,
        args=request.args or UNSET,
        parents=request.parents or UNSET,
    )


def _outcome(response: Response, call: Call) -> ExecutionOutcome:
    if call.is_late:
        return _failed("RunnerTimeout", "The runner did not answer within response_timeout_seconds.")
    if response.job_id is not None and response.job_id != call.job_id:
        return _failed("RunnerError", f"The runner answered for job {response.job_id[:100]!r} instead.")
    if response.status == "success":
        step = response.next
        if step is UNSET or bytes(step) == b"null":
            return ExecutionOutcome(status="success", result=response.result)
        try:
            return ExecutionOutcome(status="success", result=response.result, next=_read_step(step))
        except msgspec.DecodeError as fault:
            return _failed("InvalidNextStep", f"next: {fault}")
    error = response.error
    if response.status == "retry" and error is not None and error.type == SNOOZE:
        raise SnoozeJob(response.retry_after_seconds or 0.0, error.message)
    return ExecutionOutcome(
        status=response.status,
        error=ExecutionError(message=error.message, type=error.type, code=error.code, details=error.details)
        if error is not None
        else None,
        retry_after_seconds=response.retry_after_seconds,
    )


def _failed(kind: str, message: str) -> ExecutionOutcome:
    return ExecutionOutcome(status="error", error=ExecutionError(message=message, type=kind))


PING = protocol.frame(
    Request(
        protocol_version="0",
        request_id=PING_ID,
        job_id=PING_ID,
        function_name=PING_ID,
        context=ExecutionContext(
            job_id=PING_ID, attempt=1, enqueue_time=datetime(1970, 1, 1, tzinfo=UTC), queue_name="rrq:queue:" + PING_ID
        ),
    )
)
