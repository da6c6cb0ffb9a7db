"""How failures are held against a label: pauses that grow, and a bucket of tokens.

Pure: moments and dice are arguments.
"""

from __future__ import annotations

from dataclasses import dataclass

BACKOFF_FIRST_SECONDS = 0.1
BACKOFF_CEILING_SECONDS = 30.0
BACKOFF_READY_CEILING_SECONDS = 2.0
"""For what did start: some job, or somebody, ended it. A queue with several jobs that take their worker down must get
through them to the good ones behind, and each may do so several times before it is buried."""
BUCKET_TOKENS = 5
BUCKET_SECONDS = 60.0
"""So many failures for each process in so much time, then a pool is degraded."""


@dataclass(slots=True)
class Backoff:
    """What we remember of failures under one label.

    Besides the pauses there is a bucket: each failure takes a token, each finished job and a minute without failures
    put some back. While it is empty the label is *degraded*: one process at a time is tried, and readiness says so.
    """

    size: int = BUCKET_TOKENS
    tokens: float = BUCKET_TOKENS
    filled_at: float = 0.0
    failures: int = 0
    not_before: float = 0.0
    boot_failures: int = 0
    config_error: str = ""
    last_error: str = ""

    def failed(self, now: float, chance: float, ceiling_seconds: float = BACKOFF_CEILING_SECONDS) -> None:
        """One more failure: 0, then up to 0.1, 0.2, 0.4 … seconds, with full jitter."""
        self.failures += 1
        self.refill(now, 0)
        self.tokens = max(0.0, self.tokens - 1.0)
        if self.failures > 1:
            ceiling = BACKOFF_FIRST_SECONDS * 2.0 ** min(self.failures - 2, 20)
            self.not_before = now + chance * min(ceiling, ceiling_seconds)

    def refill(self, now: float, jobs: int) -> None:
        """Time has gone by, and so many jobs were finished."""
        earned = jobs + max(0.0, now - self.filled_at) * self.size / BUCKET_SECONDS
        self.tokens = min(float(self.size), self.tokens + earned)
        self.filled_at = now

    @property
    def degraded(self) -> bool:
        """More failures than work."""
        return self.tokens < 1.0

    @property
    def probing(self) -> bool:
        """Better try with one process than with all of them."""
        return self.failures >= 3 or self.degraded
