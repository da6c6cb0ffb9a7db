"""A pool that finds its own size: it grows while due jobs wait too long, and shrinks when it has too little to do.

Pure: what is known and the moment in, a size out. Growing is quick and in steps, shrinking slow and one by one, and a
while must pass after each change before the next: new workers need a moment to show what they can do.
"""

from __future__ import annotations

from dataclasses import dataclass

from rrqd.supervisor.plans import Scaling

GROW_PAUSE_SECONDS = 3.0
IDLE_SECONDS = 30.0
"""So long one worker less would have been enough, before it goes."""
STEP_SHARE = 4


@dataclass(slots=True)
class Size:
    """What is remembered of one pool."""

    changed_at: float = float("-inf")
    roomy_since: float | None = None
    """Since when one worker less would be enough."""

    def advise(self, now: float, pool: Scaling, processes: int, oldest_seconds: float, busy: float) -> int:
        """The size for now. `busy`: jobs that run, as a number of full workers."""
        size = min(max(processes, pool.least), pool.most)
        if oldest_seconds >= pool.latency_seconds:
            self.roomy_since = None
            if size < pool.most and now - self.changed_at >= GROW_PAUSE_SECONDS:
                size = min(pool.most, size + max(1, size // STEP_SHARE))
        elif busy > size - 1 or size <= pool.least:
            self.roomy_since = None
        elif self.roomy_since is None:
            self.roomy_since = now
        elif now - max(self.roomy_since, self.changed_at) >= IDLE_SECONDS:
            size -= 1
        if size != processes:
            self.changed_at = now
            self.roomy_since = None
        return size
