"""When to claim. The worker asks this object; it knows wake-ups, due times, polls and reservations, but no store.

Rule 1: never more than there are free slots, and nothing while a suspect runs (or waits to run) alone.
Rule 2: after a claim that did not fill up, nothing is asked again before somebody says there is work: a wake-up, a job
        that becomes due, or the slow safety poll.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
from collections.abc import Callable

from rrqd.store import Claim

HOLD_SECONDS = 30.0
"""How long room is kept for a suspect that is to run alone. By then another worker may have had it."""

LATEST_POLL = 1.5
"""Of the idle poll's interval: so late at most, and whoever has room has asked by then."""


class Fetcher:
    """The appetite of one worker. ``stir`` is called when a claim may be worth while."""

    def __init__(
        self, slots: int, wake_fd: int, idle_poll_seconds: float, stir: Callable[[], None], woken: Callable[[], None]
    ) -> None:
        self._slots = slots
        self._wake_fd = wake_fd
        self._idle_poll_seconds = idle_poll_seconds
        self._stir = stir
        self._woken = woken
        self._loop = asyncio.get_running_loop()
        self._hungry = True
        self._called_meanwhile = False
        self._listening = False
        self._timer: asyncio.TimerHandle | None = None
        self._waits_to_be_alone = False
        self._heard_at = self._loop.time()
        self._due_in_seconds: float | None = None
        self.closed = False
        self._quiet_for: set[str] = set()

    def room(self, running: int) -> int:
        """How many jobs to claim now; 0 for none."""
        if self.closed or self._quiet_for or not self._hungry or (self._waits_to_be_alone and running):
            return 0
        return max(0, self._slots - running)

    def is_deaf(self) -> bool:
        """Whether nothing was asked for so long that it is time to ask, even with no room: what was cancelled, and
        whether this worker is still one, comes with the answer."""
        return self._loop.time() - self._heard_at >= LATEST_POLL * self._idle_poll_seconds

    def ask(self) -> None:
        """A claim is about to be sent: who calls from now on may mean what it does not see."""
        self._called_meanwhile = False

    def learn(self, claim: Claim, asked: int) -> None:
        """Take in what a claim for ``asked`` jobs answered. One for none only made us hear."""
        self._heard_at = self._loop.time()
        if not asked:
            return
        alone = any(job.alone for job in claim.jobs)
        self._waits_to_be_alone = claim.hold or alone
        self._hungry = claim.full or claim.more or claim.hold or alone or self._called_meanwhile
        if claim.full:
            self.wake_next()
        self._due_in_seconds = None
        if not self._hungry and not claim.jobs:
            due_ms = math.inf if claim.next_due_ms is None else claim.next_due_ms - claim.now_ms
            self._due_in_seconds = max(0.0, due_ms / 1000)
        if claim.hold:
            self._look_again_in(HOLD_SECONDS, self._held_long_enough)
        elif not self._hungry:
            seconds = self._idle_poll_seconds * random.uniform(0.5, LATEST_POLL)
            if claim.next_due_ms is not None:
                seconds = min(seconds, max(0.0, (claim.next_due_ms - claim.now_ms) / 1000))
            self._look_again_in(seconds)

    def is_dry(self, horizon_seconds: float) -> bool:
        """Whether the last claim found nothing, and nothing comes due within the horizon. A wake-up since makes that
        unknown."""
        return self._due_in_seconds is not None and self._due_in_seconds > horizon_seconds

    def wake(self) -> None:
        """Somebody says that there may be work."""
        if not self.closed:
            self._now()

    def look_again_in(self, seconds: float) -> None:
        """Not now: the lease is not live, or the server is away."""
        self._hungry = False
        self._look_again_in(seconds)

    def _look_again_in(self, seconds: float, look: Callable[[], None] | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, look or self._now)

    def _now(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._hungry = self._called_meanwhile = True
        self._due_in_seconds = None
        self._stir()

    def _held_long_enough(self) -> None:
        self._waits_to_be_alone = False
        self._now()

    def listen(self, running: int) -> None:
        """Going idle: hear wake-ups if there is a free slot. Busy workers do not listen, so that the wake-up stays for
        one that can act on it."""
        deaf = self._wake_fd < 0 or self.closed or bool(self._quiet_for) or self._waits_to_be_alone
        wanted = not deaf and running < self._slots
        if wanted and not self._listening:
            self._loop.add_reader(self._wake_fd, self._heard)
        elif self._listening and not wanted:
            self._loop.remove_reader(self._wake_fd)
        self._listening = wanted

    def _heard(self) -> None:
        try:
            os.eventfd_read(self._wake_fd)
        except BlockingIOError:
            return  # another worker of the pool was faster
        self._woken()
        self._now()

    def wake_next(self) -> None:
        """There may be more than fits here: let an idle neighbour look."""
        if self._wake_fd >= 0:
            try:
                os.eventfd_write(self._wake_fd, 1)
            except BlockingIOError:
                pass

    def quieten(self, quiet: bool, whose_wish: str) -> None:
        """No claims while anybody wishes so. A wake-up that was heard meanwhile is for a neighbour."""
        before = bool(self._quiet_for)
        (self._quiet_for.add if quiet else self._quiet_for.discard)(whose_wish)
        if before == bool(self._quiet_for):
            return
        if quiet:
            self.wake_next()
            self._stir()
        else:
            self._now()

    def close(self) -> None:
        """No claims any more."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._listening:
            self._loop.remove_reader(self._wake_fd)
            self._listening = False
