"""Who did what by hand: a stream of the operators' actions, the oldest forgotten."""

from __future__ import annotations

from typing import Any

import msgspec

from rrqd.store.base import Base

AUDIT_MOST = 10_000
"""Entries kept, about; each is at most a few hundred bytes."""


class Audit(Base):
    """Written after an action was carried out, so that an entry is never about something that did not happen."""

    async def note_action(self, who: str, action: str, target: str, count: int, words: dict[str, Any]) -> None:
        """`count`: how many things were changed. `words`: what was asked for."""
        await (await self.link()).call(
            "XADD", self.keys.audit, "MAXLEN", "~", AUDIT_MOST, "*",
            "who", who[:100], "action", action, "target", target[:200], "count", count,
            "words", msgspec.json.encode(words)[:2000],
        )  # fmt: skip

    async def actions(self, *, before: str = "+", limit: int = 50) -> list[dict[str, Any]]:
        """The latest first. `before`: an entry's id, to go on from it."""
        end = before if before == "+" else f"({before}"
        found = await (await self.link()).call("XREVRANGE", self.keys.audit, end, "-", "COUNT", limit)
        return [_entry(entry_id, flat) for entry_id, flat in found]


def _entry(entry_id: bytes, flat: list[bytes] | dict[bytes, bytes]) -> dict[str, Any]:
    pairs = flat.items() if isinstance(flat, dict) else zip(flat[::2], flat[1::2], strict=True)
    fields = {name.decode(): value.decode(errors="replace") for name, value in pairs}
    return {
        "id": entry_id.decode(),
        "at_ms": int(entry_id.partition(b"-")[0]),
        "who": fields.get("who", ""),
        "action": fields.get("action", ""),
        "target": fields.get("target", ""),
        "count": int(fields.get("count", "0")),
        "words": fields.get("words", ""),
    }
