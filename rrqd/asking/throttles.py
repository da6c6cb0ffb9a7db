"""``client.throttles``: how many jobs run at a time."""

from __future__ import annotations

from rrqd.asking.desk import Ask, Run
from rrqd.exc import InvalidRequest
from rrqd.model import checks
from rrqd.model.names import MAX_THROTTLE_BYTES, QUEUE_THROTTLE
from rrqd.store.throttles import ThrottleRow

MAX_LIMIT = 1_000_000_000


class Throttles:
    """Limits by name. A job that is enqueued with ``throttles=["api"]`` runs under that one, in whatever queue; the
    limit of a queue itself is called ``queue:<name>``."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def set(self, name: str, limit: int, *, expires_seconds: float | None = None) -> bool:
        """At most ``limit`` jobs at a time (0: none), from the next claim on, for ever or for so long. Answers whether
        there was no such limit before. Jobs that wait and fit now are let go at once."""
        name, limit = check_throttle(name), check_limit(limit)
        if expires_seconds is not None and checks.seconds(expires_seconds, "expires_seconds") == 0:
            raise InvalidRequest("expires_seconds must be more than 0")
        return await self._ask(lambda store: store.set_throttle(name, limit, expires_seconds=expires_seconds))

    async def delete(self, name: str) -> bool:
        """Lift a limit; false when there was none."""
        return await self._ask(lambda store: store.delete_throttle(name))

    async def release(self, name: str, *job_ids: str) -> int:
        """Count these jobs no more, though they may run on; answers how many did count."""
        return await self._ask(lambda store: store.free_throttle(name, job_ids))

    async def get(self, name: str) -> ThrottleRow:
        """How a throttle stands; one that was never set has no limit."""
        return (await self._ask(lambda store: store.throttle_rows([name])))[0]

    async def all(self) -> list[ThrottleRow]:
        """All that were set, and those at which jobs wait."""
        names = await self._ask(lambda store: store.throttle_names())
        return await self._ask(lambda store: store.throttle_rows(names))

    async def running(self, name: str) -> list[str]:
        """Ids of the jobs that hold it."""
        return await self._ask(lambda store: store.throttle_holders(name))

    async def waiting(self, name: str, *, offset: int = 0, limit: int = 25) -> list[str]:
        """Ids of jobs that wait for it, in order."""
        return await self._ask(lambda store: store.throttle_waiting(name, offset=offset, limit=limit))


def check_throttle(name: str) -> str:
    """A name that a throttle can have. Raises InvalidRequest."""
    if checks.name(name, "throttle", MAX_THROTTLE_BYTES) == QUEUE_THROTTLE:
        raise InvalidRequest(f"throttle {name!r} names no queue")
    return name


def check_limit(limit: int) -> int:
    """A whole number of jobs. Raises InvalidRequest."""
    if isinstance(limit, bool) or not isinstance(limit, int) or not 0 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"limit must be a whole number from 0 to {MAX_LIMIT}, not {limit!r}")
    return limit


class SyncThrottles:
    """:class:`Throttles` for plain code."""

    def __init__(self, run: Run, desk: Throttles) -> None:
        self._run = run
        self._desk = desk

    def set(self, name: str, limit: int, *, expires_seconds: float | None = None) -> bool:
        """See :meth:`Throttles.set`."""
        return self._run(self._desk.set(name, limit, expires_seconds=expires_seconds))

    def delete(self, name: str) -> bool:
        """See :meth:`Throttles.delete`."""
        return self._run(self._desk.delete(name))

    def release(self, name: str, *job_ids: str) -> int:
        """See :meth:`Throttles.release`."""
        return self._run(self._desk.release(name, *job_ids))

    def get(self, name: str) -> ThrottleRow:
        """See :meth:`Throttles.get`."""
        return self._run(self._desk.get(name))

    def all(self) -> list[ThrottleRow]:
        """See :meth:`Throttles.all`."""
        return self._run(self._desk.all())

    def running(self, name: str) -> list[str]:
        """See :meth:`Throttles.running`."""
        return self._run(self._desk.running(name))

    def waiting(self, name: str, *, offset: int = 0, limit: int = 25) -> list[str]:
        """See :meth:`Throttles.waiting`."""
        return self._run(self._desk.waiting(name, offset=offset, limit=limit))
