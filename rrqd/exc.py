"""Every exception of rrqd, as a tree; each says whose turn it is.

RRQError
├─ RetryJob, SnoozeJob, FailJob  a handler's wish, not an error
├─ HandlerNotFound             whoever deploys: no worker knows this function
├─ MaxRetriesExceeded          whoever reads the DLQ
├─ ConfigError                 whoever wrote the file
├─ ClientError                 whoever called the client (also a ValueError, as RRQ's callers expect)
│  ├─ InvalidRequest           the request can never be right: nothing was written
│  ├─ JobExists                another job has this id: this one was not written
│  ├─ UnknownParent            a job to wait for is not there: this one was not written
│  ├─ RateLimited              its rate limit let nothing through: this one was not written
│  └─ EnqueueFailed            the store could not be asked, or refused
├─ JobInvalid                  what lies in the store is not a job that can run
└─ StoreError                  whoever runs the server
   ├─ StoreUnavailable         no answer (unknown whether it happened); every move may be repeated
   ├─ StoreRefused             the server said no (full, read-only, no permission): nothing happened
   │  └─ NotLetIn              it did not let us in, or we don't trust it: password, user, certificate
   └─ StoreUnsupported         the server is too old, or is not a Redis or Valkey
"""

from __future__ import annotations

from collections.abc import Iterable


class RRQError(Exception):
    """Base of all errors raised by rrqd."""


class RetryJob(RRQError):
    """Raised by a handler to ask for another attempt.

    ``defer_seconds``: how long to wait; ``None`` leaves it to the back-off. It counts as an attempt (RRQ's rule).
    """

    def __init__(self, message: str = "Job requested retry", defer_seconds: float | None = None) -> None:
        super().__init__(message)
        self.defer_seconds = defer_seconds


class SnoozeJob(RRQError):
    """Raised by a handler to be run again after ``seconds`` without using up an attempt."""

    def __init__(self, seconds: float, message: str = "Job snoozed") -> None:
        super().__init__(message)
        self.seconds = seconds


class FailJob(RRQError):
    """Raised by a handler to end its job as failed, without a further attempt, under a name for failures of its kind.

    Jobs that failed in one ``group`` are counted, listed and brought back together (``client.failures``).
    """

    def __init__(self, group: str, message: str = "Job failed") -> None:
        super().__init__(message)
        self.group = group


class HandlerNotFound(RRQError):
    """No handler is registered under the job's function name."""


class MaxRetriesExceeded(RRQError):
    """A job used up all its attempts."""


class ConfigError(RRQError, ValueError):
    """The configuration can't be used. The text names file, line and key, one problem a line."""


class ClientError(RRQError, ValueError):
    """A call of the client failed. A ``ValueError`` too: that is what RRQ's client raises."""


class InvalidRequest(ClientError):
    """The request can never succeed as it stands; nothing was written."""


class JobExists(ClientError):
    """A job with the asked-for id is already there; this one was not written."""


class RateLimited(ClientError):
    """The rate limit of the request let nothing through; nothing was written for it."""


class UnknownParent(ClientError):
    """``depends_on`` names jobs that are not there: they never were, or their records have expired. The jobs that were
    to wait for them were not written. ``parents``: their ids."""

    def __init__(self, parents: Iterable[str]) -> None:
        self.parents = list(dict.fromkeys(parents))
        some = ", ".join(self.parents[:5]) + (" …" if self.parents[5:] else "")
        super().__init__(f"depends_on names no job that is there: {some} (never enqueued, or its record has expired)")


class EnqueueFailed(ClientError):
    """The store gave no answer in time, or refused. Repeating with the same ``job_id`` is safe.

    ``job_ids``: the ids of all jobs of the enqueue, in order, given or made up; some or all may have been written.
    """

    def __init__(self, text: str, job_ids: Iterable[str] = ()) -> None:
        self.job_ids = list(job_ids)
        if self.job_ids:
            more = f" and {len(self.job_ids) - 1} more" if self.job_ids[1:] else ""
            text = f"{text} (job_id {self.job_ids[0]}{more}; repeating with the same is safe)"
        super().__init__(text)


class JobInvalid(RRQError):
    """A job's stored fields can't be run as they are; the text says which and why."""


class StoreError(RRQError):
    """The store could not do what was asked."""


class StoreUnavailable(StoreError, ConnectionError):
    """No answer from the server; it is unknown whether the call happened. Every move may be repeated."""


class StoreRefused(StoreError):
    """The server answered no (out of memory, read-only, no permission); nothing happened."""


class NotLetIn(StoreRefused):
    """No connection: a wrong password, a certificate that one side does not accept, a file for TLS that is missing."""


class StoreUnsupported(StoreError):
    """The server is older than Redis 7.0 / Valkey 7.2, or lacks what rrqd needs."""
