"""``client.config``: configuration that lies in the store, under reqless' names.

Those that mean something to rrqd are its own keys, of all queues or (``mail-heartbeat``) of one; every other name is
the application's.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from rrqd.model.queue_buckets import KEY as BUCKETS
from rrqd.model.queue_config import OWN
from rrqd.model.queue_patterns import LIST

if TYPE_CHECKING:
    from rrqd.reqless.client import Client

KEYS = {
    "heartbeat": "heartbeat_seconds",
    "grace-period": "grace_seconds",
    "jobs-history": "history_seconds",
    "jobs-history-count": "history_count",
    "max-job-history": "job_history_count",
}
_NAMES = {key: name for name, key in KEYS.items()}
#: A queue's own: ``<queue>-heartbeat``.
_OF_QUEUE = "-heartbeat"


class Config(MutableMapping[str, Any]):
    """A mapping of what is said; what is not said (KeyError) is as the daemon's file has it. Numbers are numbers, an
    application's own values are text. Raises ReqlessError for a value that means nothing."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def all(self) -> dict[str, Any]:
        """Everything that is said, of single queues, too."""
        fields = self._client.ask(lambda store: store.config())
        queues = {queue for _, _, queue in (field.partition(" ") for field in fields) if queue}
        with self._client.telling():
            desk = self._client.sync.config
            plain = {key: value for key, value in desk.all().items() if not key.startswith(LIST) and key != BUCKETS}
            told = {_NAMES.get(key, key.removeprefix(OWN)): value for key, value in plain.items()}
            for queue in sorted(queues):
                seconds = desk.get("heartbeat_seconds", queue)
                if seconds is not None:
                    told[queue + _OF_QUEUE] = seconds
        return told

    def __getitem__(self, name: str) -> Any:
        return self.all[name]

    def __setitem__(self, name: str, value: Any) -> None:
        key, queue = _key(name)
        with self._client.telling():
            self._client.sync.config.set(key, value, queue)

    def __delitem__(self, name: str) -> None:
        key, queue = _key(name)
        with self._client.telling():
            if not self._client.sync.config.unset(key, queue):
                raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.all)

    def __len__(self) -> int:
        return len(self.all)

    def pop(self, option: str, default: Any = None) -> Any:
        """What was said of it, and is no more; ``default`` when nothing was."""
        value = self.all.get(option)
        if value is None:
            return default
        del self[option]
        return value

    def clear(self) -> None:
        """Say nothing any more."""
        for name in self.all:
            self.pop(name)


def _key(name: str) -> tuple[str, str | None]:
    """rrqd's key, and the queue if it is one's own."""
    if name in KEYS:
        return KEYS[name], None
    if name.endswith(_OF_QUEUE) and name != _OF_QUEUE:
        return KEYS["heartbeat"], name.removesuffix(_OF_QUEUE)
    return OWN + name, None
