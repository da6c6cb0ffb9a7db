"""A control group for each worker, where systemd has delegated one to us: the only way to end all that a job started.

A process group is left by a ``setsid``; a control group is left by nobody. Wanted: version 2, ``Delegate=yes`` and
``DelegateSubgroup=supervisor`` in the unit, so that we are in ``…/rrqd.service/supervisor`` and may make neighbours.
Anywhere else there is nothing here to do, and process groups have to be enough.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

SUBGROUP = "supervisor"
ROOTS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
PREFIX = "worker-"


@dataclass(frozen=True, slots=True)
class Leaves:
    """The workers' groups, below the one that was delegated."""

    base: Path

    @classmethod
    def delegated(cls, roots: tuple[Path, ...] = ROOTS, own: Path = Path("/proc/self/cgroup")) -> Leaves | None:
        """Ours, with what an earlier rrqd left in it removed; None when there is none."""
        try:
            path = next(line[3:] for line in own.read_text().splitlines() if line.startswith("0::"))
        except (OSError, StopIteration):
            return None
        for root in roots:
            mine = root / path.strip().lstrip("/")
            base = mine.parent
            if mine.name == SUBGROUP and (mine / "cgroup.kill").exists() and os.access(base / "cgroup.procs", os.W_OK):
                return cls(base)
        return None

    def put(self, worker_id: str, pid: int) -> bool:
        """Move a worker into a group of its own; what it starts from now on is in it, too. False when it can't be."""
        leaf = self._leaf(worker_id)
        try:
            leaf.mkdir(exist_ok=True)
            (leaf / "cgroup.procs").write_text(str(pid))
        except OSError:
            return False
        return True

    def end(self, worker_id: str) -> None:
        """Kill whoever is left in a worker's group. The group goes now, or with `sweep`: the dead need a moment."""
        self._end(self._leaf(worker_id))

    def sweep(self, living: set[str]) -> None:
        """Remove the groups of workers that are no more."""
        for leaf in self.base.glob(f"{PREFIX}*"):
            if leaf.name.removeprefix(PREFIX) not in living:
                self._end(leaf)

    def _leaf(self, worker_id: str) -> Path:
        return self.base / f"{PREFIX}{worker_id}"

    @staticmethod
    def _end(leaf: Path) -> None:
        try:
            (leaf / "cgroup.kill").write_text("1")
            leaf.rmdir()
        except OSError:
            pass  # gone already, or still occupied by the dying
