"""How long an idle system takes from just before the enqueue call to the first line of the handler.

One job at a time, with a pause of a few milliseconds after each. Both ends read the machine's monotonic clock; the
handler reports by a datagram, so nothing of the measurement goes through the server. The clients run in a program of
their own on plain asyncio.

Beside it, in turns on the same server: a bare hand-off, LPUSH in one process and BLPOP in another, which is what this
machine and server can do at all; and, with the real rrq at hand, its client enqueueing to rrqd, and (fewer jobs, for it
is slow) the real rrq at both ends.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from bench.daemon import RealRRQ, Rrqd, application
from bench.server import Server
from bench.sheet import Plan, Sheet, percentile

NAME = "latency"
JOBS = 500
JOBS_REAL = 60
OURS = Path(sys.executable)


def run(plan: Plan, sheet: Sheet) -> None:
    with Server() as server, Rrqd(server, concurrency=50):
        for _ in range(plan.repeat):
            bare = application(OURS, "handoff", "redis", server.dsn, JOBS, server.folder)["ms"]
            ours = application(OURS, "latency", "rrqd", server.dsn, JOBS, server.folder)["ms"]
            _enter(sheet, "bare LPUSH -> BLPOP", bare)
            _enter(sheet, "rrqd", ours, ("< 3", "", "< 10"))
            sheet.add(NAME, "rrqd : bare, p50", "times", percentile(ours, 0.5) / percentile(bare, 0.5))
            if plan.rrq is not None:
                mixed = application(plan.rrq, "latency", "rrq", server.dsn, JOBS, server.folder)["ms"]
                _enter(sheet, "real client -> rrqd", mixed, ("< 3", "", "< 10"))
                ratio = percentile(mixed, 0.5) / percentile(bare, 0.5)
                sheet.add(NAME, "real client -> rrqd : bare, p50", "times", ratio)
    if plan.rrq is not None:
        with Server() as server, RealRRQ(server, plan.rrq):
            for _ in range(plan.repeat):
                theirs = application(plan.rrq, "latency", "rrq", server.dsn, JOBS_REAL, server.folder)["ms"]
                _enter(sheet, "real rrq at both ends", theirs)


def _enter(sheet: Sheet, who: str, found: Sequence[float], goals: tuple[str, str, str] = ("", "", "")) -> None:
    for share, goal in zip((0.5, 0.9, 0.99), goals, strict=True):
        sheet.add(NAME, f"{who}, p{share * 100:.0f}", "ms", percentile(found, share), goal)
