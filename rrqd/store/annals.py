"""What a synchronous face notes about jobs, and its looks that are one round trip. Nothing here moves a job."""

from __future__ import annotations

from collections.abc import Sequence

from rrqd.model.job import Job
from rrqd.store.queues import Readings
from rrqd.store.scripts import run


class Annals(Readings):
    """Notes and looks for a face."""

    async def annotate(self, job_id: str, field: str, value: str, *, token: int | None = None) -> bool:
        """Write a field of a face's own (``rrqd_…``), or, for who holds it under ``token``, its parameters; false when
        there is no such job, or another token holds it."""
        return bool(await run(await self.link(), "annotate", self.keys.token, job_id, field, value, token or ""))

    async def look(self, job_id: str) -> tuple[Job | None, float]:
        """A job and the server's clock (epoch ms), in one round trip."""
        link = await self.link()
        fields, clock = link.call("HGETALL", self.keys.job(job_id)), link.call("TIME")
        seconds, micros = await clock
        return Job.read(job_id, await fields), int(seconds) * 1000 + int(micros) / 1000

    async def look_at(self, job_ids: Sequence[str]) -> tuple[list[Job | None], float]:
        """Many jobs and the server's clock (epoch ms), in one round trip."""
        clock = (await self.link()).call("TIME")
        found = await self.jobs(job_ids)
        seconds, micros = await clock
        return found, int(seconds) * 1000 + int(micros) / 1000

    async def waiting_ids(self, name: str, *, due: bool) -> list[str]:
        """Ids in a queue that could start now, or those that are to start later; soonest first."""
        depth = (await self.queue_depths([name]))[0]
        ids = await self.queue_page(name, 0, depth.waiting)
        return ids[: depth.due] if due else ids[depth.due :]

    async def front_ms(self, name: str) -> float:
        """A due time just before that of the first job of a queue, and not after now."""
        link = await self.link()
        first, clock = link.call("ZRANGE", self.keys.queue(name), 0, 0, "WITHSCORES"), link.call("TIME")
        seconds, micros = await clock
        now_ms = int(seconds) * 1000 + int(micros) / 1000
        head = await first
        return min(now_ms, float(head[0][1]) - 1.0 if head else now_ms)
