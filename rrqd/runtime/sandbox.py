"""A clean directory for each run that asks for one, and nothing left afterwards.

``<root>/<worker id>/<token>``: the token names one run and no other. Removal is a rename into a trash folder (atomic)
and a deletion that never follows a link out of it. The folder of a whole worker is removed when it leaves; the steward
removes those of workers that were killed, and at its start all that no living worker owns.
"""

from __future__ import annotations

import contextlib
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
        self._trash.mkdir(mode=0o700, parents=True, exist_ok=True)
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
    """Remove a tree. Links are removed, not followed; directories that the job has closed are opened again.

    What cannot be removed all the same is found again by `sweep`.
    """
    if path.is_symlink() or not path.is_dir():  # the job put something else in its place
        with contextlib.suppress(OSError):
            path.unlink()
        return
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        _open_up(path)
        shutil.rmtree(path, ignore_errors=True)


def _open_up(path: Path) -> None:
    """Let us into every directory of a tree."""
    with contextlib.suppress(OSError):
        os.chmod(path, 0o700)
        for folder, inner, _files in os.walk(path):
            for name in inner:
                if not os.path.islink(os.path.join(folder, name)):
                    os.chmod(os.path.join(folder, name), 0o700)


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
