"""reqless' face on rrqd's engine: the same names and arguments, over the same jobs as every other face.

    from rrqd import reqless

    client = reqless.Client("redis://localhost:6379")
    queue = client.queues["orders"]
    queue.put("shop.jobs.Order", '{"number": 7}', priority=5, tags=["blue"])
    job = queue.pop()
    job.complete("packing")

Classes are run by ``rrqd reqless-worker -q orders --import shop.jobs``, or by a pool of the daemon with
``handlers = "dotted:shop.*"``. ``docs/migrating-from-reqless.md`` tells what differs. Names are handed out lazily.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rrqd.lazily import lazily

if TYPE_CHECKING:
    from rrqd.reqless.client import Client as Client
    from rrqd.reqless.client import Jobs as Jobs
    from rrqd.reqless.client import Queues as Queues
    from rrqd.reqless.config import Config as Config
    from rrqd.reqless.events import Events as Events
    from rrqd.reqless.exceptions import LostLockError as LostLockError
    from rrqd.reqless.exceptions import ReqlessError as ReqlessError
    from rrqd.reqless.job import Job as Job
    from rrqd.reqless.patterns import QueuePatterns as QueuePatterns
    from rrqd.reqless.patterns import QueuePriorityPattern as QueuePriorityPattern
    from rrqd.reqless.queue import Queue as Queue
    from rrqd.reqless.recurring import RecurringJob as RecurringJob
    from rrqd.reqless.retrying import retry as retry
    from rrqd.reqless.throttle import Throttle as Throttle
    from rrqd.reqless.throttle import Throttles as Throttles
    from rrqd.reqless.workers import Workers as Workers

_PUBLIC = {
    "Client": "client",
    "Config": "config",
    "Events": "events",
    "Job": "job",
    "Jobs": "client",
    "LostLockError": "exceptions",
    "Queue": "queue",
    "QueuePatterns": "patterns",
    "QueuePriorityPattern": "patterns",
    "Queues": "client",
    "RecurringJob": "recurring",
    "ReqlessError": "exceptions",
    "Throttle": "throttle",
    "Throttles": "throttle",
    "Workers": "workers",
    "retry": "retrying",
}

__all__ = sorted(_PUBLIC)

__getattr__ = lazily(__name__, _PUBLIC)
