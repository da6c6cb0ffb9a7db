"""Templates of recurring jobs, as the store keeps them. Their jobs are enqueued as ticks (``store/timetable.py``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from rrqd.model.recurring import Recurring, Turn
from rrqd.store.base import Base
from rrqd.store.scripts import run

_json = msgspec.json.Encoder().encode


class Templates(Base):
    """All may be repeated. Raise StoreUnavailable and StoreRefused."""

    async def put_recurring(self, one: Recurring, *, offset_ms: float) -> bool:
        """Write a template down, or replace the one of this id (its count goes on); the first time is ``offset_ms``
        from now. False when one was replaced."""
        return bool(await self._put(one.id, f"{offset_ms:.3f}", _fields(one)))

    async def update_recurring(self, one: Recurring, *, offset_ms: float | None = None) -> None:
        """Write changes down; ``one`` is what was read, changed. The next time stays, moves with the interval, or is
        ``offset_ms`` from now."""
        await self._put(one.id, "" if offset_ms is None else f"{offset_ms:.3f}", _fields(one))

    async def _put(self, template_id: str, offset: str, fields: Mapping[str, Any]) -> int:
        flat = [word for pair in fields.items() for word in pair]
        return int(await run(await self.link(), "recurring", self.keys.token, "put", template_id, offset, *flat))

    async def advance_recurring(self, one: Recurring, turn: Turn) -> bool:
        """The jobs of a turn have been asked for. False when another node was there before, or it was changed."""
        said = await run(
            await self.link(), "recurring", self.keys.token, "advance", one.id, one.count, f"{one.next_ms:.3f}",
            one.count + len(turn.times_ms), f"{turn.next_ms:.3f}",
        )  # fmt: skip
        return bool(said)

    async def remove_recurring(self, template_id: str) -> bool:
        """No more jobs of this template; those that were made stay. False when there was none."""
        return bool(await run(await self.link(), "recurring", self.keys.token, "remove", template_id))

    async def due_recurring(self, most: int = 100) -> tuple[float, list[Recurring]]:
        """The server's time, epoch ms, and templates whose time has come."""
        link = await self.link()
        seconds, micros = await link.call("TIME")
        now_ms = int(seconds) * 1000 + int(micros) / 1000
        due = await link.call(
            "ZRANGE", self.keys.recurring, "-inf", f"{now_ms:.3f}", "BYSCORE", "LIMIT", 0, most
        )  # fmt: skip
        return now_ms, await self._read([one.decode() for one in due])

    async def recurring(self, template_id: str) -> Recurring | None:
        """One template."""
        found = await self._read([template_id])
        return found[0] if found else None

    async def recurring_page(self, *, offset: int = 0, limit: int = 25) -> list[Recurring]:
        """Templates, soonest first."""
        link = await self.link()
        ids = await link.call("ZRANGE", self.keys.recurring, offset, offset + limit - 1)
        return await self._read([one.decode() for one in ids])

    async def _read(self, ids: Sequence[str]) -> list[Recurring]:
        link = await self.link()
        calls = [link.call("HGETALL", self.keys.template(one)) for one in ids]
        read = [_template(one, await call) for one, call in zip(ids, calls, strict=True)]
        return [one for one in read if one is not None]


def _fields(one: Recurring) -> dict[str, Any]:
    return {
        "function": one.function, "options": _json(one.options), "interval_ms": one.interval_ms,
        "backlog": one.backlog, "unique": int(one.unique),
    }  # fmt: skip


def _template(template_id: str, raw: Mapping[bytes, bytes]) -> Recurring | None:
    fields = {name.decode(): value.decode(errors="replace") for name, value in raw.items()}
    if "next_ms" not in fields:
        return None
    return Recurring(
        id=template_id,
        function=fields.get("function", ""),
        options=msgspec.json.decode(fields.get("options", "{}"), type=dict),
        interval_ms=int(fields["interval_ms"]),
        next_ms=float(fields["next_ms"]),
        backlog=int(fields.get("backlog", 0)),
        unique=fields.get("unique") == "1",
        count=int(fields.get("count", 0)),
    )
