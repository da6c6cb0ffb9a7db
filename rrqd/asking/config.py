"""``client.config``: configuration that lies in the store, for all machines."""

from __future__ import annotations

from typing import Any

from rrqd.asking.desk import Ask, Run
from rrqd.model import checks
from rrqd.model.job import short_queue_name
from rrqd.model.queue_config import check, check_key, field_of, read


class Config:
    """Values for all queues, and for single ones: what is said of a queue counts there, else what is said of all, else
    the settings of whoever runs the job. Workers hear of a change at once.

    The keys: ``heartbeat_seconds``, ``grace_seconds``, ``history_seconds``, ``history_count``, ``job_history_count``;
    and, for an application's own use, any name that begins with ``app.``, whose values are text.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def all(self, queue: str | None = None) -> dict[str, Any]:
        """What is said of all queues, or what counts in one."""
        home = _queue(queue)
        stored = await self._ask(lambda store: store.config())
        keys = {field for field in stored if " " not in field}
        if home is not None:
            keys |= {key for key, _, name in (field.partition(" ") for field in stored) if name == home}
            stored = {key: stored.get(field_of(key, home), stored.get(key, "")) for key in keys}
        found = {key: read(key, stored[key]) for key in sorted(keys)}
        return {key: value for key, value in found.items() if value is not None}

    async def get(self, key: str, queue: str | None = None) -> Any:
        """One of these; ``None`` when nothing is said. Raises InvalidRequest for a key that there is none of."""
        return (await self.all(queue)).get(check_key(key))

    async def set(self, key: str, value: Any, queue: str | None = None) -> None:
        """Say it, of one queue or of all. Raises InvalidRequest."""
        text, home = check(key, value), _queue(queue)
        await self._ask(lambda store: store.set_config(key, text, home))

    async def unset(self, key: str, queue: str | None = None) -> bool:
        """Say nothing any more; false when nothing was said. What is said of single queues stays in any case."""
        check_key(key)
        home = _queue(queue)
        return await self._ask(lambda store: store.unset_config(key, home)) is not None


def _queue(name: str | None) -> str | None:
    return None if name is None else short_queue_name(checks.name(name, "queue"))


class SyncConfig:
    """:class:`Config` for plain code."""

    def __init__(self, run: Run, desk: Config) -> None:
        self._run = run
        self._desk = desk

    def all(self, queue: str | None = None) -> dict[str, Any]:
        """See :meth:`Config.all`."""
        return self._run(self._desk.all(queue))

    def get(self, key: str, queue: str | None = None) -> Any:
        """See :meth:`Config.get`."""
        return self._run(self._desk.get(key, queue))

    def set(self, key: str, value: Any, queue: str | None = None) -> None:
        """See :meth:`Config.set`."""
        self._run(self._desk.set(key, value, queue))

    def unset(self, key: str, queue: str | None = None) -> bool:
        """See :meth:`Config.unset`."""
        return self._run(self._desk.unset(key, queue))
