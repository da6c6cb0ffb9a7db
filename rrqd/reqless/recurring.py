"""A recurring job: the template, and the next time of it. Whatever is set is stored at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rrqd.model.recurring import Recurring
from rrqd.reqless import record
from rrqd.reqless.exceptions import ReqlessError
from rrqd.rq.reference import find

if TYPE_CHECKING:
    from rrqd.reqless.client import Client
    from rrqd.reqless.queue import Queue


class RecurringJob:
    """``client.jobs[jid]`` of a ``queue.recur``. Times are seconds."""

    state = "recur"

    def __init__(self, client: Client, template: Recurring) -> None:
        self.client = client
        self.jid = template.id
        self._seen = template

    def __repr__(self) -> str:
        return f"<{self.klass_name} {self.jid}, every {self.interval:g} s>"

    @property
    def klass_name(self) -> str:
        return record.klass_of(self._seen.function)

    @property
    def klass(self) -> Any:
        """The class itself. Raises NameUnknown when it can't be found in this process."""
        return find(self.klass_name)

    @klass.setter
    def klass(self, klass: Any) -> None:
        self._change(function=record.function_of(klass))

    @property
    def queue_name(self) -> str:
        return str(self._seen.options.get("queue_name"))

    @property
    def queue(self) -> Queue:
        return self.client.queues[self.queue_name]

    @property
    def count(self) -> int:
        """Jobs made so far."""
        return self._seen.count

    @property
    def next(self) -> float:
        """When the next one is made, epoch seconds."""
        return self._seen.next_ms / 1000

    @property
    def interval(self) -> float:
        seconds = self._seen.interval_ms / 1000
        return int(seconds) if seconds.is_integer() else seconds

    @interval.setter
    def interval(self, seconds: float) -> None:
        self._change(every_seconds=seconds)

    @property
    def backlog(self) -> int:
        return self._seen.backlog

    @backlog.setter
    def backlog(self, jobs: int) -> None:
        self._change(backlog=jobs)

    @property
    def data(self) -> str:
        """The text of each of its jobs."""
        return record.data_in(self._seen.options.get("params") or {})

    @data.setter
    def data(self, data: Any) -> None:
        self._option("params", record.params_of(record.text_of(data)))

    @property
    def priority(self) -> float:
        return self._seen.options.get("priority") or 0

    @priority.setter
    def priority(self, priority: float) -> None:
        self._option("priority", priority or None)

    @property
    def retries(self) -> int:
        return int(self._seen.options.get("max_retries", record.DEFAULT_RETRIES + 1)) - 1

    @retries.setter
    def retries(self, retries: int) -> None:
        self._option("max_retries", retries + 1)

    @property
    def tags(self) -> list[str]:
        return list(self._seen.options.get("tags", ()))

    @property
    def throttles(self) -> list[str]:
        return list(self._seen.options.get("throttles", ()))

    @throttles.setter
    def throttles(self, throttles: list[str]) -> None:
        self._option("throttles", list(throttles))

    def tag(self, *tags: str) -> list[str]:
        """Give its jobs more tags from now on; answers all of them."""
        self._option("tags", list(dict.fromkeys([*self.tags, *tags])))
        return self.tags

    def untag(self, *tags: str) -> list[str]:
        """Take tags away; answers those that are left."""
        self._option("tags", [one for one in self.tags if one not in tags])
        return self.tags

    def move(self, queue: str) -> bool:
        """Have its jobs put into another queue from now on."""
        self._option("queue_name", queue)
        return True

    def cancel(self) -> bool:
        """No more jobs of it; those that were made stay. False when it was gone already."""
        with self.client.telling():
            return self.client.sync.recurring.remove(self.jid)

    def _option(self, name: str, value: Any) -> None:
        self._change(options={name: value})

    def _change(self, **changes: Any) -> None:
        with self.client.telling():
            now = self.client.sync.recurring.update(self.jid, **changes)
        if now is None:
            raise ReqlessError(f"there is no recurring job {self.jid} any more")
        self._seen = now
