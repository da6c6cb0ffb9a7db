"""The HTTP face: metrics and health. GET and HEAD only; every answer says what it is, none carries a secret."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from rrqd import __version__
from rrqd.web import metrics
from rrqd.web.health import Question, verdict
from rrqd.web.sight import Eyes

INDEX = f"""rrqd {__version__}

/metrics    for Prometheus
/livez      should this daemon be restarted?
/readyz     does work get done here now?
/startupz   has it ever come up?
/healthz    everything that is wrong, and what to do
"""


def build_app(eyes: Eyes, hosts: list[str]) -> Starlette:
    """The app. ``hosts``: names under which it may be asked (protects against DNS rebinding)."""

    async def show_metrics(request: Request) -> Response:
        body, content_type = metrics.exposition(await eyes.sight(memory=True), request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    def probe(question: Question) -> Any:
        async def answer(request: Request) -> Response:
            health = verdict(await eyes.sight())
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
        return PlainTextResponse(INDEX)

    routes = [
        Route("/", index),
        Route("/metrics", show_metrics),
        Route("/livez", probe("live")),
        Route("/readyz", probe("ready")),
        Route("/startupz", probe("startup")),
        Route("/healthz", healthz),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)],
        exception_handlers={HTTPException: _refuse, Exception: _fault},  # type: ignore[dict-item]
    )


def _json(body: dict[str, Any], status: int) -> Response:
    return Response(
        msgspec.json.encode(body) + b"\n",
        status,
        headers={"content-type": "application/json", "cache-control": "no-store"},
    )


async def _refuse(request: Request, fault: HTTPException) -> Response:
    return _json({"ok": False, "error": fault.detail, "path": request.url.path}, fault.status_code)


async def _fault(request: Request, fault: Exception) -> Response:
    return _json({"ok": False, "error": "an error in rrqd; see its log"}, 500)
