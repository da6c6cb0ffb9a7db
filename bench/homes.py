"""Programs on an embedded server of their own, of which one member after the other is killed at random: is any job lost
whose enqueue was answered? A part of `python -m bench.soak`.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from bench.server import until
from bench.sheet import Sheet
from rrqd.supervisor.embedded import PID_FILE
from rrqd.supervisor.home import Home, enter

#: Producers and workers are forked from one program that has imported all they need: to start each from nothing would
#: take most of the time. Ids are numbers, so nobody can be wrong about a result.
PROGRAM = """
import os, signal, sys, time
from itertools import count
import rrqd.standalone
from rrqd.rq import Job, Queue, Worker
from rrqd.tether import tether

def say(*words):  # one write, which no other process' words part
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def same(number):
    return number

queue = Queue("kills")

def enqueue(first):
    for number in count(first):
        queue.enqueue(same, number, job_id=f"n-{number}", result_ttl=-1)
        say("answered", number)
        time.sleep(0.005)

def work(_):
    Worker([queue], concurrency=2).work()

def look(numbers):
    for number, job in zip(numbers, Job.fetch_many([f"n-{number}" for number in numbers])):
        if job is None or job.get_result(timeout=30) != number:
            say(number, job and job.get_status())

if __name__ == "__main__" and sys.argv[1:] == ["look"]:
    look(list(map(int, sys.stdin)))
elif __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    tie = tether(signal.SIGKILL)  # a bench that is killed leaves nobody
    for line in sys.stdin:
        what, first = line.split()
        pid = os.fork()
        if not pid:
            tie()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            globals()[what](int(first))
            os._exit(1)
        say(what, pid)
"""
VICTIMS = ("producer", "worker", "keeper", "server")
#: Enqueues that are answered between two kills, at most.
MOST_BETWEEN = 40
PATIENCE_SECONDS = 30.0


class Homestead:
    """A home, a worker and a producer; those are started again when they die."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder / "home")
        self._script = folder / "program.py"
        self._script.write_text(PROGRAM)
        self.acknowledged: list[int] = []
        self._producers = 0
        self._members: dict[str, int] = {}
        self._program = self._start()
        self._ear = threading.Thread(target=self._hear)
        self._ear.start()
        self._fork("work")
        self._fork("enqueue")

    def _start(self, *words: str) -> subprocess.Popen[str]:
        root = str(Path(__file__).parents[1])
        with (self._script.parent / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, str(self._script), *words], text=True, bufsize=1,
                env={**os.environ, "RRQD_HOME": str(self.home.folder), "PYTHONPATH": root},
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip

    def _fork(self, what: str) -> None:
        assert self._program.stdin is not None
        self._producers += what == "enqueue"
        self._program.stdin.write(f"{what} {self._producers * 1_000_000}\n")

    def _hear(self) -> None:
        assert self._program.stdout is not None
        for line in self._program.stdout:
            what, number = line.split()
            if what == "answered":
                self.acknowledged.append(int(number))
            else:
                self._members[what] = int(number)

    def _end(self, what: str) -> None:
        until(lambda: what in self._members, PATIENCE_SECONDS, f"{what} to be forked")
        os.kill(self._members.pop(what), signal.SIGKILL)

    def server(self) -> psutil.Process | None:
        """The home's server, if it lives; the keeper is its parent."""
        try:
            process = psutil.Process(int((self.home.folder / "valkey" / PID_FILE).read_text()))
            fits = process.cwd() == str(self.home.folder / "valkey") and process.status() != psutil.STATUS_ZOMBIE
        except (OSError, ValueError, psutil.Error):
            return None
        return process if fits else None

    def kill(self, victim: str, answers: int) -> None:
        """When so many more enqueues have been answered."""
        enough = len(self.acknowledged) + answers
        until(lambda: len(self.acknowledged) >= enough, PATIENCE_SECONDS, "enqueues to be answered", every=0.002)
        if victim in ("worker", "producer"):
            what = "work" if victim == "worker" else "enqueue"
            self._end(what)
            self._fork(what)
            return
        server = until(self.server, PATIENCE_SECONDS, "the server to be there")
        process = server if victim == "server" else server.parent()
        if process is not None and process.pid != 1:
            process.kill()

    def lost(self) -> list[str]:
        """Numbers of jobs that are not there, or have no result, and where they are."""
        self._end("enqueue")
        done = self._start("look")
        said, _ = done.communicate("\n".join(map(str, self.acknowledged)), timeout=300)
        if done.returncode:
            raise RuntimeError((self._script.parent / "log").read_text()[-2000:])
        return said.splitlines()

    def close(self) -> None:
        for pid in self._members.values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert self._program.stdin is not None
        self._program.stdin.close()
        self._program.wait(PATIENCE_SECONDS)
        self._ear.join(PATIENCE_SECONDS)
        until(lambda: self.server() is None, 15, "the keeper to leave")


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


def homes(sheet: Sheet, long: bool) -> None:
    """Producers, worker, keeper and embedded server are killed; every job whose enqueue was answered is run."""
    dice, killed, began = random.Random(7), Counter[str](), time.monotonic()
    with homestead() as place:
        for _ in range(1000 if long else 100):
            victim = dice.choice(VICTIMS)
            place.kill(victim, dice.randrange(1, MOST_BETWEEN))
            killed[victim] += 1
        took, lost = time.monotonic() - began, place.lost()
        sheet.add("homes", "jobs acknowledged", "", len(place.acknowledged))
    for victim in VICTIMS:
        sheet.add("homes", f"kills of the {victim}", "", killed[victim])
    sheet.add("homes", "all kills", "s", took)
    sheet.add("homes", "jobs lost", "", len(lost), "<= 0")
    if lost:
        sheet.broken(f"homes: lost: {', '.join(lost[:10])}")
