"""Which line of a TOML file a key stands on.

`tomllib` parses but forgets where. This walks a text that tomllib has already accepted, so it never judges:
it only has to know where keys, strings, comments, arrays and inline tables begin and end.
"""

from __future__ import annotations

import re
import tomllib

Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"""(?!")|' + r"'''.*?'''(?!')|" + r'"(?:[^"\\\n]|\\.)*"|' + r"'[^'\n]*'", re.DOTALL
)
_SCALAR = re.compile(r"[^,\]}#\n]+")


def locate(text: str) -> dict[Path, int]:
    """Path of every table, key and array element -> its line (from 1). `text` must be valid TOML."""
    return _Walk(text).lines


class _Walk:
    """One pass over the text; `at` is the place reached."""

    def __init__(self, text: str) -> None:
        self.text = text.replace("\r\n", "\n")
        self.at = 0
        self.counted_to = 0
        self.line = 1
        self.lines: dict[Path, int] = {}
        self.sizes: dict[Path, int] = {}  # elements seen so far in each [[array of tables]]
        self._document()

    def _document(self) -> None:
        table: Path = ()
        self._skip_blank()
        while self.at < len(self.text):
            if self.text.startswith("[[", self.at):
                table = self._header(2)
                self.sizes[table] = self.sizes.get(table, 0) + 1
                table = (*table, self.sizes[table] - 1)
                self.lines[table] = self._here()
            elif self.text[self.at] == "[":
                table = self._header(1)
                self.lines[table] = self._here()
            else:
                self._pair(table)
            self._skip_blank()

    def _header(self, brackets: int) -> Path:
        """`[a.b]` or `[[a.b]]`; a name that is an array of tables means its newest element."""
        self.at += brackets
        *parents, last = self._key()
        path: Path = ()
        for name in parents:
            path = self._newest((*path, name))
        path = (*path, last)
        self.lines.setdefault(path, self._here())
        self.at += brackets
        return path

    def _newest(self, path: Path) -> Path:
        self.lines.setdefault(path, self._here())
        return (*path, self.sizes[path] - 1) if path in self.sizes else path

    def _pair(self, table: Path) -> None:
        for name in self._key():
            table = (*table, name)
            self.lines.setdefault(table, self._here())
        self.at += 1  # the equals sign
        self._value(table)

    def _key(self) -> list[str]:
        """A dotted key; stops at the sign behind it."""
        names = []
        while True:
            self._skip_blank()
            quoted = _STRING.match(self.text, self.at)
            found = quoted or _BARE_KEY.match(self.text, self.at)
            if found is None:
                raise ValueError(f"not a key, line {self._here()}")
            names.append(tomllib.loads("k = " + found[0])["k"] if quoted else found[0])
            self.at = found.end()
            self._skip_blank()
            if self.text[self.at] != ".":
                return names
            self.at += 1

    def _value(self, path: Path) -> None:
        self._skip_blank()
        if self.text[self.at] == "[":
            self._members("]", path)
        elif self.text[self.at] == "{":
            self._members("}", path)
        elif found := _STRING.match(self.text, self.at) or _SCALAR.match(self.text, self.at):
            self.at = found.end()

    def _members(self, closing: str, path: Path) -> None:
        """The inside of an array or an inline table."""
        self.at += 1
        index = 0
        self._skip_blank()
        while self.text[self.at] != closing:
            if closing == "]":
                self.lines[(*path, index)] = self._here()
                self._value((*path, index))
                index += 1
            else:
                self._pair(path)
            self._skip_blank()
            if self.text[self.at] == ",":
                self.at += 1
                self._skip_blank()
        self.at += 1

    def _skip_blank(self) -> None:
        found = _BLANK.match(self.text, self.at)
        if found:
            self.at = found.end()

    def _here(self) -> int:
        self.line += self.text.count("\n", self.counted_to, self.at)
        self.counted_to = self.at
        return self.line
