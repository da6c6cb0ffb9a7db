"""In which order a claim tries a worker's queues, and how many jobs it takes from each at first. Pure.

A claim takes from each queue its share, in order, then whatever is left, in the same order. So no queue starves, and
no free slot stays empty while any queue has work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, gcd
from typing import NamedTuple


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
        self._strict = strict
        self._weights = {queue: (weights or {}).get(queue, 1) for queue in queues}
        self._total = sum(self._weights.values())
        self._cycle = [self._queues[0]] if strict else interleave(self._weights)

    def plan(self, turn: int, limit: int) -> list[Portion]:
        """What the claim of this turn does with ``limit`` free slots."""
        if self._strict:
            return [Portion(queue, limit) for queue in self._queues]
        start = turn % len(self._cycle)
        order = dict.fromkeys(self._cycle[start:] + self._cycle[:start])
        return [Portion(queue, ceil(limit * self._weights[queue] / self._total)) for queue in order]


def interleave(weights: Mapping[str, int]) -> list[str]:
    """Each name as often as its weight says, spread as evenly as can be: a round of who comes first."""
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
