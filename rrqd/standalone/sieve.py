"""Which files count when a development worker is watched: patterns, and what git leaves out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

import pathspec


class Sieve:
    """Lets through the files below ``root`` that match an ``include`` pattern and no ``ignore`` pattern.

    A pattern is a glob for a path relative to ``root`` or for a name; an ``ignore`` pattern also leaves out all that is
    in a folder it matches. With ``gitignore`` the files that git ignores are left out, too: by the .gitignore of each
    folder up to the repository's, the inner ones last, and by .git/info/exclude.
    """

    def __init__(self, root: Path, include: Sequence[str], ignore: Sequence[str], *, gitignore: bool = True) -> None:
        self._root = root.resolve()
        self._include = list(include)
        self._ignore = list(ignore)
        self._top = next((one for one in (self._root, *self._root.parents) if (one / ".git").exists()), self._root)
        self._gitignore = gitignore

    def lets_through(self, path: str) -> bool:
        """Whether a change of this file is one."""
        file = Path(path)
        if not file.is_relative_to(self._root):
            return False
        inside = file.relative_to(self._root)
        steps = [inside, *list(inside.parents)[:-1]]
        if any(_matches(step, pattern) for step in steps for pattern in self._ignore):
            return False
        if not any(_matches(inside, pattern) for pattern in self._include):
            return False
        return not (self._gitignore and self._is_ignored(file))

    def _is_ignored(self, file: Path) -> bool:
        """A file is ignored when it or a folder above it is: git can't take a file out of an ignored folder."""
        steps = [file, *(one for one in file.parents if one != self._top and one.is_relative_to(self._top))]
        return any(self._is_excluded(step, is_folder=step != file) for step in reversed(steps))

    def _is_excluded(self, path: Path, *, is_folder: bool) -> bool:
        excluded = False
        for folder, rules in self._rules_above(path):
            name = path.relative_to(folder).as_posix() + ("/" if is_folder else "")
            said = rules.check_file(name).include
            if said is not None:
                excluded = said
        return excluded

    def _rules_above(self, path: Path) -> Iterator[tuple[Path, pathspec.GitIgnoreSpec]]:
        """Rule files from the outermost on, and the folder that each speaks of."""
        folders = [one for one in path.parents if one.is_relative_to(self._top)]
        places = [(self._top, self._top / ".git" / "info" / "exclude")]
        places += [(folder, folder / ".gitignore") for folder in reversed(folders)]
        for folder, file in places:
            try:
                yield folder, _read_rules(file, file.stat().st_mtime_ns)
            except OSError:
                continue


def _matches(path: Path, pattern: str) -> bool:
    return fnmatchcase(path.as_posix(), pattern) or fnmatchcase(path.name, pattern)


@lru_cache(maxsize=256)
def _read_rules(file: Path, _changed_ns: int) -> pathspec.GitIgnoreSpec:
    return pathspec.GitIgnoreSpec.from_lines(file.read_text(encoding="utf-8", errors="replace").splitlines())
