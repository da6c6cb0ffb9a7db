"""The timetable of a test: which of a file's ``cron_jobs`` come next as time goes on."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from rrqd.config.loader import load
from rrqd.model.job import NewJob
from rrqd.model.request import Defaults
from rrqd.model.timetable import Entry, defaults_of, job_of, read_timetable

#: After all that a test may wait for.
NEVER = datetime.max.replace(tzinfo=UTC)


class Ticks:
    """A timetable, or an empty one. Raises ConfigError for a file that can't be used."""

    def __init__(self, config: str | Path | None) -> None:
        self._entries: list[Entry] = []
        self._defaults = Defaults()
        if config is not None:
            settings = load(str(config)).settings
            self._entries = list(read_timetable(settings).values())
            self._defaults = defaults_of(settings)

    def next(self, after: datetime) -> tuple[datetime, list[NewJob]]:
        """The first moment after this one at which something is to be enqueued, and what."""
        coming = [(entry.schedule.next(after) or NEVER, entry) for entry in self._entries]
        first = min((at for at, _ in coming), default=NEVER)
        return first, [job_of(entry, self._defaults, None, "test") for at, entry in coming if at == first]
