"""How fast two worker processes empty a full queue of jobs that do nothing, and what a job costs.

Both sides in the same way, in turns, each on a fresh server: the jobs (the same ones, written by rrqd's client) are put
into the queue and the queue is renamed, so that nobody looks at it; the program starts, is warmed up with a few hundred
jobs and stands idle. Renaming the queue back is the starting shot. The clock stops when the server has counted the end
of the last job: each side adds one entry to a stream for each, so the count is the server's own. It is a costly answer:
it is asked for when the queue is empty, which is seen cheaply.
The real rrq looks every 0.1 s and loses up to 0.15 s at the start; of its several seconds that is little, and its own.

In flight: ``CONCURRENCY`` a process for rrqd; 32 for each of the real rrq's two runners, where it is fastest.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import psutil

from bench.daemon import Program, RealRRQ, Rrqd
from bench.machine import busy_seconds, cost
from bench.server import Server, until
from bench.sheet import Plan, Sheet
from rrqd.client import SyncRRQClient

NAME = "drain"
CONCURRENCY = 100
WARM_UP = 400
QUIET_SECONDS = 0.5
LOOK_SECONDS = 0.005
LAST_LOOK_SECONDS = 0.002
PATIENCE_SECONDS = 300.0
#: So many processors busy with other programs make a rate say little.
DISTRUST = 0.3
QUEUE, PARKED = "rrq:queue:default", "rrq:queue:parked"


@dataclass(frozen=True, slots=True)
class Drained:
    """One queue emptied. ``cpu_seconds``: the program's processes and the server."""

    rate: float
    cpu_seconds: float
    script_calls: int


def run(plan: Plan, sheet: Sheet) -> None:
    for _ in range(plan.repeat):
        ours = _ours(plan, sheet)
        if plan.rrq is not None:
            theirs = _theirs(plan, sheet)
            sheet.add(NAME, "rrqd : real rrq, rate", "times", ours.rate / theirs.rate, ">= 6")
            sheet.add(NAME, "real rrq : rrqd, CPU of everything", "times", theirs.cpu_seconds / ours.cpu_seconds)


def _ours(plan: Plan, sheet: Sheet) -> Drained:
    with Server() as server:
        fill(server, plan.jobs)
        with Rrqd(server, concurrency=CONCURRENCY) as daemon:
            warm_up(server)
            before = daemon.counters()
            drained = drain(sheet, "rrqd", server, daemon, plan.jobs)
            after = daemon.counters()
        made = {name: after[name] - before[name] for name in after}
        sheet.add(NAME, "rrqd, script calls of the workers", "a job", made["script_calls"] / plan.jobs, "<= 0.15")
        sheet.add(NAME, "rrqd, jobs a claim", "jobs", made["jobs_claimed"] / max(1, made["claims"]))
        sheet.add(NAME, "rrqd, script calls seen by the server", "a job", drained.script_calls / plan.jobs)
        if made["jobs_done"] != plan.jobs:
            sheet.note(f"drain: the workers counted {made['jobs_done']:g} jobs done of {plan.jobs}")
        return drained


def _theirs(plan: Plan, sheet: Sheet) -> Drained:
    assert plan.rrq is not None
    with Server() as server:
        fill(server, plan.jobs)
        with RealRRQ(server, plan.rrq) as daemon:
            warm_up(server)
            return drain(sheet, "real rrq", server, daemon, plan.jobs)


def fill(server: Server, jobs: int) -> None:
    """Write the jobs down and take the queue out of sight."""
    with SyncRRQClient(config={"redis_dsn": server.dsn}) as client:
        client.enqueue_many([("nothing", None)] * jobs)
    server.redis.rename(QUEUE, PARKED)


def warm_up(server: Server) -> None:
    """Let the program run a few hundred jobs, and then nothing."""
    already = server.ended()
    with SyncRRQClient(config={"redis_dsn": server.dsn}) as client:
        client.enqueue_many([("nothing", None)] * WARM_UP)
    until(lambda: server.ended() >= already + WARM_UP, PATIENCE_SECONDS, "the warm-up")
    time.sleep(QUIET_SECONDS)


def until_ended(server: Server, target: int, who: str) -> None:
    """Wait for the end of the last job, and take nothing away from a server that is busy with it."""
    until(lambda: not server.redis.zcard(QUEUE), PATIENCE_SECONDS, f"{who} to empty the queue", LOOK_SECONDS)
    until(lambda: server.ended() >= target, PATIENCE_SECONDS, f"{who} to end what it took", LAST_LOOK_SECONDS)


def drain(sheet: Sheet, who: str, server: Server, daemon: Program, jobs: int) -> Drained:
    """From the starting shot to the end of the last job; notes rate and costs."""
    people = daemon.processes()
    workers = daemon.named("rrqd: worker") or people  # the real rrq's orchestrator works for every job, too
    target = server.ended() + jobs
    load, used, all_used, bench = server.load(), cost(workers), cost(people), cost([psutil.Process()])
    busy, began = busy_seconds(), time.perf_counter()
    server.redis.rename(PARKED, QUEUE)
    until_ended(server, target, who)
    seconds = time.perf_counter() - began
    busy = busy_seconds() - busy
    load, used, all_used = server.load().since(load), cost(workers).since(used), cost(people).since(all_used)
    ours = load.cpu_seconds + all_used.cpu_seconds + cost([psutil.Process()]).since(bench).cpu_seconds
    others = max(0.0, busy - ours) / seconds
    left = server.redis.zcard(QUEUE)
    if left:
        sheet.note(f"drain: {who} left {left} ids in the queue")
    sheet.add(NAME, f"{who}, two processes", "jobs/s", jobs / seconds)
    sheet.add(NAME, f"{who}, server commands (Lua's too)", "a job", load.commands / jobs)
    sheet.add(NAME, f"{who}, CPU of the server", "µs a job", load.cpu_seconds / jobs * 1e6)
    sheet.add(NAME, f"{who}, CPU of those who work", "µs a job", used.cpu_seconds / jobs * 1e6)
    sheet.add(NAME, f"{who}, CPU of all its processes", "µs a job", all_used.cpu_seconds / jobs * 1e6)
    sheet.add(NAME, f"{who}, used by other programs", "processors", others)
    if others > DISTRUST:
        sheet.note("drain: other programs were busy meanwhile; distrust the rates, look at CPU a job")
    return Drained(jobs / seconds, load.cpu_seconds + all_used.cpu_seconds, load.calls.get("evalsha", 0))
