"""A clean directory for each run that asks for one, and nothing left afterwards.

``<root>/<worker id>/<token>``: the token names one run and no other. Removal is a rename into a trash folder (atomic)
and a deletion that never follows a link out of it. The folder of a whole worker is removed when it leaves; the steward
removes those of workers that were killed (or may not remove their own), and at its start all that no living worker
owns.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path


class Sandboxes:
    """One worker's directories. ``root`` is shared by all workers of a state directory."""

    def __init__(self, root: Path, worker_id: str) -> None:
        self.home = root / worker_id
        self._trash = self.home / "trash"

    def make(self, token: int) -> Path:
        """The directory of one run, empty, for this user only."""
        path = self.home / str(token)
        try:
            path.mkdir(mode=0o700)
        except FileNotFoundError:  # the worker's first
            for folder in (self.home.parent, self.home):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.mkdir(mode=0o700)
        return path

    def remove(self, path: Path) -> None:
        """Delete a run's directory, whatever is in it. Called in a thread: it may hold a million files."""
        doomed = path
        # Where that can't be done (a busy mount point; the job has put something in the trash folder's place) what can
        # be deleted is deleted where it is.
        with contextlib.suppress(OSError):
            if self._trash.is_symlink():
                self._trash.unlink()
            self._trash.mkdir(mode=0o700, exist_ok=True)
            os.rename(path, self._trash / path.name)
            doomed = self._trash / path.name
        delete(doomed)

    def close(self) -> None:
        """Remove the worker's whole folder."""
        delete(self.home)


class Indoors:
    """The whole process in one run's directory: what a job writes without saying where, and what it or its programs
    call temporary, goes there. For processes that run one job at a time."""

    def __init__(self) -> None:
        self._outside = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._before: tuple[str | None, str | None] | None = None

    def enter(self, path: Path) -> None:
        os.chdir(path)
        self._before = os.environ.get("TMPDIR"), tempfile.tempdir
        os.environ["TMPDIR"] = tempfile.tempdir = str(path)

    def leave(self) -> None:
        """Back to where the process was before. Nothing to do when it is there."""
        if self._before is None:
            return
        variable, tempfile.tempdir = self._before
        self._before = None
        if variable is None:
            os.environ.pop("TMPDIR", None)
        else:
            os.environ["TMPDIR"] = variable
        os.fchdir(self._outside)


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


def sweep(root: Path, alive: Callable[[], Iterable[str]]) -> int:
    """Remove folders of workers that are not ``alive``; answers how many.

    Who is alive is asked after looking: a worker that is born meanwhile must not lose what it has just made.
    """
    removed = 0
    try:
        folders = list(os.scandir(root))
    except FileNotFoundError:
        return 0
    living = set(alive())
    for folder in folders:
        if folder.name not in living and folder.is_dir(follow_symlinks=False):
            delete(Path(folder.path))
            removed += 1
    return removed
