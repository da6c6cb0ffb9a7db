"""Figures of queues and functions by day, and the logs of jobs: written in bulk by workers, read by people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec

from rrqd.model.figures import DayFigures, Seen, Spread, by_subject
from rrqd.model.joblog import LogLine
from rrqd.model.series import COUNTS, RINGS, grades_of
from rrqd.store.base import Base
from rrqd.store.scripts import run

#: Lines kept of one job's log, and for how long after the last one.
LOG_LINES_MOST = 200
LOG_KEPT_SECONDS = 7 * 86_400
#: Lines in one call: far less than a millisecond of the server's time.
LINES_BATCH = 200

_pack = msgspec.msgpack.Encoder().encode


class Figures(Base):
    """All raise StoreUnavailable (may be repeated) and StoreRefused."""

    async def add_figures(self, worker_id: str, number: int, seen: Seen, kept_seconds: int) -> bool:
        """Add what a worker has counted by queue and function. ``number`` grows with each report; one that was heard
        already (its reply was lost) is not counted again, and the answer is false."""
        report = [[kind, name, one.counts, _plain(one.wait), _plain(one.run)] for kind, name, one in by_subject(seen)]
        said = await run(
            await self.link(), "figures", self.keys.token, worker_id, number, kept_seconds, _pack(report),
            _pack(list(RINGS.values())), _pack(COUNTS),
        )  # fmt: skip
        return bool(said)

    async def figures(self, queue: str, *, days: int = 1, until: date | None = None) -> list[DayFigures]:
        """A queue's figures of so many days, the newest first; ``until``: the newest day, today (the server's, UTC)
        when left out."""
        found = await self._days(lambda day: self.keys.figures(day, queue), days, until)
        return [DayFigures.read(day, stored, queue=queue) for day, stored in found]

    async def figures_of_function(self, name: str, *, days: int = 1, until: date | None = None) -> list[DayFigures]:
        """The same of a function, over all queues."""
        found = await self._days(lambda day: self.keys.handled(day, name), days, until)
        return [DayFigures.read(day, stored, function=name) for day, stored in found]

    async def functions(self, *, limit: int = 200) -> list[str]:
        """Functions that have run, the latest first."""
        found = await (await self.link()).call("ZRANGE", self.keys.functions, 0, limit - 1, "REV")
        return [name.decode(errors="replace") for name in found]

    async def _days(
        self, key_of: Callable[[str], str], days: int, until: date | None
    ) -> list[tuple[str, dict[str, str]]]:
        link = await self.link()
        if until is None:
            seconds, _ = await link.call("TIME")
            until = datetime.fromtimestamp(int(seconds), UTC).date()
        wanted = [(until - timedelta(days=back)).isoformat() for back in range(days)]
        calls = [link.call("HGETALL", key_of(day)) for day in wanted]
        return [(day, _text(await call)) for day, call in zip(wanted, calls, strict=True)]

    async def add_log_lines(self, lines: Sequence[tuple[str, int, bytes]]) -> int:
        """Add to the logs of running jobs: (id, token, JSON) each. Lines under a stale token are dropped; answers how
        many were written."""
        written = 0
        for start in range(0, len(lines), LINES_BATCH):
            flat = [
                word
                for job_id, token, line in lines[start : start + LINES_BATCH]
                for word in (job_id, str(token), line)
            ]
            written += await run(await self.link(), "log", self.keys.token, LOG_LINES_MOST, LOG_KEPT_SECONDS, *flat)
        return written

    async def log_lines(self, job_id: str) -> list[LogLine]:
        """What handlers have written to the job's log, oldest first."""
        found = await (await self.link()).call("LRANGE", self.keys.job_log(job_id), 0, -1)
        return [LogLine.read(line) for line in found]


def _plain(spread: Spread) -> list[Any]:
    return [spread.count, spread.mean, spread.squares, spread.buckets, grades_of(spread.buckets)]


def _text(raw: Mapping[bytes, bytes]) -> dict[str, str]:
    return {name.decode(errors="replace"): value.decode(errors="replace") for name, value in raw.items()}
