"""In which order a claim tries a worker's queues, and how many jobs it takes from each at first. Pure.

A claim takes from each queue its share, in order, then whatever is left, in the same order. So no queue starves, and
no free slot stays empty while any queue has work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from math import ceil, gcd
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from rrqd.model.queue_buckets import Bucket, sort_into
from rrqd.store import Claim

if TYPE_CHECKING:
    from rrqd.config.pool_table import PoolSettings

QUEUES_MOST = 100
"""In one claim: a hundred to five hundred commands when they are empty, by what has lain in them."""


class Portion(NamedTuple):
    """One queue in a claim; ``share``: what it may take before the others have had theirs."""

    queue: str
    share: int


class QueueOrder:
    """The order of one worker. ``weights``: a queue of weight 3 is served three times as often as one of 1, which is
    what those not named have; without any, all are served alike. ``strict``: earlier queues always come first."""

    def __init__(
        self, queues: Sequence[str], *, strict: bool = False, weights: Mapping[str, int] | None = None
    ) -> None:
        self._queues = list(queues)
        self._weights = {queue: (weights or {}).get(queue, 1) for queue in queues}
        self._total = sum(self._weights.values())
        self._cycle = self._queues if strict else interleave(self._weights)
        self.strict = strict
        self.parts = ceil(len(self._cycle) / QUEUES_MOST) if len(self._queues) > QUEUES_MOST else 1

    def plan(self, turn: int, limit: int, part: int = 0) -> list[Portion]:
        """What the claim of this turn does with ``limit`` free slots. ``part``, of ``parts``: where it is to look."""
        if not self._queues:
            return []  # patterns that nothing matches yet
        start = part * QUEUES_MOST
        if self.strict:
            return [Portion(queue, limit) for queue in self._queues[start : start + QUEUES_MOST]]
        start = (turn + start) % len(self._cycle)
        order = list(dict.fromkeys(self._cycle[start:] + self._cycle[:start]))[:QUEUES_MOST]
        total = self._total if self.parts == 1 else sum(self._weights[queue] for queue in order)
        return [Portion(queue, ceil(limit * self._weights[queue] / total)) for queue in order]


class BucketOrder(QueueOrder):
    """Jobs of an earlier bucket always come first. ``weights`` count in the fair ones."""

    def __init__(
        self, queues: Sequence[str], buckets: Sequence[Bucket], *, weights: Mapping[str, int] | None = None
    ) -> None:
        super().__init__(queues, strict=True, weights=weights)
        self._buckets = sort_into(buckets, queues)
        self._cycles = [
            interleave({queue: self._weights[queue] for queue in one.queues}) if one.fairly else one.queues
            for one in self._buckets
        ]

    def plan(self, turn: int, limit: int, part: int = 0) -> list[Portion]:
        """See :meth:`QueueOrder.plan`."""
        order: dict[str, None] = {}
        for bucket, cycle in zip(self._buckets, self._cycles, strict=True):
            start = turn % len(cycle) if bucket.fairly else 0
            order |= dict.fromkeys(cycle[start:] + cycle[:start])
        return [Portion(queue, limit) for queue in islice(order, part * QUEUES_MOST, (part + 1) * QUEUES_MOST)]


class Rounds:
    """The claims of a worker. One that serves more queues than a claim may look at takes them part by part, and rests
    only when all parts in a row had nothing left."""

    def __init__(self, order: QueueOrder) -> None:
        self._order = order
        self._turn = self._part = 0
        self._left = order.parts
        self._next_due_ms: float | None = None

    def plan(self, turn: int, limit: int) -> list[Portion]:
        """Where the next claim looks."""
        if self._part == 0:
            self._turn = turn
        return self._order.plan(self._turn, limit, self._part)

    def learn(self, claim: Claim) -> Claim:
        """What a claim found, in the light of those before it: ``more`` while there are parts to be looked at, and the
        next due time of all queues when there are none."""
        parts = self._order.parts
        if parts == 1:
            return claim
        first = self._order.strict and bool(claim.jobs)  # earlier queues may have new ones by now
        self._part = 0 if first else (self._part + 1) % parts
        self._left = parts if claim.full or first else self._left - 1
        dues = [due for due in (claim.next_due_ms, self._next_due_ms) if due is not None]
        self._next_due_ms = min(dues, default=None)
        if self._left > 0:
            return msgspec.structs.replace(claim, more=True)
        due, self._next_due_ms, self._left = self._next_due_ms, None, parts
        return msgspec.structs.replace(claim, next_due_ms=due)


def rounds_of(pool: PoolSettings, queues: Sequence[str], buckets: Sequence[Bucket]) -> Rounds:
    """The claims of a worker of this pool; ``buckets``: those that count in it."""
    if buckets:
        return Rounds(BucketOrder(queues, buckets, weights=pool.queue_weights))
    return Rounds(QueueOrder(queues, strict=pool.queue_order == "strict", weights=pool.queue_weights))


def interleave(weights: Mapping[str, int]) -> list[str]:
    """Each name as often as its weight says, spread as evenly as can be: a round of who comes first."""
    if len(set(weights.values())) <= 1:
        return list(weights)
    divisor = gcd(*weights.values())
    parts = {name: weight // divisor for name, weight in weights.items()}
    total = sum(parts.values())
    credit = dict.fromkeys(parts, 0)
    round_: list[str] = []
    for _ in range(total):
        for name, part in parts.items():
            credit[name] += part
        first = max(parts, key=lambda name: credit[name])
        credit[first] -= total
        round_.append(first)
    return round_
