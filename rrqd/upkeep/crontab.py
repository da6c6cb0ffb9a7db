"""The timetable's clockwork: asks for each tick the moment it comes, on every node, with no leader.

Rule 1: which ticks are due is decided in ``model/timetable.py``; which node's call gets the job is decided in the
store. Here is only the waiting.
Rule 2: the clock is the server's. It is asked twice a minute and reckoned on from there; a tick asked for too early is
refused and asked for again.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from rrqd import clock
from rrqd.events import Event
from rrqd.exc import StoreError, StoreUnavailable
from rrqd.model.job import NewJob
from rrqd.model.timetable import Due, Entry, defaults_of, due, job_of, read_timetable
from rrqd.store import Store
from rrqd.store.timetable import TickAnswer, Ticked

if TYPE_CHECKING:
    from rrqd.config.settings import Settings

#: How long the server's clock is reckoned on before it is asked again, and with it what other nodes have done.
SYNC_SECONDS = 30.0
AGAIN_SECONDS = 0.25
#: Ticks in one call.
BATCH = 100
#: Between a tick, as it is reckoned here, and the call: by then it has come on the server's clock, too.
AFTER_SECONDS = 0.001


class Asked(NamedTuple):
    """A tick that is asked for."""

    entry: Entry
    due: Due
    tick: datetime
    job: NewJob


class Crontab:
    """One node's clockwork."""

    def __init__(
        self, store: Store, node_id: str, settings: Settings, log: Any, on_unavailable: Callable[[StoreError], None]
    ) -> None:
        self._store = store
        self._node_id = node_id
        self._log = log
        self._on_unavailable = on_unavailable
        self._changed = asyncio.Event()
        self._entries: dict[str, Entry] = {}
        #: Everything up to here is dealt with, as far as is known here; by (entry, version).
        self._last: dict[tuple[str, str], datetime] = {}
        #: The tick after that, as long as it is the last.
        self._upcoming: dict[tuple[str, str], tuple[datetime, datetime | None]] = {}
        self._synced: float | None = None
        self._ahead_seconds = 0.0
        #: What was asked for with no answer yet.
        self._unheard: list[Asked] = []
        self.reload(settings)

    def reload(self, settings: Settings) -> None:
        """Take another timetable. An entry whose schedule is another begins anew."""
        self._entries = read_timetable(settings)
        self._upcoming.clear()
        self._defaults = defaults_of(settings)
        self._synced = None
        self._changed.set()

    async def run(self) -> None:
        """For ever."""
        while True:
            self._changed.clear()
            pause = await self._turn()
            try:
                async with asyncio.timeout(None if pause == math.inf else pause):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _turn(self) -> float:
        """One turn of the work; whatever goes wrong, there is another, which first asks what has happened."""
        try:
            return await self.run_once()
        except StoreUnavailable as fault:
            self._on_unavailable(fault)
            self._synced = None
            return AGAIN_SECONDS
        except Exception as fault:  # one bad turn must not end the steward, whatever it was
            self._log.error("chore.failed", chore="cron", error=str(fault), type=type(fault).__name__)
            self._synced = None
            return 1.0

    async def run_once(self) -> float:
        """Ask for all that is due now. Answers for how many seconds there is nothing to do."""
        if not self._entries:
            return math.inf
        if self._synced is None or clock.monotonic() - self._synced > SYNC_SECONDS:
            await self._sync()
        now = self._now()
        dues = [(entry, due(entry, self._last[entry.name, entry.version], now)) for entry in self._waiting(now)]
        await self._ask(dues, now)
        return self._pause()

    async def _sync(self) -> None:
        """Learn the server's time, and what has been dealt with meanwhile."""
        asked = clock.monotonic()
        server_ms = await self._store.server_ms()
        answered = clock.monotonic()
        self._ahead_seconds = server_ms / 1000 - (asked + answered) / 2
        now = self._now()
        states = await self._store.cron_states(list(self._entries))
        for name, state in states.items():
            key = name, self._entries[name].version
            if state.last is None:
                await self._store.pass_over(name, now, key[1], begin=True)
            # Nodes with another version of the file may tick, too, while one after the other is brought up to date.
            known = state.last if state.version == key[1] else None
            mine = self._last.get(key)
            self._last[key] = max(filter(None, (known, mine)), default=now)
        for one in self._unheard:
            was = states.get(one.entry.name)
            if was is not None and (was.by, was.job_id) == (self._node_id, one.job.id):
                self._tell(one, TickAnswer(Ticked.FIRED, one.job.id), now)
        self._unheard.clear()
        self._synced = answered

    def _now(self) -> datetime:
        """The server's time, as it is reckoned here."""
        return clock.from_ms((clock.monotonic() + self._ahead_seconds) * 1000)

    def _waiting(self, now: datetime) -> list[Entry]:
        return [entry for entry in self._entries.values() if (tick := self._next(entry)) is not None and tick <= now]

    def _next(self, entry: Entry) -> datetime | None:
        key = entry.name, entry.version
        last = self._last[key]
        if self._upcoming.get(key, (None, None))[0] != last:
            self._upcoming[key] = last, entry.schedule.next(last)
        return self._upcoming[key][1]

    def _pause(self) -> float:
        """Seconds until the next tick, or until the server's clock is to be asked for again."""
        now = self._now()
        soonest = min((tick for entry in self._entries.values() if (tick := self._next(entry))), default=None)
        wait = SYNC_SECONDS if soonest is None else (soonest - now).total_seconds() + AFTER_SECONDS
        return min(max(wait, AFTER_SECONDS), SYNC_SECONDS)

    async def _ask(self, dues: Sequence[tuple[Entry, Due]], now: datetime) -> None:
        for entry, what in dues:
            left_out = what.left_out
            for tick in what.fire:
                job = job_of(entry, self._defaults, tick, self._node_id, left_out)
                self._unheard.append(Asked(entry, what, tick, job))
                left_out = 0
            if not what.fire and what.upto is not None:
                if await self._store.pass_over(entry.name, what.upto, entry.version, missed=what.missed):
                    self._tell_missed(entry, what)
                self._last[entry.name, entry.version] = what.upto
        while self._unheard:
            part = self._unheard[:BATCH]
            answers = await self._store.tick([one.job for one in part])
            del self._unheard[:BATCH]
            for one, answer in zip(part, answers, strict=True):
                self._hear(one, answer, now)

    def _hear(self, one: Asked, answer: TickAnswer, now: datetime) -> None:
        if answer.ticked is Ticked.EARLY:
            self._synced = None  # the server's clock was set back
            return
        key = one.entry.name, one.entry.version
        self._last[key] = max(one.tick, self._last[key])
        self._tell(one, answer, now)

    def _tell(self, one: Asked, answer: TickAnswer, now: datetime) -> None:
        entry, tick = one.entry, one.tick
        known = {"entry": entry.name, "tick": tick.isoformat(), "job": answer.job_id}
        match answer.ticked:
            case Ticked.FIRED:
                late_ms = round((now - tick).total_seconds() * 1000)
                self._log.info(Event.CRON_FIRED, **known, function=entry.function, late_ms=late_ms)
                if one.due.missed and tick == one.due.fire[0]:
                    self._tell_missed(entry, one.due)
            case Ticked.OVERLAP:
                self._log.info(Event.CRON_OVERLAPPED, **known, why="the job of an earlier tick has not ended")
            case Ticked.REFUSED:
                queue = entry.options.get("queue_name", self._defaults.queue)
                self._log.error(Event.CRON_REFUSED, **known, why=f"rrq:queue:{queue} is not a queue")

    def _tell_missed(self, entry: Entry, what: Due) -> None:
        self._log.warning(
            Event.CRON_MISSED, entry=entry.name, missed=what.missed, made_up=what.missed - what.left_out,
            policy=entry.missed,
        )  # fmt: skip
