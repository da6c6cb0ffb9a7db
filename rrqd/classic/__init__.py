"""RRQ's first API (0.3 to 0.7), over rrqd's store and worker.

A program written for it runs with ``rrq`` replaced by ``rrqd.classic``: the same modules, names and arguments, options
with a leading underscore, handlers ``async def handler(ctx, *args, **kwargs)``. What is behind is rrqd's: leases and
fenced tokens instead of locks, claims woken by the server instead of polls, recovery of what a killed worker held.
``docs/classic.md`` lists what differs. Jobs are written in the first API's form, so its own workers can run them too.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {
    "CronJob": "rrqd.classic.cron",
    "CronSchedule": "rrqd.classic.cron",
    "Job": "rrqd.classic.job",
    "JobRegistry": "rrqd.classic.registry",
    "JobStatus": "rrqd.classic.job",
    "JobStore": "rrqd.classic.store",
    "RetryJob": "rrqd.classic.exc",
    "RRQClient": "rrqd.classic.client",
    "RRQSettings": "rrqd.classic.settings",
    "RRQWorker": "rrqd.classic.worker",
}

__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'rrqd.classic' has no attribute {name!r}")
