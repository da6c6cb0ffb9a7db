"""``client.queues["mail"]``: putting jobs in, popping them, and looking at what is there."""

from __future__ import annotations

import uuid
from datetime import date
from typing import TYPE_CHECKING, Any

from rrqd.exc import JobExists
from rrqd.reqless import looking, record
from rrqd.reqless.exceptions import ReqlessError
from rrqd.reqless.throttle import Throttle
from rrqd.rq.reference import CLASS, NameUnknown

if TYPE_CHECKING:
    from rrqd.reqless.client import Client
    from rrqd.store import Store

#: What a queue's own throttle is called in reqless; a job names it without meaning more than its queue.
OWN_THROTTLE = "ql:q:"


class Queue:
    """A queue by name; there is nothing to be made first."""

    def __init__(self, name: str, client: Client, worker_name: str) -> None:
        self.name = name
        self.client = client
        self.worker_name = worker_name
        self.jobs = QueueJobs(name, client)

    def __repr__(self) -> str:
        return f"<Queue {self.name}>"

    def __len__(self) -> int:
        """Jobs that run, wait or are scheduled."""
        return self.client.ask(lambda store: looking.length(store, self.name))

    def __bool__(self) -> bool:
        return True  # an empty queue is a queue

    @property
    def counts(self) -> dict[str, Any]:
        """How many jobs are waiting, running, stalled, scheduled, depends, throttled and recurring; ``name``, and
        whether it is ``paused``."""
        return self.client.ask(lambda store: looking.counts(store, [self.name]))[0]

    @property
    def heartbeat(self) -> float | None:
        """Seconds without a heartbeat after which a run is ended; None: it may last as long as its timeout says."""
        with self.client.telling():
            seconds: float | None = self.client.sync.config.get("heartbeat_seconds", self.name)
        return seconds

    @heartbeat.setter
    def heartbeat(self, seconds: float) -> None:
        self.client.config[f"{self.name}-heartbeat"] = seconds

    @property
    def throttle(self) -> Throttle:
        """The limit of the queue itself."""
        return Throttle(f"queue:{self.name}", self.client)

    def class_string(self, klass: Any) -> str:
        """How a class is written in a job. Raises ReqlessError for one that could not be found again."""
        try:
            return record.class_string(klass)
        except NameUnknown as fault:
            raise ReqlessError(str(fault)) from None

    def pause(self, stop_jobs: bool = False) -> None:
        """Let nobody pop from it; what runs goes on, or, with ``stop_jobs``, is taken from its workers and waits."""
        self.client.ask(lambda store: store.pause_queues([self.name]))
        if stop_jobs:
            with self.client.telling():
                self.client.sync.jobs.timeout(*self.client.ask(looking.held).running.get(self.name, []))

    def unpause(self) -> None:
        """Go on."""
        self.client.ask(lambda store: store.resume_queues([self.name]))

    def put(
        self,
        klass: Any,
        data: Any,
        priority: float | None = None,
        tags: list[str] | None = None,
        delay: float | None = None,
        retries: int | None = None,
        jid: str | None = None,
        depends: list[str] | None = None,
        throttles: list[str] | None = None,
    ) -> str:
        """Have a job of this class run; answers its id. ``data``: text, stored as it is; anything else is written as
        JSON, once. ``retries``: runs after the first that may be asked for (5).

        A ``jid`` that is there becomes this job, wherever it was. Raises ReqlessError, and nothing was written.
        """
        options: dict[str, Any] = {
            "job_id": jid or uuid.uuid4().hex, "defer_by_seconds": delay or None, "depends_on": depends or None,
            **self._options(data, priority, tags, retries, throttles),
        }  # fmt: skip
        function = CLASS + self.class_string(klass)
        try:
            return self.client.put(function, options)
        except ReqlessError as fault:
            if not isinstance(fault.__cause__, JobExists):
                raise
        return self.client.replace(function, options)

    def requeue(
        self,
        klass: Any,
        data: Any,
        priority: float | None = None,
        tags: list[str] | None = None,
        delay: float | None = None,
        retries: int | None = None,
        jid: str | None = None,
        depends: list[str] | None = None,
        throttles: list[str] | None = None,
    ) -> str:
        """``put`` for a job that is there. Raises ReqlessError when it is not."""
        if jid is None or not self.client.jobs.get(jid):
            raise ReqlessError(f"there is no job {jid} to requeue")
        return self.put(klass, data, priority, tags, delay, retries, jid, depends, throttles)

    def recur(
        self,
        klass: Any,
        data: Any,
        interval: float | None = None,
        offset: float | None = 0,
        priority: float | None = None,
        tags: list[str] | None = None,
        retries: int | None = None,
        jid: str | None = None,
        throttles: list[str] | None = None,
        backlog: int = 0,
    ) -> str:
        """Put such a job every ``interval`` seconds, the first in ``offset`` seconds; answers the id of the recurring
        job. Its jobs are called ``<id>-1``, ``<id>-2``, … ``backlog``: of what was missed only the last so many."""
        if interval is None:
            raise ReqlessError("recur needs an interval, in seconds")
        options = {**self._options(data, priority, tags, retries, throttles), "listed": record.LISTED}
        with self.client.telling():
            return self.client.sync.recurring.add(
                CLASS + self.class_string(klass), options,
                every_seconds=interval, offset_seconds=offset or 0, id=jid or uuid.uuid4().hex, backlog=backlog,
            )  # fmt: skip

    def pop(self, count: int | None = None) -> Any:
        """The next job, or None; with ``count`` a list of up to so many. It is this program's until it says how it
        ended, or is gone."""
        with self.client.telling():
            claimed = self.client.hand.pop(self.name, 1 if count is None else count)
        popped = self.client.jobs.get(*(job.id for job in claimed))
        return popped if count is not None else popped[0] if popped else None

    def peek(self, offset: int | None = None, count: int | None = None) -> Any:
        """The next job, or None, without taking it; with ``count`` a list. Nothing is changed by looking."""
        ids = self.jobs.waiting(offset or 0, 1 if count is None else count)
        found = self.client.jobs.get(*ids)
        return found if count is not None else found[0] if found else None

    def stats(self, date: date | float | str | None = None) -> dict[str, Any]:
        """``wait`` and ``run`` (``count``, ``mean``, ``std`` and a ``histogram`` of 148 buckets), ``retries``,
        ``failures`` and ``failed`` of one day (UTC; epoch seconds or a date; today)."""
        self.client.tell()
        return self.client.ask(lambda store: looking.stats(store, self.name, date))

    def _options(
        self,
        data: Any,
        priority: float | None,
        tags: list[str] | None,
        retries: int | None,
        throttles: list[str] | None,
    ) -> dict[str, Any]:
        """What a job and a template have in common."""
        try:
            params = record.params_of(record.text_of(data))
        except TypeError as fault:
            raise ReqlessError(f"data can't be written as JSON: {fault}") from None
        return {
            "params": params,
            "queue_name": self.name,
            "priority": priority or None,
            "tags": list(tags or ()),
            "max_retries": (record.DEFAULT_RETRIES if retries is None else retries) + 1,
            "throttles": [one for one in throttles or () if not one.startswith(OWN_THROTTLE)],
        }


class QueueJobs:
    """``queue.jobs``: ids of its jobs by where they are, 25 at a time."""

    def __init__(self, name: str, client: Client) -> None:
        self.name = name
        self.client = client

    def waiting(self, offset: int = 0, count: int = 25) -> list[str]:
        """Those that could start now, in their order."""
        return self.client.ask(
            lambda store: looking.waiting_page(store, self.name, due=True, offset=offset, limit=count)
        )

    def scheduled(self, offset: int = 0, count: int = 25) -> list[str]:
        """Those that are to start later, soonest first."""
        return self.client.ask(
            lambda store: looking.waiting_page(store, self.name, due=False, offset=offset, limit=count)
        )

    def depends(self, offset: int = 0, count: int = 25) -> list[str]:
        """Those that wait for others, oldest first."""
        return self.client.ask(lambda store: store.waiting_for_others(self.name, offset, count))

    def running(self, offset: int = 0, count: int = 25) -> list[str]:
        """Those that are held under a living lease."""
        return self.client.ask(looking.held).running.get(self.name, [])[offset : offset + count]

    def stalled(self, offset: int = 0, count: int = 25) -> list[str]:
        """Those whose worker's lease has ended, until somebody puts them back."""
        return self.client.ask(looking.held).stalled.get(self.name, [])[offset : offset + count]

    def throttled(self, offset: int = 0, count: int = 25) -> list[str]:
        """Those that wait at a throttle."""
        found = self.client.ask(lambda store: looking.throttled(store, self.name))
        return found.get(self.name, [])[offset : offset + count]

    def recurring(self, offset: int = 0, count: int = 25) -> list[str]:
        """Recurring jobs that put theirs here, soonest first."""

        async def look(store: Store) -> list[str]:
            default = store.policy.default_queue
            return [one.id for one in await looking.templates(store) if looking.queue_of(one, default) == self.name]

        return self.client.ask(look)[offset : offset + count]
