"""rrqd: one daemon that keeps a machine's background jobs running over Redis or Valkey.

A map of the house, in the order in which understanding grows:

* ``model/``      what a job is, the moves it can make, and what follows from a run (pure)
* ``store/``      the only floor that speaks Redis: one move, one function, one Lua script
* ``client.py``   asking: enqueue, look up, wait, cancel
* ``runtime/``    doing: inside a worker process, from claim to verdict
* ``upkeep/``     what the steward does for everybody: reap, cron, retention
* ``supervisor/`` watching over processes: a pure ``decide`` and a thin kernel adapter
* ``standalone/`` one worker without the daemon
* ``web/``        metrics, health, API, pages
* ``cli/``        what an operator types

Public names are handed out lazily, so that a producer that only enqueues imports none of the daemon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rrqd.lazily import lazily

__version__ = "0.1.0"

if TYPE_CHECKING:  # for type checkers, which do not ask __getattr__
    from rrqd.app import App as App
    from rrqd.app import Depends as Depends
    from rrqd.client import RRQClient as RRQClient
    from rrqd.client import SyncRRQClient as SyncRRQClient
    from rrqd.exc import FailJob as FailJob
    from rrqd.exc import RetryJob as RetryJob
    from rrqd.exc import SnoozeJob as SnoozeJob
    from rrqd.job import JobResult as JobResult
    from rrqd.job import JobStatus as JobStatus
    from rrqd.registry import Registry as Registry
    from rrqd.runner import ExecutionContext as ExecutionContext
    from rrqd.runner import ExecutionError as ExecutionError
    from rrqd.runner import ExecutionOutcome as ExecutionOutcome
    from rrqd.runner import ExecutionRequest as ExecutionRequest
    from rrqd.runner_settings import PythonRunnerSettings as PythonRunnerSettings

_PUBLIC = {
    "App": "app",
    "Depends": "app",
    "RRQClient": "client",
    "SyncRRQClient": "client",
    "Registry": "registry",
    "ExecutionContext": "runner",
    "ExecutionError": "runner",
    "ExecutionOutcome": "runner",
    "ExecutionRequest": "runner",
    "PythonRunnerSettings": "runner_settings",
    "JobResult": "job",
    "JobStatus": "job",
    "FailJob": "exc",
    "RetryJob": "exc",
    "SnoozeJob": "exc",
}

__all__ = ["__version__", *_PUBLIC]

__getattr__ = lazily(__name__, _PUBLIC)
