"""The dashboard as a part of somebody else's program: one ASGI app, mounted wherever that program likes.

* Who comes in is the program's business: it says so for each request (`who`). Without that, only what the file allows
  (`tokens_file`, `proxy_header`); nobody is let in for being local, since the program may listen anywhere.
* It sees the store. If a daemon on this machine has the same state folder, it sees and steers its processes too.
* It lives in the loop that asks, and ends with it: there is nothing to start and nothing to close.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from inspect import isawaitable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from rrqd import clock
from rrqd.asking.life import LoopStore
from rrqd.config.loader import client_dsn, load
from rrqd.config.settings import Settings, resolve_state_dir
from rrqd.flight import FlightPage
from rrqd.local_socket import ask
from rrqd.store import policy_of
from rrqd.store.connection import Endpoint
from rrqd.web.access import Access, Visitor
from rrqd.web.app import both, refusals
from rrqd.web.readings import PAGE_MOST
from rrqd.web.sight import STORE_TIMEOUT_SECONDS, Eyes, Sight, StoreSight

MASTER_SECONDS = 1.0
"""So long a daemon on this machine is waited for, and so long what it said is good."""
Who = Callable[[Request], "Visitor | Awaitable[Visitor | None] | None"]
VISITOR = "rrqd.visitor"


class NoPages:
    """Flight pages are handed from a master to its children; nobody else has any."""

    def begun(self) -> Iterable[FlightPage]:
        return ()


@dataclass
class Outside:
    """Where a foreign program looks from."""

    settings: Settings
    state_dir: Path
    config_path: Path
    node_id: str = ""
    deck: NoPages = field(default_factory=NoPages)


class OutsideEyes(Eyes):
    """Asks the master, where ours are told by it."""

    must_have_master = False
    _asked_at = -MASTER_SECONDS

    async def sight(self, *, store: bool = True, memory: bool = False) -> Sight:
        if clock.monotonic() - self._asked_at >= MASTER_SECONDS:
            self._asked_at = clock.monotonic()
            await self._ask_master()
        return await super().sight(store=store, memory=memory)

    async def _ask_master(self) -> None:
        try:
            answer = await asyncio.to_thread(ask, self.boot.state_dir, {"command": "status"}, MASTER_SECONDS)
        except (OSError, ValueError):
            self.master = {}  # none here, or one of somebody else: then there is the store to be seen
            return
        self.hear(answer.get("status", {}))
        self.boot.node_id = str(self.master.get("node_id", ""))

    async def _ask_store(self) -> StoreSight:
        held = await self.store.held_counts()
        return replace(await super()._ask_store(), workers=len(held), held=sum(held.values()))

    async def running(self, limit: int) -> tuple[list[dict[str, Any]], int]:
        """Jobs that any worker holds; how long each may still run, only its worker knows."""
        holders = [worker_id for worker_id, held in (await self.store.held_counts()).items() if held]
        ids = [job_id for held in await asyncio.gather(*map(self.store.held_by, holders)) for job_id in held]
        now = datetime.now(UTC)
        rows: list[dict[str, Any]] = [
            {
                "id": job.id,
                "function": job.function,
                "queue": job.queue,
                "seconds": round((now - began).total_seconds(), 1),
                "left_seconds": None,
            }
            for job in await self.store.jobs(ids[:PAGE_MOST])
            if job is not None and (began := job.moment("start_time")) is not None
        ]
        rows.sort(key=lambda row: -row["seconds"])
        return rows[:limit], len(ids)


class HostAccess(Access):
    """Whom the program vouches for."""

    def identify(self, request: Request) -> Visitor | None:
        visitor: Visitor | None = request.scope.get(VISITOR)
        return visitor or Visitor("stranger", "none")

    def why_closed(self) -> str:
        return "the program that shows this dashboard does not let you in"


class Dashboard:
    """An ASGI app. Made by `dashboard`."""

    def __init__(self, settings: Settings, config_path: Path, who: Who | None) -> None:
        self._place = Outside(settings, resolve_state_dir(settings), config_path)
        self._who = who
        self._access = (Access if who is None else HostAccess)(settings.rrqd.web, is_local=False)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._who is not None:
            said = self._who(Request(scope, receive))
            scope[VISITOR] = await said if isawaitable(said) else said
        await (await self._here())(scope, receive, send)

    async def _here(self) -> ASGIApp:
        """The app of this loop; a program may have one after another, as tests do."""
        loop = asyncio.get_running_loop()
        if self._app is None or self._loop is not loop:
            settings = self._place.settings
            store = LoopStore(
                Endpoint.parse(settings.rrq.redis_dsn),
                policy_of(settings),
                client_name="rrqd:dashboard",
                timeout_seconds=STORE_TIMEOUT_SECONDS,
            )
            await store.begin()
            api, pages = both(OutsideEyes(self._place, store), self._access)
            routes = [Route("/", pages.overview), *api.routes(), *pages.routes()]
            self._loop, self._app = loop, Starlette(routes=routes, exception_handlers=refusals(pages))
        return self._app


def dashboard(config: str | os.PathLike[str] | None = None, *, who: Who | None = None) -> Dashboard:
    """The dashboard and its API as an ASGI app, to be mounted under any path: ``app.mount("/jobs", dashboard())``.

    ``config``: the rrq.toml; left out, it is looked for as the daemon does. ``who(request)`` answers, or awaits, the
    :class:`Visitor` whom your program has let in, or ``None``; it is asked for every request. Left out, the tokens and
    the proxies of ``[rrqd.web]`` decide. Raises ConfigError.
    """
    loaded = load(config)
    rrq = loaded.settings.rrq.model_copy(update={"redis_dsn": client_dsn(loaded)})
    return Dashboard(loaded.settings.model_copy(update={"rrq": rrq}), loaded.path, who)
