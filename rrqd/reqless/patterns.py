"""``client.queue_patterns``: named lists of queues. A worker takes one as ``-q @name``, a pool in its ``queues``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rrqd.model.queue_patterns import LIST

if TYPE_CHECKING:
    from rrqd.reqless.client import Client

#: The list that is there though nobody made it.
DEFAULT = {"default": ["*"]}


class QueuePatterns:
    """Each list has queues, patterns (``mail-*``) and what they do not mean (``!mail-slow``)."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def get_queue_identifier_patterns(self) -> dict[str, list[str]]:
        """All lists; ``default`` is every queue unless it was set."""
        with self._client.telling():
            told = self._client.sync.config.all()
        return DEFAULT | {key.removeprefix(LIST): value for key, value in told.items() if key.startswith(LIST)}

    def set_queue_identifier_patterns(self, patterns: Mapping[str, Sequence[str]]) -> None:
        """These lists and no others; empty ones are none. Workers hear of it at once. Raises ReqlessError."""
        desk = self._client.sync.config
        with self._client.telling():
            for name, queues in patterns.items():
                if queues:
                    desk.set(LIST + name, list(queues))
            for key in desk.all():
                if key.startswith(LIST) and not patterns.get(key.removeprefix(LIST)):
                    desk.unset(key)
