"""The server comes and goes: told at once each way, ever more seldom between; asked again with a growing pause."""

from __future__ import annotations

import random
from typing import Any

from rrqd import clock
from rrqd.events import Event
from rrqd.exc import StoreError
from rrqd.reminder import Reminder

RETRY_SECONDS = (0.05, 2.0)


class Outage:
    """One worker's view of the server."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._pause = RETRY_SECONDS[0]
        self._reminder = Reminder()
        self.lasts = False

    def failed(self, fault: StoreError, running: int) -> float:
        """A call failed. Answers how long to wait before the next, in seconds, with jitter."""
        self.lasts = True
        now = clock.monotonic()
        if self._reminder.due(now, str(fault)):
            seconds = self._reminder.lasting(now)
            self._log.error(Event.STORE_LOST, error=str(fault), running=running, seconds=seconds)
        pause = self._pause * random.uniform(0.5, 1.5)
        self._pause = min(self._pause * 2, RETRY_SECONDS[1])
        return pause

    def over(self) -> None:
        """A call was answered."""
        if self.lasts:
            self.lasts = False
            self._reminder.over()
            self._log.warning(Event.STORE_BACK)
        self._pause = RETRY_SECONDS[0]
