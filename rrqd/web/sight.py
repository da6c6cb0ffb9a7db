"""What the web process can see: the master's last view, the flight pages, and the store. Read together, kept a moment.

Rule 1: there is one look at the store a second at most, however many ask; its loss is seen, not felt: nobody who asks
here waits longer than `PATIENCE_SECONDS` for it. (A probe with a second's patience must hear "not ready", not silence.)
Rule 2: memory is read in a thread, every quarter of a minute: the kernel walks page tables for it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import psutil

from rrqd import clock
from rrqd.exc import StoreError
from rrqd.flight import FlightPage, PageSnapshot, Tally
from rrqd.store import QueueDepth, Store, policy_of
from rrqd.store.connection import Endpoint
from rrqd.store.timetable import CronState

if TYPE_CHECKING:
    from rrqd.config.settings import Settings

STORE_SECONDS = 1.0
MEMORY_SECONDS = 15.0
STORE_TIMEOUT_SECONDS = 2.0
PATIENCE_SECONDS = 0.8
STALE_SECONDS = 3.0
"""A look that takes its time leaves the last one in force for so long."""


@dataclass(frozen=True, slots=True)
class StoreSight:
    """The store at one moment. ``error`` says why it could not be read; the rest is the last that was.

    ``workers``, ``held``: of all machines; only looked at where there are no flight pages to tell of this one's.
    """

    ok: bool = False
    error: str = "not asked yet"
    flavour: str = ""
    version: str = ""
    queues: tuple[QueueDepth, ...] = ()
    dlqs: dict[str, int] = field(default_factory=dict)
    lease_seconds: float | None = None
    aside: int = 0
    workers: int = 0
    held: int = 0
    cron: dict[str, CronState] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Memory:
    """One process's memory in bytes. PSS shares what is shared; private is its own."""

    role: str
    name: str
    pss_bytes: int
    private_bytes: int


@dataclass(frozen=True, slots=True)
class Sight:
    """Everything one answer needs. ``master_age_seconds``: since the master last spoke; ``None``: never.

    ``must_have_master``: false where a dashboard stands in a program of its own; there may be no daemon on its machine.
    """

    master: dict[str, Any]
    master_age_seconds: float | None
    store: StoreSight
    pages: tuple[PageSnapshot, ...]
    tallies: tuple[Tally, ...]
    memory: tuple[Memory, ...]
    must_have_master: bool = True


class Pages(Protocol):
    """A deck, as far as it is looked at."""

    def begun(self) -> Iterable[FlightPage]: ...


class Place(Protocol):
    """Where one looks from: what of a ``WebBoot`` is needed for it."""

    settings: Settings
    node_id: str
    state_dir: Path
    config_path: Path

    @property
    def deck(self) -> Pages: ...


class Eyes:
    """Looks when asked. ``store``: one that lives as the caller wants; left out: one of its own."""

    must_have_master = True

    def __init__(self, boot: Place, store: Store | None = None) -> None:
        self.boot = boot
        self.settings = boot.settings
        self.master: dict[str, Any] = {}
        self._heard_at: float | None = None
        self.store = store or Store(
            Endpoint.parse(self.settings.rrq.redis_dsn),
            policy_of(self.settings),
            client_name=f"rrqd:web:{boot.node_id}",
            timeout_seconds=STORE_TIMEOUT_SECONDS,
        )
        self._seen = StoreSight()
        self._seen_at = -math.inf
        self._look: asyncio.Task[None] | None = None
        self._memory: tuple[Memory, ...] = ()
        self._memory_at = 0.0

    def hear(self, view: dict[str, Any]) -> None:
        """The master's newest view."""
        self.master = view
        self._heard_at = clock.monotonic()

    async def sight(self, *, store: bool = True, memory: bool = False) -> Sight:
        """A look at everything asked for. Never raises for the store's sake."""
        pages = list(self.boot.deck.begun())
        return Sight(
            master=self.master,
            master_age_seconds=None if self._heard_at is None else clock.monotonic() - self._heard_at,
            store=await self._store_sight() if store else StoreSight(),
            pages=tuple(page.snapshot() for page in pages),
            tallies=tuple(tally for page in pages for tally in page.tallies()),
            memory=await self._memory_sight() if memory else (),
            must_have_master=self.must_have_master,
        )

    async def running(self, limit: int) -> tuple[list[dict[str, Any]], int]:
        """Jobs that run now, the longest first, at most so many; and how many there are."""
        now_ns = clock.monotonic_ns()
        rows: list[dict[str, Any]] = [
            {
                "id": row.job_id,
                "function": row.function,
                "queue": row.queue,
                "seconds": round((now_ns - row.started_ns) / 1e9, 1),
                "left_seconds": round((row.deadline_ns - now_ns) / 1e9, 1) if row.deadline_ns else None,
            }
            for page in self.boot.deck.begun()
            for row in page.running()
        ]
        rows.sort(key=lambda row: -row["seconds"])
        return rows[:limit], len(rows)

    async def close(self) -> None:
        if self._look is not None:
            self._look.cancel()
        await self.store.close()

    async def _store_sight(self) -> StoreSight:
        if self._look is None and clock.monotonic() - self._seen_at >= STORE_SECONDS:
            self._look = asyncio.create_task(self._look_at_store())
        if self._look is not None:
            await asyncio.wait({self._look}, timeout=PATIENCE_SECONDS)
        if clock.monotonic() - self._seen_at <= STALE_SECONDS:
            return self._seen
        last = self._seen
        return StoreSight(error="it has not answered yet", flavour=last.flavour, version=last.version)

    async def _look_at_store(self) -> None:
        try:
            self._seen = await self._ask_store()
        except Exception as fault:  # whatever it was: a page has to be able to say so
            last = self._seen
            why = str(fault) if isinstance(fault, StoreError) else repr(fault)
            self._seen = StoreSight(error=why, flavour=last.flavour, version=last.version)
        self._seen_at = clock.monotonic()
        self._look = None

    async def _ask_store(self) -> StoreSight:
        store = self.store
        ours = {name for pool in self.settings.rrqd.pools.values() for name in pool.named_queues}
        names = sorted(ours | set(await store.queues()))
        depths, dlqs, remaining, aside, cron = await asyncio.gather(
            store.queue_depths(names), store.dlq_sizes(), store.lease_left(self.boot.node_id), store.aside_count(),
            store.cron_states([str(entry.name) for entry in self.settings.rrq.cron_jobs]),
        )  # fmt: skip
        info = await store.server_info()
        return StoreSight(
            ok=True,
            error="",
            flavour=info.flavour,
            version=info.version,
            queues=tuple(depths),
            dlqs=dlqs,
            lease_seconds=remaining,
            aside=aside,
            cron=cron,
        )

    async def _memory_sight(self) -> tuple[Memory, ...]:
        if clock.monotonic() - self._memory_at >= MEMORY_SECONDS or not self._memory:
            self._memory = await asyncio.to_thread(_weigh, _people(self.master))
            self._memory_at = clock.monotonic()
        return self._memory


def _people(master: dict[str, Any]) -> list[tuple[str, str, int]]:
    """(role, name, pid) of every process the master told of."""
    people = [(str(one.get("kind")), str(one.get("name")), one.get("pid")) for one in master.get("processes", [])]
    for name, pool in master.get("pools", {}).items():
        people += [("worker", f"{name}/{slot.get('slot')}", slot.get("pid")) for slot in pool.get("slots", [])]
    return [(role, name, int(pid)) for role, name, pid in people if pid]


def _weigh(people: list[tuple[str, str, int]]) -> tuple[Memory, ...]:
    found = []
    for role, name, pid in people:
        try:
            full = psutil.Process(pid).memory_full_info()
        except psutil.Error:
            continue  # it has just left
        found.append(Memory(role, name, getattr(full, "pss", full.rss), full.uss))
    return tuple(found)
