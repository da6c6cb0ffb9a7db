"""``client.queue_patterns``: named lists of queues, and the order in which workers serve them.

A worker takes a list as ``-q @name``, a pool in its ``queues``. The order counts for ``rrqd reqless-worker`` and for
pools with ``queue_order = "buckets"``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rrqd.model.queue_buckets import KEY, Bucket, read_buckets
from rrqd.model.queue_patterns import LIST

if TYPE_CHECKING:
    from rrqd.reqless.client import Client

#: The list that is there though nobody made it.
DEFAULT = {"default": ["*"]}
#: The patterns of the bucket that has the rest.
REST = ["default"]


@dataclass(frozen=True)
class QueuePriorityPattern:
    """A bucket: jobs of its queues come before those of later buckets. ``["default"]`` has the queues that no other
    bucket names. ``should_distribute_fairly``: its queues come first in turn, else as they are listed."""

    patterns: Sequence[str]
    should_distribute_fairly: bool = False


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

    def get_queue_priority_patterns(self) -> list[QueuePriorityPattern]:
        """The buckets, first things first; none: queues are served in turn."""
        stored = self._client.ask(lambda store: store.config())
        return [QueuePriorityPattern(one.queues or REST, one.fairly) for one in read_buckets(stored.get(KEY))]

    def set_queue_priority_patterns(self, patterns: Sequence[QueuePriorityPattern]) -> None:
        """These buckets and no others, the rest last if it is not named. Workers hear of it at once. Raises
        ReqlessError."""
        buckets = [
            Bucket([] if list(one.patterns) == REST else list(one.patterns), one.should_distribute_fairly)
            for one in patterns
        ]
        if buckets and all(one.queues for one in buckets):
            buckets.append(Bucket())
        with self._client.telling():
            if buckets:
                self._client.sync.config.set(KEY, buckets)
            else:
                self._client.sync.config.unset(KEY)
