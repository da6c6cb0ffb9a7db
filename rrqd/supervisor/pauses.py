"""Who said pause, and waits for it to be true.

A worker that is told to take no more jobs may have asked for some a moment ago. So it answers when nothing that it
asked for is under way any more, and the operator is answered when all workers of the pools have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

from rrqd.supervisor.children import Child, Phase, State

HEAR_SECONDS = 2.0
"""How long workers get to answer (one may hang, or wait for a lost server); then those who have not are named."""


@dataclass(slots=True)
class _Waiting:
    pools: Collection[str]
    until: float
    answer: Callable[[list[str]], None]


class Pauses:
    def __init__(self, state: State) -> None:
        self.state = state
        self._waiting: list[_Waiting] = []

    def begin(self, now: float, pools: Collection[str], answer: Callable[[list[str]], None]) -> None:
        """`answer` is called with the names of the workers that have not been heard: none, if all went well."""
        self._waiting.append(_Waiting(pools, now + HEAR_SECONDS, answer))

    def turn(self, now: float) -> None:
        """Answer whom an answer can be given."""
        for one in list(self._waiting):
            unheard = self._unheard(one.pools)
            if not unheard or one.until <= now:
                self._waiting.remove(one)
                one.answer(unheard)

    @property
    def next_moment(self) -> float:
        """When `turn` has something to do though nobody said anything."""
        return min((one.until for one in self._waiting), default=math.inf)

    def _unheard(self, pools: Collection[str]) -> list[str]:
        return [f"{one.name}/{one.slot}" for one in self.state.workers() if one.name in pools and _may_take_jobs(one)]


def _may_take_jobs(worker: Child) -> bool:
    """One that starts hears of the pause before it can ask; one that leaves asks no more."""
    return worker.phase is Phase.READY and not worker.hushed
