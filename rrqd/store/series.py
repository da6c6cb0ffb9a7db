"""History for charts: rings of minutes, hours and days, written with the figures; and the marks that deploys leave."""

from __future__ import annotations

from typing import Any

import msgspec

from rrqd.model.series import RINGS, Point, read_points
from rrqd.store.base import Base

#: Marks kept, about.
DEPLOYS_MOST = 500


class Deploy(msgspec.Struct, frozen=True, kw_only=True):
    """New code or configuration came into force. ``kind``: ``start``, ``reload`` or ``upgrade``. ``birth``: which
    process of the node's masters it was; ``version``: rrqd's."""

    at_ms: int
    kind: str
    node: str
    birth: str
    generation: int
    version: str


class Series(Base):
    """All raise StoreUnavailable (may be repeated) and StoreRefused."""

    async def series(self, span: str, queue: str | None = None) -> list[Point]:
        """The history of a queue, or of all of them: every period of the ring ``span`` (``minutes``, ``hours``,
        ``days``; KeyError for another word), oldest first, the last one still under way."""
        ring = RINGS[span]
        link = await self.link()
        stored, clock = link.call("HGETALL", self.keys.series(ring.letter, queue)), link.call("TIME")
        seconds, micros = await clock
        return read_points(ring, await stored, int(seconds) * 1000 + int(micros) / 1000)

    async def note_deploy(self, kind: str, node: str, birth: str, generation: int, version: str) -> bool:
        """Leave a mark, unless the same one is there (an upgrade is told once, also one to the same version); answers
        whether it is new. One caller a node at a time."""
        for one in await self.deploys(limit=DEPLOYS_MOST):
            if kind != "upgrade" and (one.node, one.birth, one.generation, one.version) == (
                node,
                birth,
                generation,
                version,
            ):
                return False
        await (await self.link()).call(
            "XADD", self.keys.deploys, "MAXLEN", "~", DEPLOYS_MOST, "*",
            "kind", kind, "node", node, "birth", birth, "generation", generation, "version", version,
        )  # fmt: skip
        return True

    async def deploys(self, *, since_ms: float = 0, limit: int = 50) -> list[Deploy]:
        """Marks, the latest first."""
        found = await (await self.link()).call(
            "XREVRANGE", self.keys.deploys, "+", max(0, int(since_ms)), "COUNT", limit
        )
        return [_deploy(entry_id, flat) for entry_id, flat in found]


def _deploy(entry_id: bytes, flat: list[bytes]) -> Deploy:
    words: dict[str, Any] = {k.decode(): v.decode(errors="replace") for k, v in zip(flat[::2], flat[1::2], strict=True)}
    return Deploy(
        at_ms=int(entry_id.partition(b"-")[0]), kind=words.get("kind", ""), node=words.get("node", ""),
        birth=words.get("birth", ""), generation=int(words.get("generation", 0)), version=words.get("version", ""),
    )  # fmt: skip
