"""The shape of everything the steward does for everybody: a name, an interval, and ``run_once(now)``.

Rule 1: a chore decides from what the store says and from ``now`` (monotonic seconds); tests call ``run_once`` by hand.
Rule 2: the loop around it is here, once: jitter, no overlap, a lost server is waited out and not reported per chore,
and what fails at each turn is told ever more seldom.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from rrqd import clock
from rrqd.exc import NotLetIn, StoreError, StoreUnavailable
from rrqd.reminder import Reminder


class Chore(Protocol):
    """One duty. ``interval_seconds`` between the end of one run and the start of the next."""

    name: str
    interval_seconds: float

    async def run_once(self, now: float) -> None:
        """Do it. Raises StoreError when the server does not let it."""


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
