"""How much memory a process has for itself, and how much the control group leaves all of us.

Private memory and not RSS: a forked worker's RSS contains the whole shared mold, so that a limit on it would replace
healthy workers the day somebody preloads pandas. Reading it costs about a millisecond and holds up the process that is
looked at, so nobody is looked at often.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rrqd.tether import children

CGROUP_ROOT = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
KILLS_SECONDS = 2.0
"""How far apart the kernel's kills are counted: a death is heard of within a fraction of that."""


def private_bytes(pid: int, with_children: bool = False) -> int:
    """Memory that would be free if this process were gone, and its children with it if they are asked for; 0 when it
    is gone or may not be looked at."""
    if with_children:
        return private_bytes(pid) + sum(private_bytes(child) for child in children(pid))
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


@dataclass(frozen=True, slots=True)
class Files:
    """What the figures of a control group are called."""

    limit: str
    used: str
    droppable: str
    """The entry of memory.stat for what the kernel can drop at once."""
    kills: str


VERSION_2 = Files("memory.max", "memory.current", "inactive_file", "memory.events")
VERSION_1 = Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "memory.oom_control")
NO_LIMIT_BYTES = 1 << 60
"""Version 1 has no word for "none": its limit is then as large as a number can be."""


@dataclass(frozen=True, slots=True)
class GroupMemory:
    """The memory of a control group, of version 2 or 1."""

    folder: Path
    files: Files = VERSION_2

    @classmethod
    def mine(cls, root: Path = CGROUP_ROOT, own: Path = OWN_GROUPS) -> GroupMemory | None:
        """The nearest group above us with a limit of its own; None when there is none."""
        return next((group for group in cls._above(root, own) if group.limit_bytes()), None)

    @classmethod
    def counting(cls, root: Path = CGROUP_ROOT, own: Path = OWN_GROUPS) -> GroupMemory | None:
        """The nearest group that counts the kernel's kills, with a limit or not: version 1 tells nobody above."""
        return next((group for group in cls._above(root, own) if (group.folder / group.files.kills).exists()), None)

    @classmethod
    def _above(cls, root: Path, own: Path) -> Iterator[GroupMemory]:
        """The group that we are in, and those that it is in. What can't be seen from here is left out: in a container
        our path may be the host's, and then only the root is ours."""
        try:
            lines = [line.split(":", 2) for line in own.read_text().splitlines()]
        except OSError:
            return
        # Where both versions are mounted, memory is with one of them: with version 1 if it has a line of its own.
        found = [(root / names, path, VERSION_1) for _, names, path in lines if "memory" in names.split(",")]
        found += [(root, path, VERSION_2) for number, _, path in lines if number == "0"]
        if not found:
            return
        base, path, files = found[0]
        folder = base / path.strip("/")
        if ".." in folder.parts:
            return
        for candidate in (folder, *folder.parents):
            if candidate.is_relative_to(base):
                yield cls(candidate, files)

    def limit_bytes(self) -> int:
        """0 when there is none."""
        limit = _number(self.folder / self.files.limit)
        return limit if limit < NO_LIMIT_BYTES else 0

    def used_share(self) -> float:
        """Used of the limit, 0 to 1. What the kernel can drop at once (inactive file pages) does not count."""
        limit = self.limit_bytes()
        used = _number(self.folder / self.files.used) - _entry(self.folder / "memory.stat", self.files.droppable)
        return max(0, used) / limit if limit else 0.0

    def kills(self) -> int:
        """How often the kernel has killed somebody in it for memory, this group's or the whole machine's."""
        return _entry(self.folder / self.files.kills, "oom_kill")


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
