"""What imports leave behind: measured before and after each step, and judged.

Rules of this file:

* Only the kernel is asked (`/proc`), so native libraries count as much as Python's.
* `refused` is what a fork would break: threads (they don't exist in the child, their locks stay locked) and event
  loops (shared with the child). `warned` is what works and is seldom meant: connections, child processes.
* A thread is refused only if it outlives a fork. OpenBLAS, for one, starts threads when numpy is imported and ends
  them in a hook before each fork; so whoever leaves threads is tried with a fork (`forking`) before it is judged.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from rrqd.supervisor import forking

T = TypeVar("T")

OK, WARNED, REFUSED = "ok", "warned", "refused"
FORK = "fork"
"""Name of the step that forks once, after everything else."""
SLOW_SECONDS = 0.05
"""What took longer is worth a line in the log."""
THREAD_END_SECONDS = 0.2
"""A thread that was joined is still listed for a moment; one that is about to end may do so."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a process has that is its own affair, and that a fork would copy, share or lose."""

    threads: Mapping[int, str]
    """Kernel's number -> name, without the main thread."""
    loops: int
    """epoll descriptors: shared with the child, whose changes would be the parent's."""
    sockets: frozenset[str]
    """Inodes of sockets of all families."""
    children: Mapping[int, str]
    """Process id -> name, of those that run."""
    memory_bytes: int
    """Anonymous memory: what workers share after a fork, and what no other program could have paid for."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one import cost and left behind."""

    name: str
    seconds: float
    memory_bytes: int = 0
    threads: int = 0
    sockets: int = 0
    loops: int = 0
    children: int = 0
    verdict: str = OK
    problems: tuple[str, ...] = ()

    def as_fields(self) -> dict[str, Any]:
        """For JSON."""
        fields = asdict(self)
        return {"import": fields.pop("name"), **fields, "problems": list(self.problems)}


class Audit:
    """The steps so far."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def step(self, name: str, do: Callable[[], T], what: str = "") -> T:
        """Import something (or call it), and compare what is there with what was there before.

        `what` opens the sentences about it; left out: ``importing <name>``.
        """
        before, began = footprint(), time.perf_counter()
        result = do()
        seconds = time.perf_counter() - began
        after = footprint()
        self.steps.append(_judge(name, what or f"importing {name}", seconds, before, after))
        return result

    def try_fork(self) -> None:
        """Fork once in earnest, after everything: hooks that hang are found now and not at the first worker."""
        trial = forking.trial()
        problems: tuple[str, ...] = ()
        verdict = OK
        if trial.problem:
            verdict, problems = REFUSED, (trial.problem,)
        elif trial.threads > 1:
            verdict = WARNED
            problems = (f"an at-fork hook starts threads ({trial.threads - 1}) in whatever is forked",)
        self.steps.append(
            Step(FORK, round(trial.seconds, 3), threads=max(0, trial.threads - 1), verdict=verdict, problems=problems)
        )

    @property
    def refused(self) -> list[str]:
        return self._problems(REFUSED)

    @property
    def warned(self) -> list[str]:
        return self._problems(WARNED)

    def _problems(self, verdict: str) -> list[str]:
        return [problem for step in self.steps if step.verdict == verdict for problem in step.problems]

    def short(self) -> list[dict[str, Any]]:
        """For a log line: what took long or was warned of, and the sum of all."""
        worth = [step for step in self.steps if step.seconds > SLOW_SECONDS or step.verdict != OK]
        told = [*worth, total(self.steps)]
        return [
            {"import": one.name, "seconds": one.seconds, "memory_bytes": one.memory_bytes, "verdict": one.verdict}
            for one in told
        ]


def total(steps: Iterable[Step]) -> Step:
    """The sum of all steps, with the worst verdict."""
    rows = list(steps)
    verdicts = {step.verdict for step in rows}
    return Step(
        "total",
        round(sum(step.seconds for step in rows), 3),
        sum(step.memory_bytes for step in rows),
        sum(step.threads for step in rows),
        sum(step.sockets for step in rows),
        sum(step.loops for step in rows),
        sum(step.children for step in rows),
        next((verdict for verdict in (REFUSED, WARNED) if verdict in verdicts), OK),
    )


def _judge(name: str, what: str, seconds: float, before: Footprint, after: Footprint) -> Step:
    refused, warned = [], []
    threads = _new(before.threads, after.threads)
    if threads:
        # With a hook that hangs, nobody knows whether the threads would have ended; the fork after all steps tells.
        forking.trial()
        threads = _lasting(threads)
    if threads:
        refused.append(f"{what} leaves a thread running ({', '.join(threads.values())}); start it in on_startup")
    loops = max(0, after.loops - before.loops)
    if loops:
        refused.append(f"{what} creates an event loop; create it in on_startup")
    sockets = _internet(after.sockets - before.sockets)
    if sockets:
        warned.append(f"{what} opens a network connection that all workers will share; open it in on_startup")
    children = _new(before.children, after.children)
    if children:
        names = ", ".join(f"{child} {pid}" for pid, child in children.items())
        warned.append(f"{what} leaves a child process running ({names}), which is no worker's; start it in on_startup")
    return Step(
        name,
        round(seconds, 3),
        after.memory_bytes - before.memory_bytes,
        len(threads),
        sockets,
        loops,
        len(children),
        REFUSED if refused else WARNED if warned else OK,
        (*refused, *warned),
    )


def _new(before: Mapping[int, str], after: Mapping[int, str]) -> dict[int, str]:
    return {number: name for number, name in after.items() if number not in before}


def _lasting(threads: dict[int, str]) -> dict[int, str]:
    """Those that are still there when the others have had their moment to end."""
    deadline = time.monotonic() + THREAD_END_SECONDS
    while True:
        there = threads_now()
        threads = {number: name for number, name in threads.items() if number in there}
        if not threads or time.monotonic() > deadline:
            return threads
        select.select([], [], [], 0.002)


def footprint() -> Footprint:
    """Of this process, as the kernel sees it."""
    sockets, loops = set(), 0
    for number in _listed("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue  # the descriptor with which the folder was listed
        loops += target == "anon_inode:[eventpoll]"
        if target.startswith("socket:["):
            sockets.add(target[8:-1])
    return Footprint(threads_now(), loops, frozenset(sockets), _children(), _memory_bytes())


def threads_now() -> dict[int, str]:
    """Number -> name of the threads of this process besides the main one."""
    main = os.readlink("/proc/self")
    # Python does not tell the kernel the names of its threads before 3.14.
    threading = sys.modules.get("threading")
    names = {one.native_id: one.name for one in threading.enumerate()} if threading else {}
    threads = {}
    for number in _listed("/proc/self/task"):
        name = _read(f"/proc/self/task/{number}/comm").strip()
        if number != main and name:  # no name: it was just ending
            threads[int(number)] = names.get(int(number), name)
    return threads


def _children() -> dict[int, str]:
    found = {}
    for thread in _listed("/proc/self/task"):
        for pid in _read(f"/proc/self/task/{thread}/children").split():
            name, _, rest = _read(f"/proc/{pid}/stat").partition("(")[2].rpartition(")")
            if rest and rest.split()[0] != "Z":  # whoever has ended, and is only not yet collected, is gone
                found[int(pid)] = name
    return found


def _memory_bytes() -> int:
    for line in _read("/proc/self/smaps_rollup").splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    # Not every kernel has it. Resident less what belongs to files comes near.
    pages = _read("/proc/self/statm").split()
    return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE") if pages else 0


def _internet(inodes: frozenset[str]) -> int:
    """How many of these sockets are the internet's. The tables are long on busy machines: read only when needed."""
    if not inodes:
        return 0
    known: set[str] = set()
    for name in ("tcp", "tcp6", "udp", "udp6"):
        known.update(line.split()[9] for line in _read(f"/proc/self/net/{name}").splitlines()[1:])
    return len(inodes & known)


def _listed(folder: str) -> list[str]:
    return sorted(os.listdir(folder), key=int)


def _read(path: str) -> str:
    """The text, or nothing: processes and threads end while they are looked at."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
