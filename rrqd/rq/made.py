"""What a Job is made of: a function by name, its arguments, and what was wished for it. Nothing here asks the store.

Rule 1: what a job was made of never changes.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple, Self

from rrqd import clock
from rrqd.rq import record
from rrqd.rq.codec import encode
from rrqd.rq.connection import Connection, connect
from rrqd.rq.reference import MAIN, PREFIX, find, path_of, script, split
from rrqd.rq.values import Callback, seconds_of

CALLBACKS = ("on_success", "on_failure", "on_stopped")


class CallbackWish(NamedTuple):
    """What to call after a job, by name, and how many seconds it may take (None: what is left of the job's)."""

    path: str
    timeout: int | None = None

    @property
    def stored(self) -> Any:
        """As it stands among a job's wishes."""
        return self.path if self.timeout is None else [self.path, self.timeout]

    @classmethod
    def read(cls, stored: Any) -> CallbackWish | None:
        """From a job's wishes; None for what is none."""
        match stored:
            case str():
                return cls(stored)
            case [str(path), int(timeout)]:
                return cls(path, timeout)
        return None


def _callback(given: Any) -> CallbackWish:
    wish = given if isinstance(given, Callback) else Callback(given)
    return CallbackWish(_name_of(wish.func)[1].removeprefix(PREFIX), wish.timeout)


class Made:
    """The part of :class:`~rrqd.rq.job.Job` that is known before it is stored."""

    def __init__(
        self,
        func: Any = None,
        args: Iterable[Any] = (),
        kwargs: dict[str, Any] | None = None,
        result_ttl: Any = None,
        timeout: Any = None,
        job_id: str | None = None,
        description: str | None = None,
        *,
        failure_ttl: Any = None,
        ttl: Any = None,
        meta: dict[str, Any] | None = None,
        on_success: Any = None,
        on_failure: Any = None,
        on_stopped: Any = None,
        connection: Any = None,
        origin: str | None = None,
        serializer: Any = None,
    ) -> None:
        self.id = job_id or str(uuid.uuid4())
        self.func_name, self.function = _name_of(func)
        self.args = tuple(args)
        self.kwargs = dict(kwargs or {})
        if hasattr(func, "__self__") and not isinstance(func.__self__, type) and not hasattr(func.__self__, "__name__"):
            self.args = (func.__self__, *self.args)
        self.timeout = seconds_of(timeout, "timeout")
        self.result_ttl = seconds_of(result_ttl, "result_ttl")
        self.failure_ttl = seconds_of(failure_ttl, "failure_ttl")
        self.ttl = seconds_of(ttl, "ttl")
        if meta is not None and not isinstance(meta, dict):
            raise ValueError(f"meta must be a dict, not {meta!r}")
        self.meta: dict[str, Any] = dict(meta or {})
        self.origin = origin or "default"
        self.serializer = record.serializer_of(serializer)
        self.callbacks: dict[str, CallbackWish] = {
            name: _callback(given)
            for name, given in zip(CALLBACKS, (on_success, on_failure, on_stopped), strict=True)
            if given is not None
        }
        self._description = description
        self._connection = connection
        self.made_at = clock.wall()

    @classmethod
    def create(cls, func: Any, args: Iterable[Any] = (), kwargs: dict[str, Any] | None = None, **options: Any) -> Self:
        """RQ's spelling of the constructor (``id`` for ``job_id``)."""
        if "id" in options:
            options["job_id"] = options.pop("id")
        return cls(func, args, kwargs, **options)

    def __repr__(self) -> str:
        return f"<Job {self.id}: {self.description}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Made) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    # What it is.

    def get_id(self) -> str:
        """RQ's other spelling of ``id``."""
        return self.id

    @property
    def connection(self) -> Connection:
        """Where it lies."""
        if not isinstance(self._connection, Connection):
            self._connection = connect(self._connection)
        return self._connection

    @property
    def func(self) -> Any:
        """The function itself. Raises NameUnknown when it can't be found in this process."""
        return find(self.function.removeprefix(PREFIX))

    @property
    def description(self) -> str:
        """The one given, or the call as one would write it."""
        if self._description is not None:
            return self._description
        shown = [repr(value) for value in self.args] + [f"{name}={value!r}" for name, value in self.kwargs.items()]
        return f"{self.func_name}({', '.join(shown)})"

    @property
    def created_at(self) -> datetime:
        return self.made_at

    # For the queue.

    @property
    def subject(self) -> str:
        """What signatures are bound to."""
        return f"{self.id} {self.function}"

    def params(self) -> dict[str, Any]:
        wishes: dict[str, Any] = {}
        for name, value in (
            ("description", self._description), ("result_ttl", self.result_ttl), ("failure_ttl", self.failure_ttl),
            ("ttl", self.ttl), *((name, wish.stored) for name, wish in self.callbacks.items()),
        ):  # fmt: skip
            if value is not None:
                wishes[name] = value
        if self.meta:
            wishes["meta"] = encode(self.meta, "meta")
        paths = (self.function.removeprefix(PREFIX), *(wish.path for wish in self.callbacks.values()))
        if any(split(path)[0] == MAIN for path in paths):
            wishes["script"] = script()
        call = record.Call(self.args, self.kwargs)
        return record.write_call(call, wishes, self.serializer, self.subject, lambda: self.connection.signing_key)

    def lies_in(self, connection: Connection) -> None:
        """Told by the queue that stores it."""
        self._connection = connection


def _name_of(func: Any) -> tuple[str, str]:
    """The name as RQ shows it and as it is stored."""
    if isinstance(func, str):
        module, name = split(func)
        return f"{module}.{name}", f"{PREFIX}{func}"
    path = path_of(func)
    return path.replace(":", "."), f"{PREFIX}{path}"
