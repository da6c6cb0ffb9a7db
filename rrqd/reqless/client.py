"""``Client``: reqless' way in. Jobs, queues, workers, throttles, events, over one connection.

Rule 1: nothing is connected before the first call, and nothing is held before the first ``pop``.
Rule 2: whatever can't be done is a ReqlessError, and nothing was changed.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

import msgspec

from rrqd.dsn import OPTIONS as LOGIN
from rrqd.exc import ClientError, StoreError, UnknownParent
from rrqd.job import JobStatus
from rrqd.model.job import Job as Stored
from rrqd.reqless import looking, record
from rrqd.reqless.config import Config
from rrqd.reqless.events import Events
from rrqd.reqless.exceptions import LostLockError, ReqlessError
from rrqd.reqless.job import Job
from rrqd.reqless.patterns import QueuePatterns
from rrqd.reqless.queue import Queue
from rrqd.reqless.recurring import RecurringJob
from rrqd.reqless.throttle import Throttles
from rrqd.reqless.workers import Workers
from rrqd.rq.connection import DSN_VARIABLE, Connection, connect

if TYPE_CHECKING:
    from rrqd.client import SyncRRQClient
    from rrqd.reqless.hand import Hand
    from rrqd.store import Store

T = TypeVar("T")
#: Far enough: a job that is about to be written anew.
ASIDE_SECONDS = 3600.0
DEFAULT_URL = "redis://localhost:6379"


class Client:
    """``Client("redis://host:6379/0")``; left out: ``RRQ_REDIS_DSN``, else ``redis://localhost:6379``.

    ``url`` may also be a Connection of ``rrqd.rq`` or a redis-py client. ``hostname``: what this program is called
    where it holds jobs (``worker_name``). ``options``: ``db``, ``username`` and ``password``, as redis-py has them;
    others are redis-py's own affair and are not needed here. Raises ValueError for an address that is none.
    """

    def __init__(self, url: Any = None, hostname: str | None = None, **options: Any) -> None:
        wanted = url or os.environ.get(DSN_VARIABLE) or DEFAULT_URL
        self.place: Connection = connect(_with(wanted, options) if isinstance(wanted, str) else wanted)
        self.worker_name = hostname or f"{socket.gethostname()}-{os.getpid()}"
        self.jobs = Jobs(self)
        self.queues = Queues(self)
        self.throttles = Throttles(self)
        self.config = Config(self)
        self.queue_patterns = QueuePatterns(self)
        self.workers = Workers(self)
        self.events = Events(self)
        self._hand: Hand | None = None

    def __repr__(self) -> str:
        return f"<reqless Client {self.place!r}>"

    @property
    def sync(self) -> SyncRRQClient:
        """rrqd's own client of the same place: whatever it can do can be done with these jobs, too."""
        return self.place.client

    @property
    def hand(self) -> Hand:
        """What this program holds its jobs with; made when it first pops, and anew in a forked child."""
        if self._hand is None or self._hand.pid != os.getpid():
            from rrqd.reqless.hand import Hand  # who only puts jobs needs nothing that runs them

            with self.telling():
                self._hand = Hand(self.place, self.worker_name)
        return self._hand

    def close(self) -> None:
        """Give back what is held. A later call begins anew."""
        hand, self._hand = self._hand, None
        if hand is not None:
            hand.close()

    def ask(self, call: Callable[[Store], Awaitable[T]]) -> T:
        """Ask the store; waits for the answer. Raises ReqlessError."""
        with self.telling():
            return self.place.ask(call)

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """What goes wrong inside is a ReqlessError."""
        try:
            yield
        except (ClientError, StoreError) as fault:
            raise ReqlessError(str(fault)) from fault

    # What reqless' client does.

    def track(self, jid: str) -> bool:
        """Tell of the job's moves from now on. Raises ReqlessError when there is no such job."""
        return _there(self.sync.tracking.track(jid), jid)

    def untrack(self, jid: str) -> bool:
        """Tell of them no more."""
        return _there(self.sync.tracking.untrack(jid), jid)

    def tags(self, offset: int = 0, count: int = 100) -> list[str]:
        """Tags in use, most used first; those used once, too."""
        with self.telling():
            return list(self.sync.tags.counts())[offset : offset + count]

    def unfail(self, group: str, queue: str, count: int = 500) -> int:
        """Bring the oldest ``count`` failed jobs of a group back, into ``queue``, as new; answers how many."""
        with self.telling():
            back = self.sync.failures.unfail(group, queue=queue, limit=count)
            others = self.place.ask(looking.unnamed).get(group, [])[::-1][: count - len(back)]
            return len(back) + sum(said.done for said in self.sync.jobs.retry(*others, queue=queue).values())

    def cancel(self, *jids: str) -> list[str]:
        """Cancel jobs; answers the ids given. Raises ReqlessError, and cancels none, while jobs that are not among them
        depend on one."""
        for job in self.jobs.get(*jids):
            others = set(job.dependents) - set(jids)
            if others:
                raise ReqlessError(f"can't cancel {job.jid}: {', '.join(sorted(others)[:5])} depend on it")
        with self.telling():
            self.sync.jobs.cancel(*jids)
        return list(jids)

    # For the classes of this room.

    def put(self, function: str, options: dict[str, Any]) -> str:
        """Write a job down. One of this id that has ended makes room; jobs to wait for that are gone are not waited
        for."""
        with self.telling():
            (job,) = self.sync.for_loops._read([(function, options)])
            fresh = msgspec.structs.replace(job, again=True, listed=record.LISTED)
            try:
                self.place.write([fresh])
            except UnknownParent as fault:
                known = tuple(one for one in job.parents if one not in fault.parents)
                self.place.write([msgspec.structs.replace(fresh, parents=tuple(self.known(known)))])
        return job.id

    def replace(self, function: str, options: dict[str, Any]) -> str:
        """Write a job down in place of the one of its id, wherever that is: one that runs is taken from its worker, and
        jobs that wait for it go on waiting."""
        jid = str(options["job_id"])
        children = [child for old in self.jobs.get(jid) for child in old.dependents]
        with self.telling():
            self.sync.jobs.move(jid, delay_seconds=ASIDE_SECONDS, running=True)  # where nobody pops it meanwhile
            self.ask(lambda store: store.purge([jid]))
            self.put(function, options)
            for child in children:
                self.sync.dependencies.add(child, jid)
        return jid

    def move(self, job: Job, queue: str, delay: float, depends: Sequence[str] | None) -> None:
        """Put a job elsewhere, as new, wherever it is. One that runs is taken from its worker."""
        if depends is None:
            with self.telling():
                (said,) = self.sync.jobs.move(job.jid, queue=queue, delay_seconds=delay, running=True).values()
            if said.done:
                return
        options = {
            **record.options_of(job.stored), "queue_name": queue, "defer_by_seconds": delay or None,
            "depends_on": depends or None,
        }  # fmt: skip
        self.replace(job.stored.function, options)

    def tell(self) -> None:
        """Write down the figures of what this program has run."""
        if self._hand is not None and self._hand.pid == os.getpid():
            self._hand.tell()

    def known(self, jids: Sequence[str]) -> list[str]:
        """Those of these jobs that are there."""
        if not jids:
            return []
        found = self.ask(lambda store: store.parent_results(jids))
        return [jid for jid in jids if found[jid] is not None]

    def store_data(self, jid: str, token: int, data: str) -> None:
        """Replace a held job's data. Raises LostLockError."""
        text = msgspec.json.encode(record.params_of(data)).decode()
        if not self.ask(lambda store: store.annotate(jid, "job_params", text, token=token)):
            raise LostLockError(f"job {jid} is not held under token {token} any more; its data were not stored")

    def shown(self, stored: Stored, seen_ms: float) -> Job:
        """A job that was looked up at that time of the server's; held, if this program holds it."""
        return Job(self, stored, seen_ms, self._hand.hold(stored.id) if self._hand is not None else None)


class Jobs:
    """``client.jobs``: looking jobs up."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getitem__(self, jid: str) -> Job | RecurringJob | None:
        """The job, or the recurring job, of this id; None when there is none (any more)."""
        found = self.get(jid)
        if found:
            return found[0]
        template = self._client.ask(lambda store: store.recurring(jid))
        return RecurringJob(self._client, template) if template is not None else None

    def get(self, *jids: str) -> list[Job]:
        """Those of these jobs that are there."""
        found, now_ms = self._client.ask(lambda store: store.look_at(jids))
        there = (job for job in found if job is not None and job.status is not JobStatus.CANCELLED)
        return [self._client.shown(job, now_ms) for job in there]

    def complete(self, offset: int = 0, count: int = 25) -> list[str]:
        """Ids of completed jobs, newest first."""
        found = self._client.ask(
            lambda store: store.ended(record.LISTED, JobStatus.COMPLETED, offset=offset, limit=count)
        )
        return found.ids

    def tracked(self) -> dict[str, list[Any]]:
        """``jobs``: those that are tracked. ``expired``: always empty, tracking ends with the record."""
        return {"jobs": self.get(*self._client.ask(looking.tracked)), "expired": []}

    def tagged(self, tag: str, offset: int = 0, count: int = 25) -> dict[str, Any]:
        """``total``, and ``jobs``: ids of jobs with this tag, newest first."""
        page = self._client.ask(lambda store: store.tagged(tag, offset=offset, limit=count))
        return {"total": page.total, "jobs": page.ids}

    def failed(self, group: str | None = None, start: int = 0, limit: int = 25) -> dict[str, Any]:
        """How many failed jobs each group has; or the ``total`` of one, and its ``jobs``, newest first."""
        if group is None:
            return self._client.ask(looking.failure_groups)
        total, ids = self._client.ask(lambda store: looking.failed(store, group, start, limit))
        return {"total": total, "jobs": self.get(*ids)}


class Queues:
    """``client.queues``: queues by name."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getitem__(self, name: str) -> Queue:
        return Queue(name, self._client, self._client.worker_name)

    @property
    def counts(self) -> list[dict[str, Any]]:
        """The counts of every queue ever seen."""

        async def look(store: Store) -> list[dict[str, Any]]:
            return await looking.counts(store, await store.queues())

        return self._client.ask(look)


def _there(said: bool | None, jid: str) -> bool:
    if said is None:
        raise ReqlessError(f"there is no job {jid}")
    return said


def _with(dsn: str, options: Mapping[str, Any]) -> str:
    """The DSN with those of redis-py's options that mean something in one."""
    told = {name: value for name, value in options.items() if name in LOGIN and value is not None}
    return f"{dsn}{'&' if '?' in dsn else '?'}{urlencode(told)}" if told else dsn
