"""How often a trouble that lasts is told: at once, then ever more seldom. Pure: the time is an argument."""

from __future__ import annotations

FIRST_SECONDS = 30.0
CEILING_SECONDS = 600.0
#: So many different words are told at once while one trouble lasts; what changes with every attempt is not.
WORDS_MOST = 4


class Reminder:
    """One trouble: a server that does not answer, a password that is wrong."""

    def __init__(self) -> None:
        self.over()

    def over(self) -> None:
        """It has passed: the next one is told at once again."""
        self._since: float | None = None
        self._words = set[str]()
        self._next = 0.0
        self._pause = FIRST_SECONDS

    def due(self, now: float, words: str) -> bool:
        """Whether to tell it now (monotonic seconds): new words at once, known ones after 30 s, 1 min, … 10 min."""
        if self._since is None:
            self._since = now
        new = words not in self._words and len(self._words) < WORDS_MOST
        if not new and now < self._next:
            return False
        if not new:
            self._pause = min(self._pause * 2, CEILING_SECONDS)
        self._words.add(words)
        self._next = now + self._pause
        return True

    def lasting(self, now: float) -> float:
        """Seconds since the trouble began, rounded; 0 when there is none."""
        return round(now - self._since, 1) if self._since is not None else 0.0
