"""What a handler did, as an Outcome: answers encoded, exceptions kept with type and traceback, all within limits."""

from __future__ import annotations

import math
import traceback
from typing import Any

from rrqd.exc import FailJob, InvalidRequest, RetryJob, SnoozeJob
from rrqd.model.answer import result_json
from rrqd.model.names import read_group
from rrqd.model.steps import read_step
from rrqd.model.verdict import AskedRetry, Failed, Outcome, Snoozed, Succeeded, TimedOut
from rrqd.runner import ExecutionOutcome

#: Frames at the top of a traceback that say nothing about the handler.
_OUR_ROOMS = (
    "/rrqd/runtime/",
    "/rrqd/classic/",
    "/rrqd/rq/",
    "/rrqd/reqless/",
    "/rrqd/app/",
    "/rrqd/integrations/",
    "/rrqd/testing/",
    "/rrqd/middleware.py",
)
NULL = Succeeded(b"null")
#: Where failures go whose group has no name that can be used.
ODD_GROUP = "unnamed"


def from_value(value: Any, max_result_bytes: int, max_error_bytes: int) -> Outcome:
    """The outcome of a handler that returned."""
    if value is None:
        return NULL
    try:
        if isinstance(value, ExecutionOutcome):
            return _from_outcome(value, max_result_bytes, max_error_bytes)
        encoded = result_json(value)
    except Exception as fault:  # whatever an object's own methods raise: this job fails, no other
        message = capped(f"The result cannot be stored as JSON: {text_of(fault)}", max_error_bytes)
        return Failed(message=message, type="ResultNotSerializable")
    if len(encoded) > max_result_bytes:
        return Failed(
            message=f"The result is {len(encoded)} bytes of JSON; max_result_bytes is {max_result_bytes}.",
            type="ResultTooLarge",
        )
    return Succeeded(encoded)


def _from_outcome(value: ExecutionOutcome, max_result_bytes: int, max_error_bytes: int) -> Outcome:
    """What a handler says of itself. Nothing checked the types of what it filled in."""
    if value.status == "success":
        outcome = from_value(value.result, max_result_bytes, max_error_bytes)
        return outcome if value.next is None else _going_on(outcome, value.next, max_result_bytes, max_error_bytes)
    error: Any = value.error
    said = getattr(error, "message", error)
    usual = "Job requested retry" if value.status == "retry" and error is None else "Job failed"
    message = capped(text_of(said), max_error_bytes) if said is not None and said != "" else usual
    if value.status == "retry":
        return _asked_retry(message, value.retry_after_seconds, max_error_bytes)
    if value.status == "timeout":
        return TimedOut(message)
    kind = getattr(error, "type", None)
    details: bytes | None = None
    if getattr(error, "details", None) is not None:
        encoded = from_value(error.details, max_result_bytes, max_error_bytes)
        details = encoded.result if isinstance(encoded, Succeeded) else None
    return Failed(
        message=message,
        type=capped(text_of(kind), max_error_bytes) if kind is not None else None,
        fatal=kind == "handler_not_found",
        details=details,
        group=_group(value.group) if value.group is not None else "",
    )


def _group(asked: Any) -> str:
    """A failure with an odd name for its group is still one."""
    try:
        return read_group(asked)
    except InvalidRequest:
        return ODD_GROUP


def _going_on(outcome: Outcome, step: Any, max_result_bytes: int, max_error_bytes: int) -> Outcome:
    """A job that does not end here. What it asks for in a wrong way is a failure of this step."""
    if not isinstance(outcome, Succeeded):
        return outcome
    try:
        return Succeeded(outcome.result, read_step(step, max_result_bytes))
    except Exception as fault:  # nothing checked what a handler filled in
        return Failed(message=capped(f"complete_into: {text_of(fault)}", max_error_bytes), type="InvalidNextStep")


def from_exception(fault: BaseException, max_error_bytes: int) -> Outcome:
    """The outcome of a handler that raised. A TimeoutError of its own making is a failure like any other."""
    message = capped(text_of(fault), max_error_bytes)
    if isinstance(fault, RetryJob):
        return _asked_retry(message, fault.defer_seconds, max_error_bytes)
    if isinstance(fault, SnoozeJob):
        seconds = _seconds(fault.seconds)
        return Snoozed(message, seconds) if seconds is not None else _no_delay(message, fault.seconds, max_error_bytes)
    return Failed(
        message=message,
        type=type(fault).__qualname__,
        group=_group(fault.group) if isinstance(fault, FailJob) else "",
        traceback=capped(trace_of(fault), max_error_bytes),
        fatal=getattr(fault, "is_final", False) is True,
        delay_seconds=_seconds(getattr(fault, "retry_after_seconds", None)),
    )


def _asked_retry(message: str, asked: Any, max_error_bytes: int) -> Outcome:
    seconds = _seconds(asked)
    if asked is not None and seconds is None:
        return _no_delay(message, asked, max_error_bytes)
    return AskedRetry(message, seconds)


def _seconds(asked: Any) -> float | None:
    """A delay as a finite number; ``None`` for anything that is not one."""
    try:
        seconds = float(asked)
    except (TypeError, ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) else None


def _no_delay(message: str, asked: Any, max_error_bytes: int) -> Failed:
    why = f"{message} (asked to wait {text_of(asked)}, which is no number of seconds)"
    return Failed(message=capped(why, max_error_bytes), type="InvalidDelay")


def text_of(thing: Any) -> str:
    """``str(thing)``, or its class's name when there is none, also when ``__str__`` itself fails."""
    try:
        return str(thing) or type(thing).__qualname__
    except Exception:
        return f"{type(thing).__qualname__} (its text cannot be read)"


def trace_of(fault: BaseException) -> str:
    """The traceback without our own frames at its top, and without local variables."""
    try:
        frames = fault.__traceback__
        while frames is not None and any(room in frames.tb_frame.f_code.co_filename for room in _OUR_ROOMS):
            frames = frames.tb_next
        return "".join(traceback.format_exception(type(fault), fault, frames))
    except Exception:
        return ""


def capped(text: str, limit: int) -> str:
    """At most ``limit`` bytes, keeping the head and, where the cause stands, the tail; lone surrogates replaced."""
    raw = text.encode(errors="replace")
    if len(raw) <= limit:
        return raw.decode()
    part = max(0, (limit - 30) // 2)
    head, tail = raw[:part].decode(errors="ignore"), raw[-part:].decode(errors="ignore") if part else ""
    return f"{head}\n… {len(raw) - 2 * part} bytes left out …\n{tail}"
