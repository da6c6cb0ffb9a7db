"""RQ's face beside RQ: how fast a program enqueues calls one by one, and how fast two workers run them. And how long
the first job of all takes, where there is no server yet.

Both sides run the same program (``rq_program.py``), each on a fresh server with a full queue before its workers start:
a daemon with two processes here, two ``rq worker`` there. The clock runs from the start of the first job to the end of
the last, as the jobs themselves tell, so nobody's start-up counts. RQ forks for every job, so it gets fewer of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.daemon import HERE, Rrqd
from bench.server import Server, until
from bench.sheet import Plan, Sheet

NAME = "rq"
FIRST = """
from rrqd.rq import Queue, Worker
queue = Queue()
job = queue.enqueue(max, 2, 3)
Worker([queue]).work(burst=True)
print(job.result)
"""
CALLS = "def nothing(number=0):\n    return None\n"
ENQUEUED = 2_000
RQ_JOBS = 200
CONCURRENCY = 50
PATIENCE_SECONDS = 120.0


def run(plan: Plan, sheet: Sheet) -> None:
    for _ in range(plan.repeat):
        _first(sheet)
        with tempfile.TemporaryDirectory(prefix="rrqd-bench-rq-") as folder:
            (Path(folder) / "calls.py").write_text(CALLS)
            ours = _enqueue(sheet, "rrqd.rq", Path(sys.executable), folder)
            drained = _ours(plan, sheet, folder)
            if plan.rq is not None:
                theirs = _enqueue(sheet, "rq", plan.rq, folder)
                sheet.add(NAME, "rrqd.rq : rq, enqueue one by one", "times", ours / theirs, ">= 1")
                sheet.add(NAME, "rrqd.rq : rq, jobs run", "times", drained / _theirs(sheet, plan.rq, folder), ">= 20")


def _first(sheet: Sheet) -> None:
    """A process in a home that is not there yet: its server, a job, a worker, the result."""
    with tempfile.TemporaryDirectory(prefix="rrqd-bench-first-", ignore_cleanup_errors=True) as folder:
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", FIRST], env={**_environment(folder), "RRQD_HOME": f"{folder}/home"}, check=True,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_SECONDS,
        )  # fmt: skip
        took = time.perf_counter() - began
    if done.stdout != "3\n":
        raise RuntimeError(f"the first job's result is {done.stdout!r}")
    sheet.add(NAME, "rrqd.rq, the first result with no server there", "s", took, "<= 1")


def _enqueue(sheet: Sheet, package: str, python: Path, folder: str) -> float:
    with Server() as server:
        done = program(python, folder, package, "enqueue", server.dsn, ENQUEUED)
    rate = float(done["jobs"] / done["seconds"])
    sheet.add(NAME, f"{package}, enqueue one by one", "jobs/s", rate)
    return rate


def _ours(plan: Plan, sheet: Sheet, folder: str) -> float:
    with Server() as server:
        program(Path(sys.executable), folder, "rrqd.rq", "fill", server.dsn, plan.jobs)
        daemon = Rrqd(server, concurrency=CONCURRENCY, handlers="dotted:calls.*", queues=["bench"])
        (daemon.folder / "calls.py").write_text(CALLS)
        with daemon:
            return _drained(sheet, "rrqd.rq", Path(sys.executable), folder, server, plan.jobs)


def _theirs(sheet: Sheet, python: Path, folder: str) -> float:
    with Server() as server:
        program(python, folder, "rq", "fill", server.dsn, RQ_JOBS)
        command = [str(python.parent / "rq"), "worker", "--quiet", "--url", server.dsn, "bench"]
        with (Path(folder) / "log").open("wb") as log:
            workers = [
                subprocess.Popen(
                    command, cwd=folder, env=_environment(folder), stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
                for _ in range(2)
            ]
        try:
            return _drained(sheet, "rq", python, folder, server, RQ_JOBS)
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait(30)


def _drained(sheet: Sheet, package: str, python: Path, folder: str, server: Server, jobs: int) -> float:
    """Wait until all have run; jobs a second."""
    empty = ("rq:queue:bench",) if package == "rq" else ("rrq:queue:bench",)
    until(lambda: not server.redis.exists(*empty), PATIENCE_SECONDS, f"{package} to take all jobs")

    def ended() -> dict[str, Any] | None:
        found = program(python, folder, package, "ended", server.dsn)
        return found if found["jobs"] > jobs else None  # one more: the first, which connected

    done = until(ended, PATIENCE_SECONDS, f"{package} to finish all jobs", every=0.2)
    rate = float(done["jobs"] / done["seconds"])
    sheet.add(NAME, f"{package}, two workers, jobs run", "jobs/s", rate)
    return rate


def program(python: Path, folder: str, *words: object) -> dict[str, Any]:
    """What ``rq_program.py`` printed."""
    command = [str(python), "-P", str(HERE / "rq_program.py"), *map(str, words)]
    done = subprocess.run(
        command, cwd=folder, env=_environment(folder), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"rq_program.py {words[0]} {words[1]} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout))


def _environment(folder: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([folder, str(HERE.parent)]), "PYTHONDONTWRITEBYTECODE": "1"}
