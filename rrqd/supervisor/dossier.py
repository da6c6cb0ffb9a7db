"""The crash dossier: what is known of an abnormal death, kept where an operator finds it.

One JSON object for each death: in the log (`crash.dossier`), in memory for `rrqd crashes`, and in a file of bounded
size that outlives the daemon. The file is a convenience; a disk that is full costs the record, nothing else.
"""

from __future__ import annotations

import json
import os
from collections import deque
from pathlib import Path
from typing import Any

from rrqd.logs import Logger

FILE_NAME = "crashes.jsonl"
KEPT = 100
LARGEST_FILE_BYTES = 1_048_576
STORY_KEYS = ("at", "who", "reason", "signal", "private_bytes", "running", "detail")
STORY_STACK_CHARACTERS = 4_000
"""How much of the last stack goes with a job that is buried for it."""


def read(path: Path) -> list[dict[str, Any]]:
    """What is in the file, the newest last; nothing when it can't be read."""
    found = []
    try:
        lines = path.read_text(errors="replace").splitlines()[-KEPT:]
    except OSError:
        return []
    for line in lines:
        try:
            one = json.loads(line)
        except ValueError:
            continue  # the line that was being written when the machine stopped
        if isinstance(one, dict):
            found.append(one)
    return found


def _is_torn(path: Path) -> bool:
    try:
        return path.read_bytes()[-1:] not in (b"", b"\n")
    except OSError:
        return False


class Dossiers:
    """The latest deaths, the newest last. The file is read once, here."""

    def __init__(self, folder: Path, log: Logger) -> None:
        self.path = folder / FILE_NAME
        self.log = log
        self._torn = _is_torn(self.path)
        """The last line has no end: it was being written when the machine stopped. The next begins with a line end."""
        self._recent: deque[dict[str, Any]] = deque(read(self.path), maxlen=KEPT)

    def add(self, dossier: dict[str, Any]) -> None:
        """One more death."""
        self._recent.append(dossier)
        self.log.error("crash.dossier", **{key: value for key, value in dossier.items() if key not in ("pid", "at")})
        try:
            if self.path.exists() and self.path.stat().st_size > LARGEST_FILE_BYTES:
                os.replace(self.path, self.path.with_suffix(".jsonl.1"))
                self._torn = False
            line = b"\n" * self._torn + json.dumps(dossier, default=str).encode() + b"\n"
            self._torn = True
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "ab") as file:
                file.write(line)
            self._torn = False
        except OSError as error:
            self.log.warning("crash.not_kept", path=str(self.path), error=str(error))

    def recent(self, limit: int) -> list[dict[str, Any]]:
        """The newest first."""
        return list(self._recent)[-limit:][::-1] if limit > 0 else []


def story(dossier: dict[str, Any]) -> dict[str, Any]:
    """The short form that is kept with a job which is buried as poison."""
    told = {key: dossier[key] for key in STORY_KEYS if dossier.get(key)}
    stack = dossier.get("stack") or ""
    return {**told, "stack": stack[-STORY_STACK_CHARACTERS:]} if stack else told
