"""What one worker more costs when the code is heavy (numpy and pandas), against a cold process that imports the same.

The cost of one more is a difference: the PSS of everything with ``MANY`` workers less that with ``FEW``, divided by
how many that are. So a page that is shared counts once, and each further worker costs what it really adds. The cold
processes are weighed in the same way; they share what the kernel shares by itself (the libraries' files), and import
what a worker imports: rrqd's runtime, the handlers, the heavy modules. Weighed twice: fresh, and after every worker has
run a few jobs that use pandas, which is what a worker looks like in life.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import psutil

from bench.daemon import HERE, Rrqd
from bench.machine import private_mib, pss_mib
from bench.server import Server, until
from bench.sheet import Plan, Sheet
from rrqd.client import SyncRRQClient

NAME = "memory"
FEW, MANY = 2, 6
JOBS_A_WORKER = 50
HEAVY = ("numpy", "pandas")
#: Nearly as many modules, if less memory, for a machine that cannot get the heavy ones.
STDLIB = (
    "asyncio",
    "decimal",
    "email.mime.text",
    "http.server",
    "multiprocessing",
    "sqlite3",
    "unittest.mock",
    "xml.dom",
)
COLD = """\
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print("ready", flush=True)
sys.stdin.read()
"""


def run(plan: Plan, sheet: Sheet) -> None:
    with tempfile.TemporaryDirectory(prefix="rrqd-bench-heavy-") as folder:
        modules, path = obtain(Path(folder), sheet)
        for _ in range(plan.repeat):
            _measure(sheet, modules, path)


def obtain(folder: Path, sheet: Sheet) -> tuple[tuple[str, ...], Path]:
    """The modules to preload, and where they are; installed into ``folder`` when this environment lacks them."""
    look = [sys.executable, "-c", f"import {', '.join(HEAVY)}"]
    if subprocess.run(look, capture_output=True, check=False).returncode == 0:
        return HEAVY, folder
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(folder)]
    try:
        done = subprocess.run([*pip, *HEAVY], capture_output=True, text=True, timeout=300, check=False)
        why = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1] if done.returncode else ""
    except subprocess.TimeoutExpired:
        why = "pip took more than 300 s"
    if why:
        sheet.note(f"memory: no numpy and pandas here ({why}); modules of the standard library stand in")
        return STDLIB, folder
    return HEAVY, folder


def _measure(sheet: Sheet, modules: tuple[str, ...], path: Path) -> None:
    cold_alone, cold_more = _cold(modules, path)
    few_fresh, few_used, _ = _warm(FEW, modules, path)
    many_fresh, many_used, private = _warm(MANY, modules, path)
    fresh = (many_fresh - few_fresh) / (MANY - FEW)
    used = (many_used - few_used) / (MANY - FEW)
    kind = "numpy and pandas" if modules == HEAVY else "the standard library"
    sheet.add(NAME, f"a cold process with {kind}, alone", "MiB PSS", cold_alone)
    sheet.add(NAME, "one cold process more", "MiB PSS", cold_more)
    sheet.add(NAME, "one worker more, fresh", "MiB PSS", fresh)
    sheet.add(NAME, f"one worker more, after {JOBS_A_WORKER} jobs", "MiB PSS", used)
    sheet.add(NAME, f"private memory of a worker, after {JOBS_A_WORKER} jobs", "MiB", private)
    sheet.add(NAME, "one worker more, fresh, of one cold process more", "%", 100 * fresh / cold_more, "<= 25")
    sheet.add(NAME, "one worker more, after jobs, of one cold process more", "%", 100 * used / cold_more, "<= 25")


def _cold(modules: tuple[str, ...], path: Path) -> tuple[float, float]:
    """PSS of one cold process alone, and of one more beside others."""
    with ExitStack() as stack, Server() as server:
        jobs = stack.enter_context(Folder(server, path))
        started = [jobs.cold(modules, stack)]
        alone = pss_mib(started)
        started.append(jobs.cold(modules, stack))
        few = pss_mib(started)
        started += [jobs.cold(modules, stack) for _ in range(MANY - FEW)]
        return alone, (pss_mib(started) - few) / (MANY - FEW)


class Folder(Rrqd):
    """A daemon's folder without the daemon, for cold processes that import the same handlers."""

    def __enter__(self) -> Folder:
        return self

    def __init__(self, server: Server, path: Path) -> None:
        super().__init__(server, heavy=path)

    def cold(self, modules: tuple[str, ...], stack: ExitStack) -> psutil.Process:
        """One more, once it has imported everything; ended by the stack."""
        process = subprocess.Popen(
            [sys.executable, "-c", COLD, "rrqd.runtime.main", *modules, "jobs"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self.environment(),
            cwd=HERE.parent,
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError("a cold process could not import its modules")
        return psutil.Process(process.pid)


def _warm(workers: int, modules: tuple[str, ...], path: Path) -> tuple[float, float, float]:
    """PSS of the whole daemon with so many workers, fresh and after some jobs; and a worker's private memory then."""
    with (
        Server() as server,
        Rrqd(server, processes=workers, heavy=path, preload=list(modules), concurrency=5) as daemon,
    ):
        fresh = pss_mib(daemon.processes())
        jobs = workers * JOBS_A_WORKER
        with SyncRRQClient(config={"redis_dsn": server.dsn}) as client:
            client.enqueue_many([("frame", None)] * jobs)
        ended: Callable[[], bool] = lambda: server.ended() >= jobs  # noqa: E731
        until(ended, 120, "the jobs to end")
        private = [private_mib(one) for one in daemon.workers()]
        return fresh, pss_mib(daemon.processes()), sum(private) / len(private)
