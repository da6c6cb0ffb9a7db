"""The exceptions of RRQ's first API; those that rrqd has too are the same classes."""

from __future__ import annotations

from rrqd.exc import HandlerNotFound, MaxRetriesExceeded, RetryJob, RRQError

__all__ = ["HandlerNotFound", "JobNotFound", "MaxRetriesExceeded", "RRQError", "RetryJob"]


class JobNotFound(RRQError):
    """There is no job of this id."""
