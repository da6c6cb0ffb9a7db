"""Children of ended parents: the rest of those that the settlement itself did not get round to, and those whose parent
ended unheard (a real RRQ worker ran it, or its record has expired)."""

from __future__ import annotations

from rrqd.store import Store


class Kin:
    """A step a second while there is nothing to tell; as many as it takes, each short, while there is."""

    name = "kin"
    interval_seconds = 1.0

    def __init__(self, store: Store) -> None:
        self._store = store
        self._at = 0

    async def run_once(self, now: float) -> None:
        """Look at some parents, and tell children until none is left to be told."""
        more, self._at = await self._store.inform(self._at)
        while more:
            more, _ = await self._store.inform(0, 0)
