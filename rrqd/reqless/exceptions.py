"""What can go wrong, under reqless' names."""

from __future__ import annotations


class ReqlessError(Exception):
    """What was asked for can't be done; the text says why. Nothing was changed."""


class LostLockError(ReqlessError):
    """The job is not this program's to run any more: it was moved, timed out, cancelled, or never popped here."""
