"""rrqd and real RRQ workers on the same queue while members of both die: is every job done, and none done twice for no
reason? A part of `python -m bench.soak`.

Explained is a second run of a job only when every run before it was in a process that was killed.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bench.daemon import RealRRQ, Rrqd
from bench.server import Server
from bench.sheet import Sheet
from rrqd.client import SyncRRQClient

VERSION = "0.11.1"
JOBS_A_SECOND = 60
JOB_TIMEOUT_SECONDS = 3
#: What a real worker's jobs wait for after its death: its health record, and the lock of the job.
REAL = {
    "default_job_timeout_seconds": JOB_TIMEOUT_SECONDS,
    "default_lock_timeout_extension_seconds": 2,
    "worker_health_check_interval_seconds": 1.0,
    "worker_health_check_ttl_buffer_seconds": 3.0,
}
SETTLE_SECONDS, STANDSTILL_SECONDS = 30.0, 60.0
SHORT_SECONDS, LONG_SECONDS = 5.0, 600.0


def real_python() -> Path:
    """An interpreter that has the real rrq: ``RRQD_TEST_RRQ``, or the one that the interop tests have installed."""
    named = os.environ.get("RRQD_TEST_RRQ")
    version = f"{sys.version_info[0]}{sys.version_info[1]}"
    found = Path(named or f"{Path(__file__).parents[1]}/.cache/rrq-{VERSION}-py{version}/bin/python")
    if not found.exists():
        raise FileNotFoundError(f"{found}: no interpreter with rrq {VERSION}; set RRQD_TEST_RRQ")
    return found


@dataclass(slots=True)
class Runs:
    """What the handlers wrote down."""

    begun: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    by: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    @classmethod
    def read(cls, path: Path) -> Runs:
        runs = cls()
        for line in path.read_text().splitlines():
            what, job_id, pid, *who = line.split()
            if what == "begin":
                runs.begun[job_id].append(int(pid))
                runs.by[who[0]] += 1
        return runs

    def repeated(self, killed: set[int]) -> tuple[int, list[str]]:
        """(jobs whose every run but the last was in a process that was killed, jobs run again for no reason)."""
        explained, unexplained = 0, []
        for job_id, pids in self.begun.items():
            if len(pids) > 1:
                if killed.issuperset(pids[:-1]):
                    explained += 1
                else:
                    unexplained.append(job_id)
        return explained, unexplained


class Fleet:
    """One rrqd and some real workers, each with a runner, on one server."""

    def __init__(self, stack: ExitStack, real: int) -> None:
        self._stack = stack
        self._python = real_python()
        self.server = stack.enter_context(Server())
        self.client = stack.enter_context(SyncRRQClient(config={"redis_dsn": self.server.dsn}))
        # Few slots: rrqd is woken and real workers poll, so it would take nearly everything.
        self.rrqd = stack.enter_context(Rrqd(self.server, processes=2, concurrency=2))
        self.workers: list[RealRRQ] = []
        self.killed: set[int] = set()
        self.ledger = self.rrqd.folder / "ledger"
        self.ledger.touch()
        for _ in range(real):
            self.add_real()

    def add_real(self) -> None:
        """One more real worker, on ports of its own: a killed one's runner may still have the old ones."""
        one = RealRRQ(self.server, self._python, processes=1, max_in_flight=8, **REAL)
        self.workers.append(self._stack.enter_context(one))

    def enqueue(self, number: int) -> list[str]:
        def wish() -> tuple[str, dict[str, Any]]:
            params = {"file": str(self.ledger), "seconds": random.uniform(0.02, 0.3)}
            return "booked", {"params": params, "job_timeout_seconds": JOB_TIMEOUT_SECONDS}

        return self.client.enqueue_many([wish() for _ in range(number)])

    def kill_rrqd_worker(self) -> None:
        """One of rrqd's."""
        workers = self.rrqd.workers()
        if workers:
            self._kill([random.choice(workers)])

    def kill_real(self) -> None:
        """A real worker and its runner, as when its machine goes."""
        if self.workers:
            victim = self.workers.pop(random.randrange(len(self.workers)))
            self._kill(victim.processes())

    def _kill(self, processes: list[psutil.Process]) -> None:
        for one in processes:
            try:
                one.kill()
            except psutil.NoSuchProcess:
                continue
            self.killed.add(one.pid)

    def wait_for(self, ids: list[str]) -> list[str]:
        """Until all are done, or nothing has moved for a while. Answers what is left."""
        left, since = ids, time.monotonic()
        while left and time.monotonic() - since < STANDSTILL_SECONDS:
            time.sleep(0.1)
            if len(now := self.unfinished(left)) < len(left):
                left, since = now, time.monotonic()
        return left

    def unfinished(self, ids: list[str]) -> list[str]:
        pipe = self.server.redis.pipeline(transaction=False)
        for job_id in ids:
            pipe.hget(f"rrq:job:{job_id}", "status")
        return [job_id for job_id, status in zip(ids, pipe.execute(), strict=True) if status != b"COMPLETED"]


def fleet(sheet: Sheet, long: bool) -> None:
    """Real workers and rrqd share a queue; members of both are killed, in the short version all real ones for good."""
    seconds, step = (LONG_SECONDS, 1.5) if long else (SHORT_SECONDS, 1.0)
    with ExitStack() as stack:
        crew = Fleet(stack, real=2)
        ids: list[str] = []
        began = time.monotonic()
        deeds = [crew.kill_rrqd_worker, crew.kill_real, crew.kill_rrqd_worker, crew.kill_real]
        done = 0
        while (passed := time.monotonic() - began) < seconds:
            ids += crew.enqueue(max(0, int(passed * JOBS_A_SECOND) - len(ids)))
            if passed > step * (done + 1) and (long or done < len(deeds)):
                deeds[done % len(deeds)]()
                done += 1
                if long and done % len(deeds) == 0:
                    crew.add_real()
                    crew.add_real()
            time.sleep(0.05)
        if left := crew.wait_for(ids):
            states = [crew.server.redis.hgetall(f"rrq:job:{job_id}") for job_id in left[:3]]
            sheet.broken(f"fleet: {len(left)} of {len(ids)} jobs were not done: {states}")
        settled = time.monotonic() - began - seconds
        runs = Runs.read(crew.ledger)
        explained, unexplained = runs.repeated(crew.killed)
        sheet.add("fleet", "jobs", "", len(ids))
        sheet.add("fleet", "runs by rrqd", "", runs.by["rrqd"])
        sheet.add("fleet", "runs by real workers", "", runs.by["rrq"])
        sheet.add("fleet", "kills", "", done)
        sheet.add("fleet", "jobs run again after a kill", "", explained)
        sheet.add("fleet", "jobs run again for no reason", "", len(unexplained), "<= 0")
        sheet.add("fleet", "all done, after the last job came", "s", settled, f"<= {SETTLE_SECONDS:g}")
        if unexplained:
            sheet.broken(f"fleet: run again for no reason: {unexplained[:5]}")
        if not runs.by["rrq"] or not runs.by["rrqd"]:
            sheet.broken("fleet: one side ran nothing")
