"""Failed runs as events of Sentry: ``middleware = ["rrqd.integrations.sentry:report"]`` of a pool.

The application calls ``sentry_sdk.init(…)`` itself, while its modules are imported. ``pip install 'rrqd[sentry]'``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import sentry_sdk

from rrqd.middleware import WISHES
from rrqd.runner import ExecutionRequest


@contextlib.contextmanager
def report(request: ExecutionRequest) -> Iterator[None]:
    """Around a run: what is captured in it knows the job, and an exception that ends it is captured, each attempt; a
    job's wish to run again (RetryJob, SnoozeJob) is none. Parameters are not sent."""
    with sentry_sdk.isolation_scope() as scope:
        context = request.context
        scope.set_transaction_name(request.function_name)
        scope.set_tag("job_id", request.job_id)
        scope.set_tag("function", request.function_name)
        scope.set_tag("queue", context.queue_name.rpartition(":")[2])
        scope.set_context("job", {"id": request.job_id, "attempt": context.attempt, "worker": context.worker_id})
        try:
            yield
        except WISHES:
            raise
        except Exception as fault:
            sentry_sdk.capture_exception(fault)
            raise
