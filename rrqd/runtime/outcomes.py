"""What a handler did, as an Outcome: answers encoded, exceptions kept with type and traceback, all within limits."""

from __future__ import annotations

import traceback
from typing import Any

import msgspec

from rrqd.exc import RetryJob, SnoozeJob
from rrqd.model.request import refuse_odd_numbers
from rrqd.model.verdict import AskedRetry, Failed, Outcome, Snoozed, Succeeded, TimedOut
from rrqd.runner import ExecutionOutcome

_PLAIN = (str, int, bool, type(None))
NULL = Succeeded(b"null")


def _hook(value: Any) -> Any:
    """Pydantic models and the like; anything else is refused with its type's name."""
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json")
    raise TypeError(f"{type(value).__module__}.{type(value).__qualname__} is not JSON")


_encode = msgspec.json.Encoder(enc_hook=_hook).encode


def from_value(value: Any, max_result_bytes: int) -> Outcome:
    """The outcome of a handler that returned."""
    if value is None:
        return NULL
    if isinstance(value, ExecutionOutcome):
        return _from_outcome(value, max_result_bytes)
    try:
        if type(value) not in _PLAIN:
            refuse_odd_numbers(value)
        encoded = _encode(value)
    except Exception as fault:  # whatever an object's own methods raise: this job fails, no other
        return Failed(message=f"The result cannot be stored as JSON: {text_of(fault)}", type="ResultNotSerializable")
    if len(encoded) > max_result_bytes:
        return Failed(
            message=f"The result is {len(encoded)} bytes of JSON; max_result_bytes is {max_result_bytes}.",
            type="ResultTooLarge",
        )
    return Succeeded(encoded)


def _from_outcome(value: ExecutionOutcome, max_result_bytes: int) -> Outcome:
    if value.status == "success":
        return from_value(value.result, max_result_bytes)
    error = value.error
    message = error.message if error is not None and error.message else "Job failed"
    if value.status == "retry":
        return AskedRetry(message if error is not None else "Job requested retry", value.retry_after_seconds)
    if value.status == "timeout":
        return TimedOut(message)
    kind = error.type if error is not None else None
    details: bytes | None = None
    if error is not None and error.details is not None:
        encoded = from_value(error.details, max_result_bytes)
        details = encoded.result if isinstance(encoded, Succeeded) else None
    return Failed(message=message, type=kind, fatal=kind == "handler_not_found", details=details)


def from_exception(fault: BaseException, max_error_bytes: int) -> Outcome:
    """The outcome of a handler that raised. A TimeoutError of its own making is a failure like any other."""
    if isinstance(fault, RetryJob):
        return AskedRetry(text_of(fault), fault.defer_seconds)
    if isinstance(fault, SnoozeJob):
        return Snoozed(text_of(fault), fault.seconds)
    return Failed(
        message=capped(text_of(fault), max_error_bytes),
        type=type(fault).__qualname__,
        traceback=capped(trace_of(fault), max_error_bytes),
    )


def text_of(fault: BaseException) -> str:
    """``str(fault)``, or the class's name when there is none, also when ``__str__`` itself fails."""
    try:
        return str(fault) or type(fault).__qualname__
    except Exception:
        return f"{type(fault).__qualname__} (its text cannot be read)"


def trace_of(fault: BaseException) -> str:
    """The traceback without our own frames at its top, and without local variables."""
    try:
        frames = fault.__traceback__
        while frames is not None and "/rrqd/runtime/" in frames.tb_frame.f_code.co_filename.replace("\\", "/"):
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
