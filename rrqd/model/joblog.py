"""A line in a job's own log. Pure; written by handlers, read by people long after the process has gone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

MAX_MESSAGE_CHARACTERS = 2000
MAX_FIELDS_BYTES = 4000


class LogLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``at``: the worker's clock, RFC 3339. ``fields``: what was said beside the message."""

    at: str
    attempt: int
    message: str
    fields: dict[str, Any] = {}

    @classmethod
    def read(cls, raw: bytes) -> LogLine:
        """A stored line; one that cannot be read is shown as it is."""
        try:
            return msgspec.json.decode(raw, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return cls(at="", attempt=0, message=raw.decode(errors="replace"))


def write_line(at: datetime, attempt: int, message: str, fields: Mapping[str, Any]) -> bytes:
    """The line as JSON: long messages are cut, values that are no JSON stand as their text, too many are left out."""
    kept: dict[str, Any] = {}
    room = MAX_FIELDS_BYTES
    for name, value in fields.items():
        try:
            text = msgspec.json.encode(value)
        except (TypeError, ValueError, RecursionError):
            text = msgspec.json.encode(str(value)[:MAX_MESSAGE_CHARACTERS])
        room -= len(text) + len(name)
        if room < 0:
            kept["left_out"] = len(fields) - len(kept)
            break
        kept[name] = msgspec.Raw(text)
    clean = str(message)[:MAX_MESSAGE_CHARACTERS].encode(errors="replace").decode()
    return msgspec.json.encode(LogLine(at=at.isoformat(), attempt=attempt, message=clean, fields=kept))
