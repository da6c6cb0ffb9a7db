"""An application beside a running daemon: its client, and a few facts about the daemon's jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from rrqd.client import RRQClient
from rrqd.job import JobResult
from rrqd.model.job import Job
from tests.support.daemon import Daemon
from tests.support.wait import until, until_async

TOLD = "from tests.support.told import registry\n"


def whole(processes: int = 2, **settings: Any) -> Daemon:
    """The whole rrqd with the told handlers."""
    pool = {"processes": processes, "concurrency": settings.pop("concurrency", 10)}
    rrq = {"base_retry_delay_seconds": 0.05, **settings.pop("rrq", {})}
    return Daemon(pools={"default": pool}, stand_ins=False, jobs=TOLD, rrq=rrq, **settings)


class App:
    """What an application does."""

    def __init__(self, client: RRQClient, daemon: Daemon) -> None:
        self.client = client
        self.daemon = daemon
        self.ledger = daemon.folder / "ledger"

    async def tell(
        self, do: str = "ok", *, plain: bool = False, options: dict[str, Any] | None = None, **words: Any
    ) -> str:
        params = {"do": do, "ledger": str(self.ledger), **words}
        return await self.client.enqueue("told_plain" if plain else "told", {"params": params, **(options or {})})

    async def held(self, count: int, gate: str = "gate", **words: Any) -> list[str]:
        """So many jobs that run until `let_go`; they run already."""
        ids = [await self.tell("wait", gate=str(self.daemon.folder / gate), **words) for _ in range(count)]
        await self.running(ids)
        # ACTIVE they are from the claim on; that their handlers have begun stands in the ledger.
        until(lambda: all(self.starts()[job_id] for job_id in ids), 10, "their handlers to begin")
        return ids

    def let_go(self, gate: str = "gate") -> None:
        """From now on nobody waits at that gate."""
        (self.daemon.folder / gate).touch()

    def close(self, gate: str = "gate") -> None:
        """Whoever comes to that gate waits again."""
        (self.daemon.folder / gate).unlink(missing_ok=True)

    async def end(self, job_id: str, seconds: float = 20) -> JobResult:
        end = await self.client.wait_for_completion(job_id, timeout_seconds=seconds)
        assert end is not None, f"job {job_id} has not ended within {seconds} s: {await self.client.get_job(job_id)}"
        return end

    async def ends(self, ids: Sequence[str], seconds: float = 20) -> Counter[str]:
        return Counter([(await self.end(job_id, seconds)).status.value for job_id in ids])

    async def job(self, job_id: str) -> Job:
        found = await self.client.get_job(job_id)
        assert found is not None
        return found

    async def running(self, ids: Iterable[str], seconds: float = 10) -> list[Job]:
        """Wait until all of them run."""
        wanted = list(ids)

        async def all_run() -> list[Job] | None:
            jobs = [await self.job(job_id) for job_id in wanted]
            return jobs if all(job.status == "ACTIVE" for job in jobs) else None

        found = await until_async(all_run, seconds, "the jobs to run")
        assert found is not None
        return found

    def starts(self) -> Counter[str]:
        """How often each job was begun, by its own record."""
        path = Path(self.ledger)
        return Counter(line.split()[0] for line in path.read_text().splitlines()) if path.exists() else Counter()


@asynccontextmanager
async def app(daemon: Daemon, dsn: str | None = None) -> AsyncIterator[App]:
    """An application of a daemon that is up."""
    daemon.expect_log("rrqd.ready")
    config = {"redis_dsn": dsn or f"redis://127.0.0.1:{daemon.port}/0"}
    async with RRQClient(config=config, timeout_seconds=20) as client:
        yield App(client, daemon)
