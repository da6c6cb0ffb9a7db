"""What the store knows of the timetable: an entry's last tick, and which node's call had each.

Rule: of all nodes that ask for a tick one gets a job for it, in the same script that moves the entry's last tick.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from rrqd import clock
from rrqd.model.job import NewJob
from rrqd.model.lifecycle import Move
from rrqd.store.base import Base
from rrqd.store.scripts import run
from rrqd.store.specs import spec_of

_pack = msgspec.msgpack.Encoder().encode


class Ticked(StrEnum):
    """What became of a tick. DONE: another node had it, or it was dealt with before. EARLY: by the server's clock it is
    yet to come. REFUSED: the queue's key holds something that is not a queue."""

    FIRED = "fired"
    DONE = "done"
    PAUSED = "paused"
    OVERLAP = "overlap"
    EARLY = "early"
    REFUSED = "refused"


#: What ``enqueue.lua`` answers for a tick. -1: its job is there, though the entry's record is not.
TICKED = {
    1: Ticked.FIRED, 4: Ticked.DONE, -1: Ticked.DONE, 5: Ticked.PAUSED, 6: Ticked.OVERLAP, 7: Ticked.EARLY,
    -2: Ticked.REFUSED,
}  # fmt: skip


class TickAnswer(msgspec.Struct, frozen=True):
    """``job_id``: the tick's job; with OVERLAP the one that has not ended."""

    ticked: Ticked
    job_id: str | None


class CronState(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of an entry. ``last``: everything up to this tick is dealt with. Counts are of all nodes."""

    last: datetime | None = None
    job_id: str | None = None
    by: str | None = None
    fired_ms: float | None = None
    version: str | None = None
    paused: bool = False
    fired: int = 0
    missed: int = 0
    overlapped: int = 0


class Timetable(Base):
    """The timetable's calls. All raise StoreUnavailable (may be repeated) and StoreRefused."""

    async def server_ms(self) -> float:
        """The server's clock, epoch milliseconds."""
        seconds, micro = await (await self.link()).call("TIME")
        return int(seconds) * 1000 + int(micro) / 1000

    async def tick(self, jobs: Sequence[NewJob]) -> list[TickAnswer]:
        """Ask for ticks: jobs of ``timetable.job_of``, each entry's in order. One answer each; whoever asks again after
        a lost reply hears DONE."""
        packed = _pack([spec_of(job, self.policy.cancelled_retention_seconds) for job in jobs])
        reply = await run(await self.link(), Move.ENQUEUE, self.keys.token, packed, "0")
        return [TickAnswer(TICKED[int(code)], job_id.decode() or None) for code, job_id in reply]

    async def pass_over(self, name: str, upto: datetime, version: str, *, missed: int = 0, begin: bool = False) -> bool:
        """Note that all ticks up to one are dealt with, without a job. ``begin``: only if nothing is known of the
        entry. False when another node had gone as far."""
        return bool(
            await run(
                await self.link(), "pass_over", self.keys.token, name, int(upto.timestamp()), missed, version,
                "1" if begin else "0",
            )
        )  # fmt: skip

    async def cron_states(self, names: Sequence[str]) -> dict[str, CronState]:
        """What is stored of these entries; nothing of an entry is an empty state."""
        link = await self.link()
        found = await asyncio.gather(*(link.call("HGETALL", self.keys.cron(name)) for name in names))
        return {name: _read_state(raw) for name, raw in zip(names, found, strict=True)}

    async def pause_cron(self, name: str, paused: bool) -> bool:
        """Pause an entry, or let it go on; ticks of the pause are not made up. False when it was so before."""
        link = await self.link()
        if paused:
            return bool(await link.call("HSET", self.keys.cron(name), "paused", "1"))
        return bool(await link.call("HDEL", self.keys.cron(name), "paused"))


def _read_state(raw: Any) -> CronState:
    pairs = raw.items() if isinstance(raw, dict) else zip(raw[::2], raw[1::2], strict=True)
    text = {key.decode(): value.decode(errors="replace") for key, value in pairs}
    return CronState(
        last=clock.from_ms(int(text["last"]) * 1000) if "last" in text else None,
        job_id=text.get("job"),
        by=text.get("by"),
        fired_ms=float(text["fired_ms"]) if "fired_ms" in text else None,
        version=text.get("version"),
        paused="paused" in text,
        fired=int(text.get("fired", 0)),
        missed=int(text.get("missed", 0)),
        overlapped=int(text.get("overlapped", 0)),
    )
