"""What a node with two workers costs that has nothing to do.

The daemon is given time until everything it does now and then has begun (the reaper waits for one lease); then nothing
happens for ``WINDOW_SECONDS``, except what the daemon does by itself. Commands are the server's count, with those that
Lua calls, and without the two questions asked here. A wake-up is a voluntary context switch of any thread.
"""

from __future__ import annotations

import time
from collections import defaultdict

import psutil

from bench.daemon import Rrqd
from bench.machine import cost, title
from bench.server import Server
from bench.sheet import Plan, Sheet

NAME = "idle"
SETTLE_SECONDS = 17.0
WINDOW_SECONDS = 15.0


def run(plan: Plan, sheet: Sheet) -> None:
    with Server() as server, Rrqd(server, concurrency=50) as daemon:
        time.sleep(SETTLE_SECONDS)
        people = daemon.processes()
        for _ in range(plan.repeat):
            before, load = {one: cost([one]) for one in people}, server.load()
            time.sleep(WINDOW_SECONDS)
            after, load = {one: cost([one]) for one in people}, server.load().since(load)
            sheet.add(NAME, "server commands (Lua's too)", "a second", load.commands / load.at, "< 6")
            for name, calls in sorted(load.calls.items(), key=lambda pair: -pair[1])[:6]:
                sheet.add(NAME, f"  of these {name}", "a second", calls / load.at)
            sheet.add(NAME, "CPU of the server", "%", load.cpu_seconds / load.at * 100)
            by_role: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
            for one in people:
                spent = after[one].since(before[one])
                for role in (_role(one), "all processes"):
                    by_role[role][0] += spent.cpu_seconds / load.at * 100
                    by_role[role][1] += spent.wakeups / load.at
            for role, (percent, wakeups) in sorted(by_role.items()):
                sheet.add(NAME, f"CPU of {role}", "%", percent)
                sheet.add(NAME, f"wake-ups of {role}", "a second", wakeups)


def _role(process: psutil.Process) -> str:
    """``master``, ``steward``, ``worker`` …"""
    words = title(process).split()
    return words[1] if words[:1] == ["rrqd:"] else (words or ["unknown"])[0]
