"""RQ's simple face on rrqd's engine, with no server to set up.

    from rrqd.rq import Queue, Worker
    from myapp.mail import send

    queue = Queue("mail")                      # an embedded server is started, or found, when it is first needed
    job = queue.enqueue(send, "a@example.org", retry=Retry(max=3))
    Worker([queue]).work(burst=True)           # or the daemon: handlers = "dotted:myapp.*"
    job.result

Where jobs lie: ``connection=`` (a DSN, a redis-py client), ``RRQ_REDIS_DSN``, or the embedded server of ``RRQD_HOME``.
``docs/migrating-from-rq.md`` tells what differs from RQ. Names are handed out lazily: who only enqueues loads no
worker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rrqd.lazily import lazily

if TYPE_CHECKING:
    from rrqd.rq.command import cancel_job as cancel_job
    from rrqd.rq.command import requeue_job as requeue_job
    from rrqd.rq.connection import Connection as Connection
    from rrqd.rq.exceptions import InvalidJobOperation as InvalidJobOperation
    from rrqd.rq.exceptions import NoSuchJobError as NoSuchJobError
    from rrqd.rq.job import Job as Job
    from rrqd.rq.job import get_current_job as get_current_job
    from rrqd.rq.queue import Queue as Queue
    from rrqd.rq.registry import CanceledJobRegistry as CanceledJobRegistry
    from rrqd.rq.registry import DeferredJobRegistry as DeferredJobRegistry
    from rrqd.rq.registry import FailedJobRegistry as FailedJobRegistry
    from rrqd.rq.registry import FinishedJobRegistry as FinishedJobRegistry
    from rrqd.rq.registry import ScheduledJobRegistry as ScheduledJobRegistry
    from rrqd.rq.registry import StartedJobRegistry as StartedJobRegistry
    from rrqd.rq.stopping import JobTimeoutException as JobTimeoutException
    from rrqd.rq.values import Callback as Callback
    from rrqd.rq.values import Dependency as Dependency
    from rrqd.rq.values import JobStatus as JobStatus
    from rrqd.rq.values import Repeat as Repeat
    from rrqd.rq.values import Retry as Retry
    from rrqd.rq.worker import SimpleWorker as SimpleWorker
    from rrqd.rq.worker import SpawnWorker as SpawnWorker
    from rrqd.rq.worker import Worker as Worker

_PUBLIC = {
    "Callback": "values",
    "CanceledJobRegistry": "registry",
    "Connection": "connection",
    "DeferredJobRegistry": "registry",
    "Dependency": "values",
    "FailedJobRegistry": "registry",
    "FinishedJobRegistry": "registry",
    "InvalidJobOperation": "exceptions",
    "Job": "job",
    "JobStatus": "values",
    "JobTimeoutException": "stopping",
    "NoSuchJobError": "exceptions",
    "Queue": "queue",
    "Repeat": "values",
    "Retry": "values",
    "ScheduledJobRegistry": "registry",
    "SimpleWorker": "worker",
    "SpawnWorker": "worker",
    "StartedJobRegistry": "registry",
    "Worker": "worker",
    "cancel_job": "command",
    "get_current_job": "job",
    "requeue_job": "command",
}

__all__ = sorted(_PUBLIC)

__getattr__ = lazily(__name__, _PUBLIC)
