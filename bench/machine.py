"""Facts of this machine, and what its processes cost."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil


def facts() -> dict[str, str]:
    """What a reader needs in order to compare."""
    return {
        "processors": f"{os.cpu_count()} x {_processor()}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": ", ".join(f"{name} {metadata.version(name)}" for name in ("rrqd", "uvloop", "hiredis", "msgspec")),
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def title(process: psutil.Process) -> str:
    """What ``ps`` shows, on one line."""
    try:
        return " ".join(process.cmdline()).strip()
    except psutil.Error:
        return ""


@dataclass(frozen=True, slots=True)
class Cost:
    """What some processes had used at one moment. ``wakeups``: times they slept and were woken."""

    cpu_seconds: float
    wakeups: int

    def since(self, before: Cost) -> Cost:
        return Cost(self.cpu_seconds - before.cpu_seconds, self.wakeups - before.wakeups)


def cost(processes: Iterable[psutil.Process]) -> Cost:
    """The sum over these processes; one that has left counts nothing."""
    seconds, wakeups = 0.0, 0
    for process in processes:
        try:
            times = process.cpu_times()
            seconds += times.user + times.system
            wakeups += _wakeups(process.pid)
        except (psutil.Error, OSError):
            continue
    return Cost(seconds, wakeups)


def _wakeups(pid: int) -> int:
    """Voluntary context switches of all threads: each is a sleep that ended."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total


def busy_seconds() -> float:
    """CPU seconds that all processors together have worked, for whomever."""
    times = psutil.cpu_times()
    return float(times.user + times.system + times.nice + times.irq + times.softirq)


def pss_mib(processes: Iterable[psutil.Process]) -> float:
    """Proportional set size of all together, MiB: what is shared counts once."""
    return sum(float(process.memory_full_info().pss) for process in processes) / 2**20


def private_mib(process: psutil.Process) -> float:
    """Memory that only this process has, MiB."""
    return float(process.memory_full_info().uss) / 2**20
