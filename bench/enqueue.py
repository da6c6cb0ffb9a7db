"""How fast one application process puts jobs in: no worker runs, the server has nothing else to do.

Three ways: one awaited call after the other, 100 calls at once (``asyncio.gather``), and all jobs in one
``enqueue_many``. The real client has no such call and takes part in the first two. Plain asyncio, as in most
applications; no parameters, so that the client is measured and not the JSON of the job.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bench.daemon import application
from bench.server import Server
from bench.sheet import Plan, Sheet

NAME = "enqueue"
OURS = Path(sys.executable)


def run(plan: Plan, sheet: Sheet) -> None:
    for _ in range(plan.repeat):
        rates = measure(OURS, "rrqd", plan.jobs)
        for way, rate in rates.items():
            sheet.add(NAME, f"rrqd, {way}", "jobs/s", rate)
        if plan.rrq is not None:
            for way, rate in measure(plan.rrq, "rrq", plan.jobs).items():
                sheet.add(NAME, f"real rrq, {way}", "jobs/s", rate)
                sheet.add(NAME, f"rrqd : real rrq, {way}", "times", rates[way] / rate)


def measure(python: Path, package: str, jobs: int) -> dict[str, float]:
    """One round on a fresh server."""
    with Server() as server:
        return application(python, "enqueue", package, server.dsn, jobs)
