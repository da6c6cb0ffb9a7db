"""A job in reqless' words: what it is, where it is, and, for who holds it, how it ends.

Rule 1: what is shown is what the store said when the job was looked up; ``client.jobs[jid]`` looks again.
Rule 2: only who holds a job ends it: the program that popped it, or the worker that runs it. Everybody else is told so.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from rrqd import clock
from rrqd.model.history import history_of
from rrqd.model.job import Job as Stored
from rrqd.model.names import read_group
from rrqd.reqless import record
from rrqd.reqless.exceptions import LostLockError, ReqlessError
from rrqd.rq.reference import NameUnknown, find
from rrqd.runner import NextStep
from rrqd.runtime.outcomes import trace_of
from rrqd.store.family import Kinship

if TYPE_CHECKING:
    from rrqd.reqless.client import Client
    from rrqd.reqless.queue import Queue

#: How much of a traceback is kept as a failure's message, in characters.
MESSAGE_CHARACTERS = 10_000
MAX_CHILDREN_SHOWN = 1000


class Hold(Protocol):
    """The right to run a job, and to say how it ends. ``token``: the fencing number; ``attempt``: from 1."""

    token: int
    attempt: int

    def complete(self, step: NextStep | None) -> None: ...
    def retry(self, delay: float, message: str) -> None: ...
    def fail(self, group: str, message: str) -> None: ...
    def heartbeat(self) -> float: ...
    def log(self, message: str, data: Mapping[str, Any]) -> None: ...
    def sandbox(self) -> str | None: ...


class Job:
    """``client.jobs[jid]``, ``queue.pop()``, or what a job class's method is given.

    ``data`` is the text that was put; set, it is stored with the next ``heartbeat``, ``complete`` or ``fail``.
    """

    def __init__(
        self, client: Client, stored: Stored, seen_ms: float, hold: Hold | None = None, *, data: str | None = None
    ) -> None:
        self.client = client
        self.jid = stored.id
        self.klass_name = record.klass_of(stored.function)
        self.queue_name = stored.queue
        self._seen = stored
        self._seen_ms = seen_ms
        self._whole = data is None
        self._hold = hold
        self._data = record.data_of(stored) if data is None else data
        self._changed = False
        self._kin: Kinship | None = None
        #: Whether it has been said how this run ends.
        self.decided = False

    def __repr__(self) -> str:
        return f"<{self.klass_name} {self.jid}>"

    # What it is.

    @property
    def stored(self) -> Stored:
        """All that is stored of it, as of the last look."""
        if not self._whole:
            found, self._seen_ms = self.client.ask(lambda store: store.look(self.jid))
            self._seen, self._whole = found or self._seen, True
        return self._seen

    @property
    def klass(self) -> Any:
        """The class itself. Raises NameUnknown when it can't be found in this process."""
        return find(self.klass_name)

    @property
    def queue(self) -> Queue:
        return self.client.queues[self.queue_name]

    @property
    def data(self) -> str:
        """The text that was put."""
        return self._data

    @data.setter
    def data(self, data: Any) -> None:
        self._data, self._changed = record.text_of(data), True

    @property
    def state(self) -> str:
        """``waiting``, ``scheduled``, ``depends``, ``throttled``, ``running``, ``failed`` or ``complete``."""
        return record.state_of(self.stored, self._seen_ms)

    @property
    def priority(self) -> int | float:
        return self.stored.priority

    @priority.setter
    def priority(self, priority: int | float) -> None:
        with self.client.telling():
            self.client.sync.set_priority(self.jid, priority)
        self._look_again()

    @property
    def tags(self) -> list[str]:
        return self.stored.tags

    @property
    def throttles(self) -> list[str]:
        """Those it was given. Its queue's own limit counts as well."""
        return self.stored.throttles

    @property
    def tracked(self) -> bool:
        return self.stored.tracked

    @property
    def worker_name(self) -> str:
        """Who runs it, or ran it last; empty for nobody."""
        return self.stored.fields.get("worker_id", "")

    @property
    def original_retries(self) -> int:
        return (self.stored.number("max_retries") or record.DEFAULT_RETRIES + 1) - 1

    @property
    def retries_left(self) -> int:
        """How many more runs it may have after a ``retry``; -1 when they are used up."""
        made = self._hold.attempt - 1 if self._hold is not None else self.stored.number("current_retries") or 0
        return self.original_retries - made

    @property
    def failure(self) -> dict[str, Any]:
        """``group``, ``message``, ``when`` and ``worker`` of a failed job."""
        return record.failure_of(self.stored)

    @property
    def history(self) -> list[dict[str, Any]]:
        """What happened to it, oldest first, with what was said by ``log``."""
        told = [entry for one in history_of(self.stored) for entry in record.history_entries(one)]
        for line in self.client.ask(lambda store: store.log_lines(self.jid)):
            told.append({**line.fields, **record.log_entry(line)})
        return sorted(told, key=lambda one: float(one["when"]))

    @property
    def spawned_from_jid(self) -> str | None:
        """The recurring job of which it is one."""
        return self.stored.fields.get("rrqd_recurring")

    @property
    def dependencies(self) -> list[str]:
        """The jobs that it still waits for."""
        return [parent.id for parent in self._kinship().parents if parent.waited_for]

    @property
    def dependents(self) -> list[str]:
        """Jobs that wait for this one: the first thousand."""
        return self._kinship().some_children

    @property
    def expires_at(self) -> float:
        """When its worker's lease ends if nobody renews it (rrqd does), epoch seconds; 0 when it does not run."""
        if self._hold is not None and not self.decided:
            return self._hold.heartbeat()
        worker = self.worker_name
        if self.stored.status.value != "ACTIVE" or not worker:
            return 0.0
        return self.client.ask(lambda store: _lease_end(store, worker))

    @property
    def ttl(self) -> float:
        """Seconds until then."""
        return self.expires_at - clock.wall_ms() / 1000

    @property
    def sandbox(self) -> str | None:
        """A folder for this run alone; removed after it. None for a job that was popped by hand."""
        return self._hold.sandbox() if self._hold is not None else None

    # For who holds it.

    def process(self) -> None:
        """Run its class's method: the one named as its queue, else ``process``. An exception fails the job in the group
        ``<queue>-<ExceptionClass>``; a method that says nothing has completed it."""
        self.concluded(lambda: self.method()(self))

    def method(self) -> Callable[[Job], Any]:
        """What is to be run. Raises NameUnknown, or NoMethod."""
        klass = self.klass
        found = getattr(klass, self.queue_name, None) or getattr(klass, "process", None)
        if not callable(found):
            raise NoMethod(f"{self.klass_name} has neither a method {self.queue_name} nor process")
        method: Callable[[Job], Any] = found
        return method

    def concluded(self, run: Callable[[], Any]) -> Any:
        """Run something, and let the job end as it went, unless it was said otherwise meanwhile. Answers what it
        answered, which may have to be awaited first."""
        try:
            answer = run()
        except Exception as fault:
            self.went_wrong(fault)
            return None
        if not inspect.isawaitable(answer):
            self.went_well()
        return answer

    def went_well(self) -> None:
        """Its method has returned."""
        if not self.decided:
            self.complete()

    def went_wrong(self, fault: Exception) -> None:
        """Its method has raised; what it had decided before stands."""
        if self.decided or isinstance(fault, LostLockError):
            return
        match fault:
            case NoMethod():
                kind, message = "method-missing", str(fault)
            case NameUnknown():
                kind = type(fault.__cause__).__name__ if fault.__cause__ is not None else "ImportError"
                message = f"Failed to import {self.klass_name}: {fault}"
            case _:
                kind, message = type(fault).__name__, trace_of(fault)[-MESSAGE_CHARACTERS:]
        self.fail(record.group(f"{self.queue_name}-{kind}"), message)

    def complete(
        self, next_queue: str | None = None, delay: float | None = None, depends: list[str] | None = None
    ) -> str:
        """End it; or let it go on in ``next_queue``, in ``delay`` seconds, when the jobs ``depends`` have completed.
        Answers where it is now: ``complete``, ``waiting``, ``scheduled`` or ``depends``. Raises LostLockError."""
        hold = self._holding("complete")
        if next_queue is None:
            self._store_data(hold)
            hold.complete(None)
            self.decided = True
            return "complete"
        return self._go_on(hold, next_queue, delay or 0.0, depends or [])

    def _go_on(self, hold: Hold, queue: str, delay: float, depends: list[str]) -> str:
        parents = self.client.known(depends)
        params = record.params_of(self._data) if self._changed else None
        hold.complete(NextStep(queue=queue, params=params, delay_seconds=delay, depends_on=parents))
        self.decided = True
        return "depends" if parents else "scheduled" if delay else "waiting"

    def heartbeat(self) -> float:
        """Store changed data and say that the job moves on; answers until when the lease runs (which is renewed without
        this, too), epoch seconds. Raises LostLockError."""
        hold = self._holding("heartbeat")
        self._store_data(hold)
        return hold.heartbeat()

    def fail(self, group: str, message: str) -> str:
        """Give it up, whatever retries it has. It lies in its group until it is moved, unfailed or cancelled. Raises
        LostLockError; ReqlessError for a group that has no name."""
        hold = self._holding("fail")
        with self.client.telling():
            read_group(group)
        self._store_data(hold)
        hold.fail(group, message)
        self.decided = True
        return self.jid

    def retry(self, delay: float = 0, group: str | None = None, message: str | None = None) -> int:
        """Have it run again, in ``delay`` seconds; answers how many retries are left then. Below zero they were used up
        before: then it has failed, in ``group`` or in ``failed-retries-<queue>``. Raises LostLockError."""
        hold = self._holding("retry")
        if group is not None:
            with self.client.telling():
                read_group(group)
        left = self.retries_left - 1
        if left < 0:
            why = message or f'Job exhausted retries in queue "{self.queue_name}"'
            hold.fail(group or record.group(f"failed-retries-{self.queue_name}"), why)
        else:
            hold.retry(delay, message or "Job requested retry")
        self.decided = True
        return left

    def log(self, message: str, data: Mapping[str, Any] | None = None) -> None:
        """Add a line to its history. Raises LostLockError."""
        self._holding("log").log(message, data or {})

    def _holding(self, verb: str) -> Hold:
        if self._hold is None or self.decided:
            raise LostLockError(f"can't {verb} job {self.jid}: it is {self.state}, and not held by this program")
        return self._hold

    def _store_data(self, hold: Hold) -> None:
        if self._changed:
            self.client.store_data(self.jid, hold.token, self._data)
            self._changed = False

    # For everybody.

    def move(self, queue: str, delay: float = 0, depends: list[str] | None = None) -> str:
        """Put it into another queue, as new; answers its id. Who holds it lets go of it."""
        if self._hold is not None and not self.decided:
            self._go_on(self._hold, queue, delay, depends or [])
        else:
            self.client.move(self, queue, delay, depends)
        return self.jid

    def timeout(self) -> None:
        """Take it from its worker, which is told to stop, and let it run again at once. It costs no retry. Raises
        ReqlessError when it does not run."""
        with self.client.telling():
            (said,) = self.client.sync.jobs.timeout(self.jid).values()
        if not said.done:
            raise ReqlessError(f"job {self.jid} does not run: it is {said}")
        self._look_again()

    def cancel(self) -> list[str]:
        """It does not start any more; if it runs, it is stopped. Raises ReqlessError while jobs depend on it."""
        return self.client.cancel(self.jid)

    def track(self) -> bool:
        """Tell of its moves from now on (``client.events``). False when that was so already."""
        return self.client.track(self.jid)

    def untrack(self) -> bool:
        """Tell of them no more."""
        return self.client.untrack(self.jid)

    def tag(self, *tags: str) -> list[str]:
        """Add tags; answers all it has then."""
        return self._tagged(self.client.sync.tags.add, tags)

    def untag(self, *tags: str) -> list[str]:
        """Take tags away; answers those that are left."""
        return self._tagged(self.client.sync.tags.remove, tags)

    def _tagged(self, change: Callable[..., list[str] | None], tags: tuple[str, ...]) -> list[str]:
        with self.client.telling():
            left = change(self.jid, *tags)
        self._look_again()
        return left or []

    def depend(self, *jids: str) -> bool:
        """Let it wait for more jobs. Raises ReqlessError when it has begun, or they wait for it."""
        return self._depend(self.client.sync.dependencies.add, jids)

    def undepend(self, *jids: str, all: bool = False) -> bool:
        """Let it wait no more for these jobs, or, with ``all=True``, for any."""
        if not jids and not all:
            raise ReqlessError("name the jobs not to wait for any more, or say all=True")
        return self._depend(self.client.sync.dependencies.drop, () if all else jids)

    def _depend(self, change: Callable[..., Any], jids: tuple[str, ...]) -> bool:
        with self.client.telling():
            said = change(self.jid, *jids)
        if said in ("too-late", "unknown"):
            raise ReqlessError(f"job {self.jid} can't change what it depends on: it is {said}")
        self._look_again()
        return True

    def _look_again(self) -> None:
        self._whole, self._kin = False, None

    def _kinship(self) -> Kinship:
        if self._kin is None:
            stored = self.stored
            self._kin = self.client.ask(lambda store: store.kinship(stored, MAX_CHILDREN_SHOWN))
        return self._kin


class NoMethod(Exception):
    """The class has no method for the job."""


async def _lease_end(store: Any, worker: str) -> float:
    for node, deadline_ms in (await store.nodes()).items():
        if worker in await store.workers_of(node):
            return float(deadline_ms) / 1000
    return 0.0
