"""Flask: a client for views, and the application's context around jobs.

jobs = Jobs()                                          # or Jobs(app)
jobs.init_app(app)                                     # app.config["RRQD_DSN"], if the server is not the usual one
jobs.client.enqueue("report", {"params": {…}})         # in a view

registry.middleware(in_app_context(create_app))        # where the handlers are: current_app, extensions, the database
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator

try:
    from flask import Flask, current_app
except ImportError:
    raise ImportError("Flask is not installed: pip install 'rrqd[flask]'") from None

from rrqd.client import SyncRRQClient
from rrqd.middleware import Middleware
from rrqd.rq.connection import Connection, connect
from rrqd.runner import ExecutionRequest

EXTENSION = "rrqd"


class Jobs:
    """The extension. ``RRQD_DSN`` in the application's configuration names the server; left out: ``RRQ_REDIS_DSN``,
    or the embedded one. Nothing is connected before the first call."""

    def __init__(self, app: Flask | None = None) -> None:
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Make it known to an application; one ``Jobs`` may serve many."""
        app.extensions[EXTENSION] = connect(app.config.get("RRQD_DSN"))

    @property
    def place(self) -> Connection:
        """Where the jobs of the current application lie, also for ``Queue("mail", jobs.place)`` of rrqd.rq. Raises
        RuntimeError outside of an application, and in one that was not made known."""
        found = current_app.extensions.get(EXTENSION)
        if not isinstance(found, Connection):
            raise RuntimeError("this Flask application has no jobs: call jobs.init_app(app)")
        return found

    @property
    def client(self) -> SyncRRQClient:
        """The client of the current application."""
        return self.place.client


def in_app_context(app: Flask | Callable[[], Flask]) -> Middleware:
    """A middleware: each run has the context of the application, or of the one that ``create_app`` makes, once in a
    worker, with its first job."""
    find: Callable[[], Flask] = (lambda: app) if isinstance(app, Flask) else functools.cache(app)

    @contextlib.contextmanager
    def run(request: ExecutionRequest) -> Iterator[None]:
        with find().app_context():
            yield

    return run
