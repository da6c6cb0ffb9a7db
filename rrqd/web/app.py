"""The HTTP face: metrics and health for programs, the API and the dashboard for people who steer.

Every answer says what it is, none carries a secret. Metrics and health answer whoever reaches the port; API and pages
admit each visitor themselves (`access`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from rrqd import __version__
from rrqd.exc import ConfigError
from rrqd.web import metrics
from rrqd.web.access import Access
from rrqd.web.actions import Hands
from rrqd.web.api import Api
from rrqd.web.health import Question, verdict
from rrqd.web.pages import Pages
from rrqd.web.readings import Readings
from rrqd.web.sight import Eyes

INDEX = f"""rrqd {__version__}

/metrics    for Prometheus
/livez      should this daemon be restarted?
/readyz     does work get done here now?
/startupz   has it ever come up?
/healthz    everything that is wrong, and what to do
/api/v1     what the dashboard shows and does, as JSON (unless rrqd.web.dashboard is off)
"""


def build_app(eyes: Eyes, hosts: list[str], api: Api | None = None, pages: Pages | None = None) -> Starlette:
    """The app. ``hosts``: names under which it may be asked (protects against DNS rebinding); empty: any."""

    async def show_metrics(request: Request) -> Response:
        body, content_type = metrics.exposition(await eyes.sight(memory=True), request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    def probe(question: Question) -> Any:
        async def answer(request: Request) -> Response:
            # Only "ready" is about the store: a server that hangs must not look like a daemon that hangs.
            health = verdict(await eyes.sight(store=question == "ready"))
            ok = health.ok(question)
            problems = [one.plain() for one in health.problems if question in one.fails]
            return _json({"ok": ok, "problems": problems}, 200 if ok else 503)

        return answer

    async def healthz(request: Request) -> Response:
        sight = await eyes.sight()
        health = verdict(sight)
        body = {
            "ok": health.ok("ready"),
            "live": health.ok("live"),
            "ready": health.ok("ready"),
            "started": health.ok("startup"),
            "version": __version__,
            "problems": [one.plain() for one in health.problems],
            "node": sight.master.get("node_id"),
            "generation": sight.master.get("generation"),
            "mode": sight.master.get("mode"),
            "pools": {
                name: {key: pool.get(key) for key in ("processes", "ready", "queues")}
                for name, pool in (sight.master.get("pools") or {}).items()
            },
            "store": {"ok": sight.store.ok, "flavour": sight.store.flavour, "version": sight.store.version},
        }
        return _json(body, 200 if body["ok"] else 503)

    async def index(request: Request) -> Response:
        """A page for browsers, a list of addresses for everybody else."""
        if pages is not None and "text/html" in request.headers.get("accept", ""):
            return await pages.overview(request)
        return PlainTextResponse(INDEX)

    routes = [
        Route("/", index),
        Route("/metrics", show_metrics),
        Route("/livez", probe("live")),
        Route("/readyz", probe("ready")),
        Route("/startupz", probe("startup")),
        Route("/healthz", healthz),
        *(api.routes() if api is not None else ()),
        *(pages.routes() if pages is not None else ()),
    ]

    return Starlette(
        routes=routes,
        middleware=[Middleware(KnownHosts, hosts=hosts)],
        exception_handlers=refusals(pages),
    )


def refusals(pages: Pages | None) -> dict[Any, Any]:
    """Exception -> how it is answered: as a page for who wants one; the way back is in the browser."""

    async def refuse(request: Request, fault: HTTPException) -> Response:
        if pages is not None and "text/html" in request.headers.get("accept", ""):
            answer = pages.fault(request, fault.status_code, fault.detail)
            answer.headers.update(fault.headers or {})
            return answer
        return _json({"ok": False, "error": fault.detail, "path": request.url.path}, fault.status_code, fault.headers)

    return {HTTPException: refuse, Exception: _fault}


def both(eyes: Eyes, access: Access) -> tuple[Api, Pages]:
    """The API, and the pages that show it to people."""
    readings = Readings(eyes)
    api = Api(readings, access, Hands(readings, eyes.boot.state_dir), structlog.get_logger())
    return api, Pages(api, eyes.settings.rrqd.web.path_prefix, lambda: config_rows(eyes.boot.config_path))


def config_rows(path: Path) -> list[tuple[str, Any, str]]:
    """The file as it stands now: (key, value, origin), without secrets. Loaded when asked for: nobody else here needs
    what reads it."""
    from rrqd.config.loader import embedded_wanted, load
    from rrqd.config.show import as_rows

    try:
        loaded = load(path)
        rows = [(row.key, row.value, row.origin) for row in as_rows(loaded)]
        if embedded_wanted(loaded):  # the default address is not where this daemon's jobs are
            server = f"redis://{loaded.settings.rrqd.embedded_address}/0"
            rows = [(key, server, "embedded server") if key == "rrq.redis_dsn" else (key, *rest) for key, *rest in rows]
        return rows
    except ConfigError as error:
        return [("", line, "problem") for line in str(error).splitlines()]


class KnownHosts:
    """Refuses requests whose Host is none of ours, in a browser that a foreign page has led here."""

    def __init__(self, app: ASGIApp, hosts: list[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = Headers(scope=scope).get("host", "") if scope["type"] == "http" else ""
        if self._hosts and scope["type"] == "http" and _name_of(host) not in self._hosts:
            error = f"this is not {host[:100]!r}; ask under {', '.join(self._hosts)}, or set rrqd.http to 0.0.0.0"
            await _json({"ok": False, "error": error}, 400)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _name_of(host: str) -> str:
    """``Host`` without its port: ``localhost:9464``, ``[::1]:9464``, ``[::1]``."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()


def _json(body: dict[str, Any], status: int, more: Mapping[str, str] | None = None) -> Response:
    headers = {"content-type": "application/json", "cache-control": "no-store", **(more or {})}
    return Response(msgspec.json.encode(body) + b"\n", status, headers=headers)


async def _fault(request: Request, fault: Exception) -> Response:
    return _json({"ok": False, "error": "an error in rrqd; see its log"}, 500)
