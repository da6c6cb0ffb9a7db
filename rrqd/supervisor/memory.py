"""How much memory a process has for itself, and how much the control group leaves all of us.

Private memory and not RSS: a forked worker's RSS contains the whole shared mold, so that a limit on it would replace
healthy workers the day somebody preloads pandas. Reading it costs about a millisecond and holds up the process that is
looked at, so nobody is looked at often.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
KILLS_SECONDS = 2.0
"""How far apart the kernel's kills are counted: a death is heard of within a fraction of that."""


def private_bytes(pid: int, with_children: bool = False) -> int:
    """Memory that would be free if this process were gone, and its children with it if they are asked for; 0 when it
    is gone or may not be looked at."""
    if with_children:
        return private_bytes(pid) + sum(private_bytes(child) for child in _children(pid))
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def _children(pid: int) -> list[int]:
    """A thread may have started them, so all threads are asked."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, thread.read_text().split())
        except OSError:  # it has just ended
            continue
    return found


@dataclass(frozen=True, slots=True)
class GroupMemory:
    """The memory of a control group (version 2) that has a limit."""

    folder: Path

    @classmethod
    def mine(cls, root: Path = CGROUP_ROOT, own: Path = Path("/proc/self/cgroup")) -> GroupMemory | None:
        """The nearest group above us with a limit of its own; None when there is none, or no version 2."""
        try:
            path = next(line[3:] for line in own.read_text().splitlines() if line.startswith("0::"))
        except (OSError, StopIteration):
            return None
        folder = root / path.strip().lstrip("/")
        if ".." in folder.parts:  # in none that can be seen from here
            return None
        for candidate in (folder, *folder.parents):
            if not candidate.is_relative_to(root):
                return None
            if cls(candidate).limit_bytes():
                return cls(candidate)
        return None

    def limit_bytes(self) -> int:
        """0 when there is none."""
        return _number(self.folder / "memory.max")

    def used_share(self) -> float:
        """Used of the limit, 0 to 1. What the kernel can drop at once (inactive file pages) does not count."""
        limit = self.limit_bytes()
        used = _number(self.folder / "memory.current") - _entry(self.folder / "memory.stat", "inactive_file")
        return max(0, used) / limit if limit else 0.0

    def kills(self) -> int:
        """How often the kernel has killed somebody in it for memory."""
        return _entry(self.folder / "memory.events", "oom_kill")


class Kills:
    """Whether a death by SIGKILL was the kernel's, for memory: it has killed somebody of our group just before."""

    def __init__(self, group: GroupMemory | None) -> None:
        self.group = group
        self._before = self._counted = group.kills() if group else 0
        self._counted_at = 0.0

    def turn(self, now: float) -> None:
        """Forget kills that are too old to explain a death that is heard of from now on."""
        if self.group is not None and now - self._counted_at >= KILLS_SECONDS:
            self._before, self._counted, self._counted_at = self._counted, self.group.kills(), now

    def explain_one(self) -> bool:
        """Of the recent kills that no death has had yet, take one."""
        if self.group is None or self.group.kills() <= self._before:
            return False
        self._before += 1
        self._counted = max(self._counted, self._before)
        return True


def _number(path: Path) -> int:
    try:
        text = path.read_text().strip()
    except OSError:
        return 0
    return int(text) if text.isdecimal() else 0


def _entry(path: Path, name: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0)
