"""How a run ended (an Outcome), and what follows for the job (a Verdict). Pure: outcome + policy + attempt -> verdict.

Rule 1: outcomes form a closed list; the type checker sees a missing case.
Rule 2: ``max_retries`` is RRQ's: the number of *attempts*; 0, 1 and negative numbers all mean one.
Rule 3: no clock, no random numbers of its own: the dice are an argument (0 <= dice < 1).
"""

from __future__ import annotations

import msgspec

from rrqd.model.checks import MAX_SECONDS
from rrqd.model.lifecycle import End
from rrqd.model.policy import RunPolicy
from rrqd.model.steps import Step


class Succeeded(msgspec.Struct, frozen=True):
    """The handler answered; ``result`` is JSON text, ready to store. ``step``: the job goes on there."""

    result: bytes
    step: Step | None = None


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """The handler raised, or answered with an error. ``fatal``: no further attempt can help. ``delay_seconds``: the
    wait before the next attempt, if the exception named one (``retry_after_seconds``). ``group``: the failures that it
    is one of, if the handler said so; such a failure is fatal."""

    message: str
    type: str | None = None
    traceback: str | None = None
    fatal: bool = False
    details: bytes | None = None
    delay_seconds: float | None = None
    group: str = ""


class TimedOut(msgspec.Struct, frozen=True):
    """The run was still going when its budget ended."""

    message: str


class AskedRetry(msgspec.Struct, frozen=True):
    """The handler asked for another attempt, perhaps after ``delay_seconds``."""

    message: str
    delay_seconds: float | None = None


class Snoozed(msgspec.Struct, frozen=True):
    """The handler asked to be run later without using up an attempt."""

    message: str
    delay_seconds: float


class WasCancelled(msgspec.Struct, frozen=True):
    """Somebody cancelled the job while it ran, and the run has ended."""

    message: str = "Job cancelled while running."


class Diverted(msgspec.Struct, frozen=True):
    """Not run: the job names a runner whose pool has this queue."""

    queue: str


Outcome = Succeeded | Failed | TimedOut | AskedRetry | Snoozed | WasCancelled | Diverted


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What ``settle`` is told. ``delay_ms`` from the server's now; ``ttl_seconds`` by RRQ's rule
    (> 0 expires, 0 keeps for ever, < 0 leaves the key alone); ``error`` goes to ``last_error``,
    ``detail`` (JSON) to ``rrqd_error``; ``step`` is where a job goes on that advances; a diverted one's queue is the
    ``result``, and so is a buried one's group of failures."""

    end: End
    result: bytes = b""
    error: str = ""
    detail: bytes = b""
    delay_ms: int = 0
    ttl_seconds: int = 0
    label: str = ""
    step: Step | None = None


def backoff_seconds(attempts_made: int, policy: RunPolicy, dice: float) -> float:
    """Exponential back-off, ``base * 2^(n-1)`` up to the ceiling (RRQ's), spread by ± ``retry_jitter`` so that
    jobs that failed together do not come back together. Never above the ceiling."""
    steps = min(max(attempts_made, 1) - 1, 30)
    plain = min(policy.max_retry_delay_seconds, policy.retry_delay_seconds * 2.0**steps)
    spread = plain * (1.0 + policy.retry_jitter * (2.0 * dice - 1.0))
    return max(0.0, min(policy.max_retry_delay_seconds, spread))


def judge(outcome: Outcome, policy: RunPolicy, attempt: int, dice: float) -> Verdict:
    """What follows for a job whose ``attempt``-th run (from 1) ended with ``outcome``."""
    match outcome:
        case Succeeded(result, step) if step is not None:
            return Verdict(
                end=End.ADVANCE, result=result, delay_ms=step.delay_ms, step=step, label="advanced",
                ttl_seconds=policy.cancelled_retention_seconds,
            )  # fmt: skip
        case Succeeded(result):
            return Verdict(end=End.COMPLETE, result=result, ttl_seconds=policy.result_ttl_seconds, label="success")
        case Snoozed(message, seconds):
            return Verdict(end=End.SNOOZE, error=message, delay_ms=_ms(seconds), label="snooze")
        case Diverted(queue):
            return Verdict(end=End.DIVERT, result=queue.encode(), label="diverted")
        case WasCancelled(message):
            return Verdict(
                end=End.CANCEL, error=message, ttl_seconds=policy.cancelled_retention_seconds, label="cancelled"
            )
        case TimedOut(message):
            detail = _detail("timeout", message, None, attempt)
            if policy.on_timeout == "bury":
                return _bury(message, detail, policy, "timeout")
            return _retry_or_bury(message, detail, None, policy, attempt, dice, "timeout")
        case AskedRetry(message, delay):
            detail = _detail("RetryJob", message, None, attempt)
            return _retry_or_bury(message, detail, delay, policy, attempt, dice, "retry")
        case Failed(message=message, type=kind, traceback=trace, details=details, delay_seconds=delay):
            detail = _detail(kind, message, trace, attempt, details)
            if outcome.fatal or outcome.group:
                return _bury(message, detail, policy, "fatal", outcome.group)
            return _retry_or_bury(message, detail, delay, policy, attempt, dice, "error")


def _retry_or_bury(
    message: str, detail: bytes, delay: float | None, policy: RunPolicy, attempt: int, dice: float, label: str
) -> Verdict:
    if attempt >= policy.max_retries:
        return _bury(message, detail, policy, label)
    if delay is None:
        delay = backoff_seconds(attempt, policy, dice)
    return Verdict(end=End.RETRY, error=message, detail=detail, delay_ms=_ms(delay), label=label)


def _bury(message: str, detail: bytes, policy: RunPolicy, label: str, group: str = "") -> Verdict:
    return Verdict(
        end=End.BURY, result=group.encode(), error=message, detail=detail, ttl_seconds=policy.dlq_retention_seconds,
        label=label,
    )  # fmt: skip


def _ms(seconds: float) -> int:
    return round(min(max(0.0, seconds), MAX_SECONDS) * 1000)


def _detail(kind: str | None, message: str, trace: str | None, attempt: int, details: bytes | None = None) -> bytes:
    """The JSON kept in ``rrqd_error``: what a person needs to find the fault."""
    record: dict[str, object] = {"type": kind, "message": message, "attempt": attempt}
    if trace:
        record["traceback"] = trace
    if details:
        record["details"] = msgspec.Raw(details)
    return msgspec.json.encode(record)
