"""What can go wrong, under RQ's names."""

from __future__ import annotations


class NoSuchJobError(LookupError):
    """There is no job with this id; it may have expired."""


class InvalidJobOperation(RuntimeError):
    """What was asked of a job is not possible in the state it is in."""
