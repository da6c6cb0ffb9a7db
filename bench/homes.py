"""Programs on an embedded server of their own, of which one member after the other is killed at random: is any job lost
whose enqueue was answered? A part of `python -m bench.soak`.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from bench.server import until
from bench.sheet import Sheet
from rrqd.supervisor.home import Home, enter

#: One program for producers and worker. Ids are numbers, so nobody can be wrong about a result.
PROGRAM = """
import sys
from rrqd.rq import Job, Queue, Worker

def same(number):
    return number

queue = Queue("kills")
if sys.argv[1] == "work":
    Worker([queue], concurrency=2).work()
elif sys.argv[1] == "enqueue":
    for number in range(int(sys.argv[2]), int(sys.argv[2]) + 1000):
        queue.enqueue(same, number, job_id=f"n-{number}", result_ttl=-1)
        print(number, flush=True)
else:
    for number in map(int, sys.stdin):
        job = queue.fetch_job(f"n-{number}")
        if job is None or job.get_result(timeout=30) != number:
            print(number, job and job.get_status(), flush=True)
"""
VICTIMS = ("producer", "worker", "keeper", "server")
#: Acknowledged before the kill, at most; and after it, where the producer outlives it.
MOST_BEFORE = 40
AFTER = 5


class Homestead:
    """A home, a worker that is started again when it dies, and producers."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder / "home")
        self._script = folder / "program.py"
        self._script.write_text(PROGRAM)
        self.acknowledged: list[int] = []
        self.worker = self.start("work")

    def start(self, *words: str) -> subprocess.Popen[str]:
        root = str(Path(__file__).parents[1])
        with (self._script.parent / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, str(self._script), *words], text=True,
                env={**os.environ, "RRQD_HOME": str(self.home.folder), "PYTHONPATH": root},
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip

    def members(self, kind: str) -> list[psutil.Process]:
        """The processes of the keeper or the server."""
        found = []
        for process in psutil.process_iter():
            try:
                if kind == "server":
                    fits = process.cwd() == str(self.home.folder / "valkey")
                else:
                    line = process.cmdline()
                    fits = "rrqd.supervisor.keeper" in line and str(self.home.folder) in line
                if fits and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                pass
        return found

    def round(self, first: int, victim: str, before: int) -> None:
        """Enqueue so many, kill the victim, see that the others go on."""
        producer = self.start("enqueue", str(first))
        try:
            self._hear(producer, before)
            if victim == "worker":
                end(self.worker)
                self.worker = self.start("work")
            elif victim != "producer":
                for process in self.members(victim):
                    process.kill()
                self._hear(producer, AFTER)
        finally:
            end(producer)

    def _hear(self, producer: subprocess.Popen[str], answers: int) -> None:
        assert producer.stdout is not None
        self.acknowledged += [int(producer.stdout.readline()) for _ in range(answers)]

    def lost(self) -> list[str]:
        """Numbers of jobs that are not there, or have no result, and where they are."""
        done = self.start("look")
        said, _ = done.communicate("\n".join(map(str, self.acknowledged)), timeout=300)
        if done.returncode:
            raise RuntimeError((self._script.parent / "log").read_text()[-2000:])
        return said.splitlines()

    def close(self) -> None:
        end(self.worker)
        until(lambda: not self.members("keeper") and not self.members("server"), 15, "the keeper to leave")


@contextmanager
def homestead() -> Iterator[Homestead]:
    """One that is gone in the end."""
    with tempfile.TemporaryDirectory(prefix="rrqd-bench-home-") as folder:
        stay = enter(Home(Path(folder) / "home"))  # so the server never leaves by itself: it is killed
        made = Homestead(Path(folder))
        try:
            yield made
        finally:
            stay.end()
            made.close()


def end(process: subprocess.Popen[str]) -> None:
    """Kill it, and take what it has said away."""
    process.kill()
    process.wait(10)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def homes(sheet: Sheet, long: bool) -> None:
    """Producers, worker, keeper and embedded server are killed; every job whose enqueue was answered is run."""
    dice, killed, began = random.Random(7), Counter[str](), time.monotonic()
    with homestead() as place:
        for nth in range(100 if long else 5):
            victim = dice.choice(VICTIMS)
            place.round(nth * 1000, victim, dice.randrange(1, MOST_BEFORE))
            killed[victim] += 1
        took, lost = time.monotonic() - began, place.lost()
        sheet.add("homes", "jobs acknowledged", "", len(place.acknowledged))
    for victim in VICTIMS:
        sheet.add("homes", f"kills of the {victim}", "", killed[victim])
    sheet.add("homes", "all rounds", "s", took)
    sheet.add("homes", "jobs lost", "", len(lost), "<= 0")
    if lost:
        sheet.broken(f"homes: lost: {', '.join(lost[:10])}")
