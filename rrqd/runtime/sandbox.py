"""A clean directory for each run that asks for one, and nothing left afterwards.

``<root>/<worker id>/<token>``: the token names one run and no other. Removal is a rename into a trash folder (atomic)
and a deletion that never follows a link out of it. The folder of a whole worker is removed when it leaves; leftovers
of workers that were killed are removed by the next worker that starts (their pid is in the name of no living process).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path


class Sandboxes:
    """One worker's directories. ``root`` is shared by all workers of a state directory."""

    def __init__(self, root: Path, worker_id: str) -> None:
        self.home = root / worker_id
        self._trash = self.home / "trash"

    def make(self, token: int) -> Path:
        """The directory of one run, empty, for this user only."""
        path = self.home / str(token)
        path.mkdir(mode=0o700, parents=True)
        return path

    def remove(self, path: Path) -> None:
        """Delete a run's directory, whatever is in it. Called in a thread: it may hold a million files."""
        self._trash.mkdir(mode=0o700, exist_ok=True)
        doomed = self._trash / path.name
        try:
            os.rename(path, doomed)
        except OSError:
            doomed = path  # a busy mount point, say: delete in place what can be deleted
        delete(doomed)

    def close(self) -> None:
        """Remove the worker's whole folder."""
        delete(self.home)


def delete(path: Path) -> None:
    """Remove a tree. Links are removed, not followed; a directory made unreadable by the job is opened again."""

    def open_up(function: object, name: str, _info: object) -> None:
        try:
            os.chmod(os.path.dirname(name), 0o700)
            os.chmod(name, 0o700)
            os.rmdir(name) if os.path.isdir(name) and not os.path.islink(name) else os.unlink(name)
        except OSError:
            pass  # what cannot be removed now is found again by `sweep`

    shutil.rmtree(path, onerror=open_up)


def sweep(root: Path, alive: Iterable[str]) -> int:
    """Remove folders of workers that are not in ``alive``; answers how many."""
    living = set(alive)
    removed = 0
    try:
        folders = list(os.scandir(root))
    except FileNotFoundError:
        return 0
    for folder in folders:
        if folder.name not in living and folder.is_dir(follow_symlinks=False):
            delete(Path(folder.path))
            removed += 1
    return removed
