"""The shape of everything the steward does for everybody: a name, an interval, and ``run_once(now)``.

Rule 1: a chore decides from what the store says and from ``now`` (monotonic seconds); tests call ``run_once`` by hand.
Rule 2: the loop around it is here, once: jitter, no overlap, a lost server is waited out and not reported per chore,
and what fails at each turn is told ever more seldom.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from rrqd import clock
from rrqd.exc import NotLetIn, StoreError, StoreUnavailable
from rrqd.reminder import Reminder
from rrqd.store import Store


class Chore(Protocol):
    """One duty. ``interval_seconds`` between the end of one run and the start of the next."""

    name: str
    interval_seconds: float

    async def run_once(self, now: float) -> None:
        """Do it. Raises StoreError when the server does not let it."""


class Occasion:
    """Whether there is anything at all for those chores that mostly have nothing to do: asked once for all of them."""

    SECONDS = 0.9

    def __init__(self, store: Store) -> None:
        self._store = store
        self._asked_at = -math.inf
        self._is_there = False

    async def is_there(self, now: float) -> bool:
        if now - self._asked_at >= self.SECONDS:
            self._is_there = await self._store.has_upkeep()
            self._asked_at = now
        return self._is_there


class OnOccasion:
    """A chore that is left out while there is nothing to do: an idle node asks the server one thing a second."""

    def __init__(self, chore: Chore, occasion: Occasion) -> None:
        self._chore = chore
        self._occasion = occasion
        self.name = chore.name
        self.interval_seconds = chore.interval_seconds

    async def run_once(self, now: float) -> None:
        if await self._occasion.is_there(now):
            await self._chore.run_once(now)


class Rota:
    """Runs chores until cancelled; one that fails is tried again at its next turn, the others go on."""

    def __init__(self, chores: Sequence[Chore], log: Any, on_unavailable: Callable[[StoreError], None]) -> None:
        self._chores = chores
        self._log = log
        self._on_unavailable = on_unavailable

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            for chore in self._chores:
                group.create_task(self._go_round(chore), name=f"chore:{chore.name}")

    async def _go_round(self, chore: Chore) -> None:
        reminder = Reminder()
        while True:
            try:
                await chore.run_once(clock.monotonic())
                reminder.over()
            except (StoreUnavailable, NotLetIn) as fault:
                self._on_unavailable(fault)
            except Exception as fault:  # one bad turn must not end the steward, whatever it was
                if reminder.due(clock.monotonic(), str(fault)):
                    self._log.error("chore.failed", chore=chore.name, error=str(fault), type=type(fault).__name__)
            await asyncio.sleep(chore.interval_seconds * random.uniform(0.85, 1.15))
