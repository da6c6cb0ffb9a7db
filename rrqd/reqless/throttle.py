"""``client.throttles["api"]``: how many jobs run at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rrqd.reqless.client import Client
    from rrqd.store.throttles import ThrottleRow

ABSENT, FOR_EVER = -2, -1
ALL = 1_000_000


class Throttle:
    """A limit by name. ``queue:<name>`` is a queue's own (``queue.throttle``)."""

    def __init__(self, name: str, client: Client) -> None:
        self.name = name
        self._client = client

    def __repr__(self) -> str:
        return f"<Throttle {self.name}>"

    def maximum(self) -> int:
        """How many jobs may run; 0: any number."""
        return self._row().limit or 0

    def set_maximum(self, maximum: int | None = None, expiration: float | None = None) -> None:
        """Change the limit (0 lifts it; left out, it stays), for ``expiration`` seconds or for ever."""
        wanted = self.maximum() if maximum is None else maximum
        with self._client.telling():
            if wanted:
                self._client.sync.throttles.set(self.name, wanted, expires_seconds=expiration or None)
            else:
                self._client.sync.throttles.delete(self.name)

    def ttl(self) -> int:
        """Seconds until the limit is lifted by itself; -1: it stays; -2: there is none."""
        row = self._row()
        if row.limit is None:
            return ABSENT
        return FOR_EVER if row.seconds_left is None else max(1, round(row.seconds_left))

    def delete(self) -> None:
        """Lift the limit; all that wait for it are let go."""
        self.set_maximum(0)

    def locks(self) -> list[str]:
        """Ids of the jobs that run under it."""
        with self._client.telling():
            return self._client.sync.throttles.running(self.name)

    def pending(self) -> list[str]:
        """Ids of jobs that wait for it, in their order."""
        with self._client.telling():
            return self._client.sync.throttles.waiting(self.name, limit=ALL)

    def release(self, *jids: str) -> int:
        """Count these jobs no more, though they may run on; answers how many did."""
        with self._client.telling():
            return self._client.sync.throttles.release(self.name, *jids)

    def _row(self) -> ThrottleRow:
        with self._client.telling():
            return self._client.sync.throttles.get(self.name)


class Throttles:
    """``client.throttles``: throttles by name."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getitem__(self, name: str) -> Throttle:
        return Throttle(name, self._client)
