"""Paused queues: nobody's jobs change, but no rrqd worker claims from them. Real RRQ workers know of no pauses."""

from __future__ import annotations

from collections.abc import Sequence

from rrqd.store.base import Base
from rrqd.store.scripts import run


class Pauses(Base):
    """Both calls may be repeated; a queue needs no jobs, and need not have had any, to be paused."""

    async def pause_queues(self, names: Sequence[str]) -> list[str]:
        """Let nobody claim from these queues, from now on; answers those that were not paused before."""
        return await self._set("pause", names)

    async def resume_queues(self, names: Sequence[str]) -> list[str]:
        """Let them be claimed from again, and wake the idle workers; answers those that were paused before."""
        return await self._set("resume", names)

    async def _set(self, verb: str, names: Sequence[str]) -> list[str]:
        changed = await run(await self.link(), "pause", self.keys.token, verb, *names)
        return [name.decode(errors="replace") for name in changed]

    async def paused_queues(self) -> dict[str, float]:
        """Paused queue -> since when, in epoch ms."""
        flat = await (await self.link()).call("HGETALL", self.keys.paused)
        return {name.decode(errors="replace"): float(since) for name, since in flat.items()}
