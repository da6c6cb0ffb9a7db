"""RRQ's first API (0.3 to 0.7), over rrqd's store and worker.

A program written for it runs with ``rrq`` replaced by ``rrqd.classic``: the same modules, names and arguments, options
with a leading underscore, handlers ``async def handler(ctx, *args, **kwargs)``. What is behind is rrqd's: leases and
fenced tokens instead of locks, claims woken by the server instead of polls, recovery of what a killed worker held.
``docs/classic.md`` lists what differs. Jobs are written in the first API's form, so its own workers can run them too.
"""

from __future__ import annotations

from rrqd.lazily import lazily

_PUBLIC = {
    "CronJob": "cron",
    "CronSchedule": "cron",
    "Job": "job",
    "JobRegistry": "registry",
    "JobStatus": "job",
    "JobStore": "store",
    "RetryJob": "exc",
    "RRQClient": "client",
    "RRQSettings": "settings",
    "RRQWorker": "worker",
}

__all__ = [*_PUBLIC]

__getattr__ = lazily(__name__, _PUBLIC)
