"""The dashboard: the API's views as pages for people, and its actions as forms.

Server-rendered, complete without JavaScript; the one script only looks again when the server has news. No inline script
or style, everything from here (see `HEADERS`). Each page is a GET that can be bookmarked; each form is a POST that is
admitted like any other action.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import jinja2
import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from rrqd import __version__, clock
from rrqd.exc import StoreError
from rrqd.model.wanted import STATES, WORDS, as_query
from rrqd.web.access import Visitor
from rrqd.web.actions import ACTIONS
from rrqd.web.api import Api, asked, days_of, look_of, read_body, span_of, which_of, window
from rrqd.web.failures import failures
from rrqd.web.finding import MATCH_MOST
from rrqd.web.readings import PAGE_MOST

HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
PAGE_POLICY = (
    "default-src 'none'; style-src 'nonce-{0}'; script-src 'nonce-{0}'; img-src data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'self'"
)
"""Only the one script and the one style that carry the number of this answer: whatever else lies on this site, such as
files that people put there through the program that we are mounted in, is not run by our pages."""
STATIC = {"rrqd.css": "text/css; charset=utf-8", "rrqd.js": "text/javascript; charset=utf-8"}
Read = Callable[[Request], Awaitable[dict[str, Any]]]


def _templates() -> dict[str, str]:
    """All of them as they are now: after an upgrade of the package, this process's old code would meet new ones."""
    return {file.name: file.read_text("utf-8") for file in (files("rrqd.web") / "templates").iterdir()}


class Pages:
    def __init__(self, api: Api, prefix: str, config: Callable[[], list[tuple[str, Any, str]]]) -> None:
        """`prefix`: where a proxy shows us. `config`: rows of (key, value, origin), without secrets."""
        self.api = api
        self.prefix = prefix
        self._config = config
        self._static = {name: (files("rrqd.web") / "static" / name).read_bytes() for name in STATIC}
        stamp = hashlib.sha1(b"".join(self._static.values()), usedforsecurity=False).hexdigest()[:10]
        self._jinja = jinja2.Environment(
            loader=jinja2.DictLoader(_templates()),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._jinja.filters.update(
            when=when,
            ago=ago,
            span=span,
            bytes=in_bytes,
            json=as_text,
            path=lambda text: quote(text, ""),
            counted=counted,
            line=lambda value: msgspec.json.encode(value).decode(),
            query=lambda first, more: urlencode({**{k: v for k, v in first.items() if v}, **more}),
        )
        self._jinja.globals.update(version=__version__, stamp=stamp)

    def routes(self) -> list[Route]:
        read, rules, trends = self.api.readings, self.api.rules, self.api.trends
        pages: list[tuple[str, str, str, Read]] = [
            ("/queues", "queues", "Queues", lambda r: read.queues(*window(r))),
            ("/queues/{name:path}", "queue", "Queue", self._queue),
            ("/running", "running", "Running", lambda r: read.running(window(r)[1])),
            ("/jobs", "jobs", "Jobs", self._jobs),
            ("/matching", "matching", "All that match", self._matching),
            ("/jobs/{id:path}", "job", "Job", lambda r: rules.about_job(r.path_params["id"])),
            ("/schedules", "schedules", "Schedules", lambda r: rules.schedules(*window(r))),
            ("/throttles", "throttles", "Throttles", lambda r: rules.throttles(*window(r))),
            ("/throttles/{name:path}", "throttle", "Throttle", lambda r: rules.throttle(r.path_params["name"])),
            ("/stats/{queue:path}", "stats", "Figures",
             lambda r: trends.stats_drawn(days_of(r), queue=r.path_params["queue"])),
            ("/stats", "functions", "Stats", self._stats),
            ("/functions/{function:path}", "stats", "Figures",
             lambda r: trends.stats_drawn(days_of(r), function=r.path_params["function"])),
            ("/failures", "failures", "Failures",
             lambda r: failures(read.store, r.query_params.get("dlq"), which_of(r), look_of(r))),
            ("/dlq", "dlq", "Buried jobs", lambda r: read.dlq(r.query_params.get("dlq"), *window(r))),
            ("/workers", "workers", "Workers", lambda _: read.workers()),
            ("/tags", "tags", "Tags", lambda _: read.tags()),
            ("/tags/{tag:path}", "tagged", "Tag", lambda r: read.tagged(r.path_params["tag"], *window(r))),
            ("/tracked", "tagged", "Tracked", lambda r: read.tagged("", *window(r))),
            ("/config", "config", "Configuration", self._settings),
            ("/audit", "audit", "Audit",
             lambda r: read.audit(r.query_params.get("before", "+"), window(r)[1])),
        ]  # fmt: skip
        return [
            *(Route(path, self._page(name, title, ask), methods=["GET"]) for path, name, title, ask in pages),
            Route("/find", self.find, methods=["GET"]),
            Route("/do/{name}", self.do, methods=["POST"]),
            Route("/static/{name}", self.static, methods=["GET"]),
        ]

    async def overview(self, request: Request) -> Response:
        """The first page."""
        return await self._page("overview", "Overview", self._overview)(request)

    def _page(self, name: str, title: str, ask: Read) -> Callable[[Request], Awaitable[Response]]:
        async def show(request: Request) -> Response:
            visitor = self.api.access.admit(request, "viewer")
            return self._render(request, visitor, name, title, await asked(ask(request)))

        return show

    def _render(self, request: Request, visitor: Visitor, name: str, title: str, data: dict[str, Any]) -> Response:
        return self._show(
            request,
            name,
            data=data,
            title=title,
            here=self._here(request),
            said=did(request),
            visitor=visitor,
            may_act=visitor.may("operator"),
        )

    def _show(self, request: Request, name: str, status: int = 200, **words: Any) -> Response:
        nonce = secrets.token_urlsafe(16)
        text = self._jinja.get_template(f"{name}.html").render(
            base=f"{self._base(request)}/", nonce=nonce, now_ms=clock.wall_ms(), **words
        )
        headers = {**HEADERS, "content-security-policy": PAGE_POLICY.format(nonce)}
        return Response(text, status, media_type="text/html; charset=utf-8", headers=headers)

    async def _overview(self, request: Request) -> dict[str, Any]:
        """While the server is away this page says so, at once; only its charts are missing."""
        span, data, trends = span_of(request), await self.api.readings.overview(), None
        if data["store"]["ok"]:
            with suppress(StoreError):
                trends = await self.api.trends.drawn(span, None)
        return {**data, "trends": trends}

    async def _queue(self, request: Request) -> dict[str, Any]:
        name = request.path_params["name"]
        data = await self.api.readings.queue(name, *window(request))
        return {**data, "trends": await self.api.trends.drawn(span_of(request), name)}

    async def _stats(self, _request: Request) -> dict[str, Any]:
        functions, queues = await asyncio.gather(self.api.trends.functions(), self.api.readings.queues(0, PAGE_MOST))
        return {**functions, "queues": [row["queue"] for row in queues["queues"]]}

    async def _jobs(self, request: Request) -> dict[str, Any]:
        said = {word: request.query_params.get(word, "") for word in WORDS}
        return {
            **await self.api.jobs(request),
            "said": said,
            "states": STATES,
            "turned": "cursor" in request.query_params,
        }

    async def _matching(self, request: Request) -> dict[str, Any]:
        return {**await self.api.matching(request), "most": MATCH_MOST}

    async def _settings(self, _request: Request) -> dict[str, Any]:
        """The file, and what the store says; while that is away only the file."""
        stored: dict[str, str] | None = None
        with suppress(StoreError):
            stored = await self.api.readings.store.config()
        fields = [(*field.partition(" ")[::2], value) for field, value in sorted((stored or {}).items())]
        return {"rows": self._config(), "there": stored is not None, "stored": fields}

    async def find(self, request: Request) -> Response:
        """From the search box: `queue:mail state:failed`, a filter's words, to the jobs; else it is a job's id."""
        self.api.access.admit(request, "viewer")
        said = request.query_params.get("q", "").strip()
        query = as_query(in_words(said))
        return self._go(request, f"jobs?{query}" if query else f"jobs/{quote(said, '')}" if said else "jobs")

    async def do(self, request: Request) -> Response:
        """An action from a form; then back to the page it came from, with a word of how it went."""
        visitor = self.api.access.admit(request, "operator")
        form = await form_of(request)
        back = form.pop("back", "")
        name = request.path_params["name"]
        answer = await self.api.carry_out(visitor, name, typed(name, form))
        place, _, query = back.partition("?")
        if "job" in answer:  # a new one: that is where to look next
            place, query = f"jobs/{quote(answer['job'], '')}", ""
        kept = [(key, value) for key, value in parse_qsl(query) if key not in ("did", "count")]
        return self._go(request, f"{place}?{urlencode([*kept, ('did', name), ('count', answer['count'])])}")

    def _go(self, request: Request, target: str) -> Response:
        """Only ever to a page of ours: the target is a path below the base, whatever it says."""
        return RedirectResponse(f"{self._base(request)}/{target.lstrip('/')}", 303, headers=HEADERS)

    def _base(self, request: Request) -> str:
        """The path before ours, as the visitor's browser sees it: what a proxy was told, or where we are mounted."""
        return quote(self.prefix or request.scope.get("root_path", ""))

    @staticmethod
    def _here(request: Request) -> str:
        """This page's address below the base, as it was asked for: a name in it may hold an escaped slash."""
        raw: bytes = request.scope.get("raw_path") or quote(request.scope["path"]).encode()
        path = raw.decode("latin-1").removeprefix(quote(request.scope.get("root_path", ""))).lstrip("/")
        return path + (f"?{request.url.query}" if request.url.query else "")

    async def static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in STATIC:
            raise HTTPException(404, "there is no such file")
        headers = {"content-type": STATIC[name], "cache-control": "max-age=31536000, immutable"}
        return Response(self._static[name], headers={**HEADERS, **headers})

    def fault(self, request: Request, status: int, why: str) -> Response:
        """What went wrong, as a page."""
        return self._show(
            request,
            "fault",
            status,
            data={"status": status, "why": why},
            title="Not done" if request.method == "POST" else "Not shown",
            here="",
            said="",
            visitor=None,
            may_act=False,
        )


def did(request: Request) -> str:
    """What became of an action, when a page is shown after one. Nobody's words but ours: a link can't make a page say
    what its author likes."""
    done, count = ACTIONS.get(request.query_params.get("did", "")), request.query_params.get("count", "")
    return done.told({"count": int(count)}) if done is not None and count.isascii() and count[:9].isdecimal() else ""


async def form_of(request: Request) -> dict[str, str]:
    """A urlencoded form. Raises HTTPException 413 or 415."""
    body = await read_body(request, "application/x-www-form-urlencoded")
    form: dict[str, str] = {}
    for name, value in parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True):
        form[name] = f"{form[name]}\n{value}" if name in form else value
    return form


def in_words(text: str) -> dict[str, str]:
    """`queue:mail error:no such customer` as words of a filter and their values, which go on to the next word."""
    parts = re.split(rf"(?:^|\s)({'|'.join(WORDS)}):", text)
    return {} if parts[0].strip() else dict(zip(parts[1::2], parts[2::2], strict=True))


def typed(name: str, form: dict[str, str]) -> dict[str, Any]:
    """A form's texts as what the action wants; what is no number stays a text, and is refused with a reason.

    A field `name*` is a line in which somebody typed several, with spaces between."""
    fields = ACTIONS[name].fields if name in ACTIONS else {}
    said: dict[str, Any] = {}
    for field, text in form.items():
        key = field.removesuffix("*")
        kind = fields[key].kind if key in fields else "text"
        if kind in ("whole", "number") and (text or fields[key].needed):
            try:
                said[key] = int(text) if kind == "whole" else float(text)
            except ValueError:
                said[key] = text
        elif kind == "texts":
            said[key] = text.split() if field.endswith("*") else text.split("\n")
        elif kind == "flag":
            said[key] = text == "true"
        elif kind == "object":
            try:
                said[key] = msgspec.json.decode(text)
            except msgspec.DecodeError as fault:
                raise HTTPException(422, f"{key} must be a JSON object: {fault}") from None
        elif text:
            said[key] = text
    return said


def when(moment: Any) -> str:
    """A stored time, or epoch ms, as `2026-01-31 12:00:00` in UTC. What is no time stays as it is."""
    at = _moment(moment)
    return "" if moment in (None, "") else str(moment) if at is None else f"{at:%Y-%m-%d %H:%M:%S}"


def ago(moment: Any, now_ms: float) -> str:
    """How far a time is from now: `20 min 34 s ago`, `in 2 d 3 h`. Nothing for what is no time."""
    at = _moment(moment)
    if at is None:
        return ""
    seconds = int(now_ms / 1000 - at.timestamp())
    return f"{span(abs(seconds))} ago" if seconds > 0 else f"in {span(abs(seconds))}" if seconds else "now"


def _moment(moment: Any) -> datetime | None:
    try:
        if isinstance(moment, (int, float)):
            return datetime.fromtimestamp(moment / 1000, UTC)
        return datetime.fromisoformat(str(moment)).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None


def counted(number: int, what: str) -> str:
    """`1 job`, `7 jobs`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def span(seconds: float | None) -> str:
    """`1234.5` -> `20 min 34 s`; the two largest units."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.{1 if 0 < seconds < 0.001 else 0}f} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole, parts = int(seconds), []
    for name, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if whole >= size:
            parts.append(f"{whole // size} {name}")
            whole %= size
    return " ".join(parts[:2])


def in_path(text: str) -> str:
    """A name as one step of a path, whatever is in it."""
    return quote(text, "")


def in_bytes(count: int | None) -> str:
    return "" if count is None else f"{count / 1048576:.1f} MiB"


def as_text(value: Any) -> str:
    """JSON for people."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
