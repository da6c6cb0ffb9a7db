"""Finding the server: at a fixed place, by asking Sentinels, or the right node of a cluster.

Every opening asks anew, so whoever has lost a connection to a fail-over, or to a slot that moved, ends at the new
place by opening another one. Nothing is kept but where to ask first.

Rule 1: a connection that is handed out leads to a master (a plain ``redis://host`` excepted: there is no other).
Rule 2: one place that is dead or slow costs a share of the time allowed, not all of it.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Iterator
from typing import Any

from rrqd.dsn import Endpoint, show_place
from rrqd.exc import StoreRefused, StoreUnavailable, StoreUnsupported
from rrqd.store.connection import Link

Place = tuple[str, int]
OnPush = Callable[[list[Any]], None] | None

SLOTS = 16_384


def slot_of(namespace: str) -> int | None:
    """The cluster slot of every key of a namespace; ``None`` when they are spread, for want of a hash tag."""
    tag = re.search(r"\{([^}]+)\}", namespace)
    return binascii.crc_hqx(tag[1].encode(), 0) % SLOTS if tag else None


class Finder:
    """The way to one store's server. All its connections are opened here."""

    def __init__(self, endpoint: Endpoint, namespace: str) -> None:
        self.endpoint = endpoint
        self._slot = slot_of(namespace)
        self._places = list(endpoint.places)  # where to ask, the one that knew last first

    async def open(self, *, name: str, timeout_seconds: float = 5.0, on_push: OnPush = None) -> Link:
        """A connection to the server. Raises StoreUnavailable, StoreRefused or StoreUnsupported."""
        link = await self._find(name, timeout_seconds)
        link.on_push = on_push  # not before: of connections that only asked for the way nobody hears
        return link

    async def _find(self, name: str, timeout_seconds: float) -> Link:
        async def at(endpoint: Endpoint, share: int = 1) -> Link:
            patience = timeout_seconds / share
            return await Link.open(endpoint, name=name, timeout_seconds=timeout_seconds, patience_seconds=patience)

        if self.endpoint.path:
            return await at(self.endpoint)
        if self.endpoint.master is not None:
            host, port = await self._ask_sentinels(name, timeout_seconds)
            return _master(await at(self.endpoint.at(host, port)))
        link, place = await self._first(at)
        if link.mode == "sentinel":
            link.close()
            raise StoreUnsupported(
                f"{self.endpoint.shown} is a Sentinel; write redis+sentinel://{show_place(*place)}/mymaster/0, with "
                "the name of the master to ask for"
            )
        if link.mode != "cluster":
            return link
        owner = await self._owner(link, place)
        if owner == place:
            return _master(link)
        link.close()
        return _master(await at(self.endpoint.at(*owner)))

    async def _first(self, at: Callable[..., Any]) -> tuple[Link, Place]:
        """The first place that answers, and among several standalone servers the first that is no replica."""
        several = len(self._places) > 1
        whys: list[StoreUnavailable] = []
        for place in list(self._places):
            try:
                link: Link = await at(self.endpoint.at(*place), min(len(self._places), 3))
            except StoreUnavailable as fault:
                whys.append(fault)
                continue
            if several and link.mode == "standalone" and link.role != "master":
                link.close()
                whys.append(StoreUnavailable(f"{show_place(*place)} is a replica"))
                continue
            self._prefer(place)
            return link, place
        raise whys[0] if len(whys) == 1 else StoreUnavailable("; ".join(map(str, whys)))

    async def _owner(self, link: Link, asked: Place) -> Place:
        """The cluster node that has the namespace's slot; the other nodes are remembered as places to ask."""
        if self._slot is None:
            link.close()
            raise StoreUnsupported(
                f"{self.endpoint.shown} is a cluster; there the namespace needs a hash tag, so that its keys stay on "
                'one node: [rrqd] namespace = "{name}"'
            )
        try:
            ranges = await link.call("CLUSTER", "SLOTS")
        except BaseException:
            link.close()
            raise
        owner, known = None, [asked]
        for first, last, *nodes in ranges:
            places = list(_read_places(nodes, asked))
            known += places
            if first <= self._slot <= last and places:
                owner = places[0]
        self._places = list(dict.fromkeys((*known, *self.endpoint.places)))
        if owner is None:
            link.close()
            raise StoreUnavailable(f"No node of the cluster at {self.endpoint.shown} serves slot {self._slot}")
        return owner

    async def _ask_sentinels(self, name: str, timeout_seconds: float) -> Place:
        master, patience = self.endpoint.master, timeout_seconds / (len(self._places) + 1)
        whys: list[str] = []
        for host, port in list(self._places):
            try:
                link = await Link.open(self.endpoint.door(host, port), name=name, timeout_seconds=patience)
                try:
                    answer = await link.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", master)
                finally:
                    link.close()
            except StoreUnavailable as fault:
                whys.append(str(fault))
                continue
            if answer is not None:
                self._prefer((host, port))
                return answer[0].decode(), int(answer[1])
            whys.append(f"the Sentinel at {show_place(host, port)} knows no master named {master}")
        if whys and all("knows no master" in why for why in whys):
            raise StoreRefused("; ".join(whys))
        raise StoreUnavailable(f"No Sentinel can tell where {master} is: {'; '.join(whys)}")

    def _prefer(self, place: Place) -> None:
        self._places = list(dict.fromkeys((place, *self._places)))


def _master(link: Link) -> Link:
    """A fail-over is not over while the new master is still a replica. Raises StoreUnavailable then."""
    if link.role != "master":
        link.close()
        raise StoreUnavailable("The server found is a replica; the fail-over is not over yet")
    return link


def _read_places(nodes: list[Any], asked: Place) -> Iterator[Place]:
    """(host, port) of each. A node that does not know its own name leaves it empty: it is where we asked."""
    for host, port, *_ in nodes:
        name = (host or b"").decode()
        yield (name if name not in ("", "?") else asked[0]), int(port)
