"""How fast two runner processes empty a full queue of jobs that do nothing, under rrqd and under the real orchestrator.

Side by side: rrqd with a runner in Node.js (that of the tests), rrqd with our own Python runner, and the real
orchestrator with the real Python runner. The starting shot and the clock are those of ``drain``. In flight:
``IN_FLIGHT`` for each process of rrqd's; 32 for the real ones, where they are fastest. Without ``node`` on the PATH its
row is left out. Where other programs are busy the ratio of CPU says more than that of rates.
"""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any

from bench.daemon import HERE, Program, RealRRQ, Rrqd
from bench.drain import PARKED, QUEUE, fill, until_ended, warm_up
from bench.machine import cost
from bench.server import Server, free_ports
from bench.sheet import Plan, Sheet

NAME = "runners"
PROCESSES = 2
IN_FLIGHT = 64
NODE_RUNNER = HERE.parent / "tests" / "interop" / "scripts" / "runner.mjs"
OURS, NODE, REAL = "rrqd + its Python runner", "rrqd + Node.js runner", "real rrq + its Python runner"


class RrqdWithRunner(Rrqd):
    """The daemon with one runner pool and nothing else."""

    def __init__(self, server: Server, cmd: list[str]) -> None:
        self._cmd = cmd
        super().__init__(server, processes=PROCESSES)

    def _write(self) -> None:
        runner: dict[str, Any] = {
            "type": "socket", "cmd": self._cmd, "tcp_port": free_ports(PROCESSES), "pool_size": PROCESSES,
            "max_in_flight": IN_FLIGHT,
        }  # fmt: skip
        rrq = {"redis_dsn": self.server.dsn, "default_runner_name": "runner", "runners": {"runner": runner}}
        ours = {"state_dir": str(self.folder / "state"), "http": "off", "embedded": "never", "log_format": "json"}
        self.write_config({"rrq": rrq, "rrqd": ours})


def run(plan: Plan, sheet: Sheet) -> None:
    node = shutil.which("node")
    if node is None:
        sheet.note("runners: there is no node on the PATH")
    commands = {OURS: [sys.executable, "-m", "rrqd", "runner", "--settings", "jobs:settings"]}
    if node is not None:
        commands[NODE] = [node, str(NODE_RUNNER)]
    for _ in range(plan.repeat):
        drained = {}
        for who, command in commands.items():
            with Server() as server:
                drained[who] = _drain(sheet, who, server, RrqdWithRunner(server, command), plan.jobs)
        if plan.rrq is None:
            continue
        with Server() as server:
            rate, spent = _drain(sheet, REAL, server, RealRRQ(server, plan.rrq), plan.jobs)
        for who, (our_rate, we_spent) in drained.items():
            sheet.add(NAME, f"{who} : {REAL}, rate", "times", our_rate / rate, ">= 3")
            sheet.add(NAME, f"{REAL} : {who}, CPU with the server's", "times", spent / we_spent)


def _drain(sheet: Sheet, who: str, server: Server, program: Program, jobs: int) -> tuple[float, float]:
    """Fill, warm up, let go, wait for the end of the last job; answers jobs a second and the CPU seconds of a job,
    those of the server included."""
    fill(server, jobs)
    with program:
        warm_up(server)
        people = program.processes()
        served = server.load()
        target, used, began = server.ended() + jobs, cost(people), time.perf_counter()
        server.redis.rename(PARKED, QUEUE)
        until_ended(server, target, who)
        rate = jobs / (time.perf_counter() - began)
        spent = cost(people).since(used).cpu_seconds / jobs
        served = server.load().since(served)
    sheet.add(NAME, who, "jobs/s", rate)
    sheet.add(NAME, f"{who}, CPU of all its processes", "µs a job", spent * 1e6)
    sheet.add(NAME, f"{who}, CPU of the server", "µs a job", served.cpu_seconds / jobs * 1e6)
    return rate, spent + served.cpu_seconds / jobs
