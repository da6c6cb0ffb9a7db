"""What governs when jobs run, as views: the timetable, recurring jobs, throttles, why one job waits; and its figures.

As in `readings`: each a bounded read, and nothing here changes anything.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from rrqd import clock
from rrqd.model.timetable import read_timetable
from rrqd.store.why import why
from rrqd.web.hiding import hide
from rrqd.web.readings import PAGE_MOST, NotThere, Readings, paging

MOST_DAYS = 31
MOST_NAMED = 50


class Rules:
    def __init__(self, readings: Readings) -> None:
        self.readings = readings
        self.store = readings.store

    async def schedules(self, offset: int, limit: int) -> dict[str, Any]:
        """Entries of the timetable with their next ticks, and recurring jobs, soonest first."""
        settings = self.readings.eyes.settings
        entries = read_timetable(settings)
        now = clock.from_ms(await self.store.server_ms())
        states, templates = await asyncio.gather(
            self.store.cron_states(list(entries)),
            self.store.recurring_page(offset=offset, limit=min(limit, PAGE_MOST)),
        )
        cron = [
            {
                "name": name,
                "schedule": entry.schedule.text,
                "timezone": entry.zone,
                "function": entry.function,
                "queue": entry.options.get("queue_name", settings.rrq.default_queue_name),
                "next": tick.isoformat() if (tick := entry.schedule.next(now)) else None,
                "last": last.isoformat() if (last := states[name].last) else None,
                "last_job": states[name].job_id,
                "fired": states[name].fired,
                "missed": states[name].missed,
                "paused": states[name].paused,
            }
            for name, entry in entries.items()
        ]
        recurring = [
            {
                "id": one.id,
                "function": one.function,
                "every_seconds": one.interval_ms / 1000,
                "next_ms": one.next_ms,
                "count": one.count,
                "queue": one.options.get("queue_name", settings.rrq.default_queue_name),
            }
            for one in templates
        ]
        full = len(templates) == min(limit, PAGE_MOST)
        return {"cron": cron, "recurring": recurring, "next": offset + len(templates) if full else None}

    async def throttles(self, offset: int, limit: int) -> dict[str, Any]:
        """Limits by name, with how many jobs run and wait under each."""
        names = await self.store.throttle_names()
        part = names[offset : offset + min(limit, PAGE_MOST)]
        rows = [msgspec.structs.asdict(row) for row in await self.store.throttle_rows(part)]
        return {"throttles": rows, **paging(offset, len(part), len(names))}

    async def throttle(self, name: str) -> dict[str, Any]:
        """One limit: who runs under it, and who waits for it."""
        (row,) = await self.store.throttle_rows([name])
        if row.limit is None and not row.running and not row.waiting:
            raise NotThere(f"there is no throttle {name!r}")
        holders, waiting = await asyncio.gather(
            self.store.throttle_holders(name), self.store.throttle_waiting(name, limit=MOST_NAMED)
        )
        return {"throttle": msgspec.structs.asdict(row), "holders": holders[:MOST_NAMED], "waiting": waiting}

    async def about_job(self, job_id: str) -> dict[str, Any]:
        """What the job's own record does not say: why it waits, for whom, who waits for it, what its handler wrote."""
        job = await self.readings.job(job_id)
        page = self.readings.page_of(job)
        found, lines, kin = await asyncio.gather(
            why(self.store, job_id), self.store.log_lines(job_id), self.store.kinship(job)
        )
        waits = page["status"] in ("PENDING", "RETRYING")
        return {
            **page,
            "place": found.place if found is not None and waits else None,
            "why": [msgspec.structs.asdict(one) for one in found.reasons] if found is not None and waits else [],
            "log": hide(
                [msgspec.to_builtins(line) for line in lines], self.readings.eyes.settings.rrqd.web.hidden_params
            ),
            "parents": [msgspec.to_builtins(one) for one in kin.parents],
            "children": kin.some_children,
            "child_count": kin.children,
        }
