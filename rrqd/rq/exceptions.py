"""What can go wrong, under RQ's names."""

from __future__ import annotations

from rrqd.exc import JobExists as DuplicateJobError
from rrqd.exc import UnknownParent as InvalidJobDependency


class NoSuchJobError(LookupError):
    """There is no job with this id; it may have expired."""


class InvalidJobOperation(RuntimeError):
    """What was asked of a job is not possible in the state it is in."""


class TimeoutFormatError(ValueError):
    """A span of time is neither seconds nor text like ``"3m"``."""


__all__ = [
    "DuplicateJobError", "InvalidJobDependency", "InvalidJobOperation", "NoSuchJobError", "TimeoutFormatError",
]  # fmt: skip
