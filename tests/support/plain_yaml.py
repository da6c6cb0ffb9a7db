"""The YAML that our example files are written in: block mappings and sequences, ``|`` texts, lists in JSON's form,
comments on lines of their own. Anything else is refused, so that what is read here any YAML reader reads alike.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

KEY = re.compile(r"([\w./-]+):(?: (.*))?$")


def documents(text: str) -> Iterator[Any]:
    for part in re.split(r"(?m)^---$", text):
        lines = [line for line in part.splitlines() if not line.lstrip().startswith("#")]
        assert not any("\t" in line for line in lines), "a tab"
        yield _Reader(lines).block(0)


class _Reader:
    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.at = 0

    def indent(self) -> int:
        """Of the next line that says something; -1 at the end."""
        while self.at < len(self.lines) and not self.lines[self.at].strip():
            self.at += 1
        if self.at == len(self.lines):
            return -1
        line = self.lines[self.at]
        return len(line) - len(line.lstrip())

    def block(self, indent: int) -> Any:
        assert self.indent() == indent, self._here()
        return self._sequence(indent) if self.lines[self.at].lstrip().startswith("- ") else self._mapping(indent)

    def _sequence(self, indent: int) -> list[Any]:
        found = []
        while self.indent() == indent and self.lines[self.at].lstrip().startswith("- "):
            # An item is a block of its own, two further in; its dash stands where two spaces would.
            line = self.lines[self.at]
            self.lines[self.at] = line[:indent] + "  " + line[indent + 2 :]
            item = line[indent + 2 :]
            if KEY.match(item):
                found.append(self.block(indent + 2))
            else:
                self.at += 1
                found.append(_value(item))
        return found

    def _mapping(self, indent: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self.indent() == indent:
            match = KEY.match(self.lines[self.at].strip())
            assert match is not None, self._here()
            key, value = match[1], match[2]
            assert key not in found, f"{key} twice"
            self.at += 1
            if value == "|":
                found[key] = self._text(indent + 2)
            elif value:
                found[key] = _value(value)
            else:
                deeper = self.indent()
                assert deeper > indent, f"{key} has no value"
                assert deeper == indent + 2, self._here()
                found[key] = self.block(deeper)
        assert self.indent() < indent, self._here()
        return found

    def _text(self, indent: int) -> str:
        lines = []
        while self.at < len(self.lines) and (not self.lines[self.at].strip() or self.lines[self.at][:indent].isspace()):
            lines.append(self.lines[self.at][indent:])
            self.at += 1
        return "\n".join(lines).rstrip("\n") + "\n"

    def _here(self) -> str:
        return f"not understood: {self.lines[self.at]!r}"


def _value(text: str) -> Any:
    if text[0] in '"[{':
        return json.loads(text)
    assert not re.search(r": | #|^[&*!|>%@`'?,\]}-]", text), f"needs quotes: {text}"
    if text in ("true", "false"):
        return text == "true"
    assert text.lower() not in ("yes", "no", "on", "off", "null", "~"), f"needs quotes: {text}"
    return int(text) if re.fullmatch(r"\d+", text) else text
