"""The JSON API under /api/v1: every page's data, every action, and a document that describes both (OpenAPI).

Answers are objects; errors are ``{"ok": false, "error": …}`` with a fitting status. Lists have a limit and name the
offset to go on from. Actions are POSTs of a small JSON object.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from rrqd import clock
from rrqd.exc import StoreError
from rrqd.logs import Logger
from rrqd.model.series import RINGS
from rrqd.model.wanted import WORDS
from rrqd.web.access import MOST_BODY_BYTES, Access, Visitor
from rrqd.web.actions import ACTIONS, Hands, Refused, check
from rrqd.web.failures import LOOK_LEAST, LOOK_MOST, Which, failures
from rrqd.web.finding import Misunderstood, page, preview
from rrqd.web.hiding import hide
from rrqd.web.readings import PAGE_MOST, NotThere, Readings, totals
from rrqd.web.rules import MOST_DAYS, Rules
from rrqd.web.trends import DEFAULT_SPAN, Trends

PREFIX = "/api/v1"
DEFAULT_LIMIT = 50
MOST_OFFSET = 2**31
TICK_SECONDS = 2.0
MOST_STREAMS = 50
STREAM_SECONDS = 25.0
"""Then a stream ends by itself, and whoever listens comes again: an answer that takes longer is hung up on
(`patience`), and one that nobody listens to any more makes room."""
Ask = Callable[[Request], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class View:
    """One readable thing: where, what it is, which parameters its query takes."""

    path: str
    what: str
    answer: Ask
    query: tuple[str, ...] = ()


class Api:
    """`log`: where actions are noted besides the audit, should the store be away."""

    def __init__(self, readings: Readings, access: Access, hands: Hands, log: Logger | Any) -> None:
        self.readings = readings
        self.rules = rules = Rules(readings)
        self.trends = trends = Trends(readings)
        self.access = access
        self.hands = hands
        self.log = log
        self.leaving = asyncio.Event()
        """Set when the process leaves: streams end."""
        self._streams = 0
        read, paged = readings, ("offset", "limit")
        self.views = (
            View("/overview", "What needs attention, and the numbers.", lambda _: read.overview()),
            View("/queues", "Queues, the fullest first.", lambda r: read.queues(*window(r)), paged),
            View("/queues/{name:path}", "One queue and the jobs that wait in it.",
                 lambda r: read.queue(r.path_params["name"], *window(r)), paged),
            View("/series", "What ended, waited and ran, by minute, hour or day; all queues, or one.",
                 lambda r: trends.series(span_of(r), r.query_params.get("queue")), ("span", "queue")),
            View("/running", "Jobs that run on this machine, the longest first.", lambda r: read.running(window(r)[1]),
                 ("limit",)),
            View("/jobs", "Jobs that a filter means: those that run, wait or are buried; others by their state.",
                 self.jobs, (*WORDS, "cursor", "limit")),
            View("/matching", "How many jobs a filter means, before something is done to them.",
                 self.matching, tuple(WORDS)),
            View("/jobs/{id:path}", "One job, why it waits, its log and its relatives.",
                 lambda r: rules.about_job(r.path_params["id"])),
            View("/schedules", "The timetable, and recurring jobs.", lambda r: rules.schedules(*window(r)), paged),
            View("/throttles", "Limits, and how many jobs run and wait under them.",
                 lambda r: rules.throttles(*window(r)), paged),
            View("/throttles/{name:path}", "One limit: who runs and who waits.",
                 lambda r: rules.throttle(r.path_params["name"])),
            View("/stats/{queue:path}", "A queue's figures by day.",
                 lambda r: trends.stats(days_of(r), queue=r.path_params["queue"]), ("days",)),
            View("/functions", "Functions that have run, the latest first.", lambda _: trends.functions()),
            View("/functions/{function:path}", "A function's figures by day, over all queues.",
                 lambda r: trends.stats(days_of(r), function=r.path_params["function"]), ("days",)),
            View("/failures", "The newest buried jobs that pass the filter, grouped by what went wrong.",
                 lambda r: failures(read.store, r.query_params.get("dlq"), which_of(r), look_of(r)),
                 ("dlq", *Which._fields, "look")),
            View("/dlq", "Buried jobs, newest first.",
                 lambda r: read.dlq(r.query_params.get("dlq"), *window(r)), ("dlq", *paged)),
            View("/workers", "Processes of this machine, nodes and workers of all.", lambda _: read.workers()),
            View("/tags", "Tags in use.", lambda _: read.tags()),
            View("/tags/{tag:path}", "Jobs with a tag.",
                 lambda r: read.tagged(r.path_params["tag"], *window(r)), paged),
            View("/tracked", "Jobs that are followed.", lambda r: read.tagged("", *window(r)), paged),
            View("/audit", "What was done by hand, the latest first.",
                 lambda r: read.audit(r.query_params.get("before", "+"), window(r)[1]), ("before", "limit")),
        )  # fmt: skip

    def routes(self) -> list[Route]:
        read_only = ["GET"]
        return [
            *(Route(PREFIX + view.path, self._viewer(view), methods=read_only) for view in self.views),
            Route(f"{PREFIX}/events", self.events, methods=read_only),
            Route(f"{PREFIX}/openapi.json", self.document, methods=read_only),
            Route(f"{PREFIX}/actions/{{name}}", self.act, methods=["POST"]),
        ]

    async def jobs(self, request: Request) -> dict[str, Any]:
        """A page of the jobs that the query means."""
        said = request.query_params
        return await page(self.readings.store, said, said.get("cursor"), window(request)[1])

    async def matching(self, request: Request) -> dict[str, Any]:
        """Their number, and some of them."""
        return await preview(self.readings.store, request.query_params)

    def _viewer(self, view: View) -> Callable[[Request], Awaitable[Response]]:
        async def show(request: Request) -> Response:
            self.access.admit(request, "viewer")
            return as_json(await asked(view.answer(request)))

        return show

    async def act(self, request: Request) -> Response:
        """Carry an action out, note it, and say what it came to."""
        visitor = self.access.admit(request, "operator")
        return as_json(await self.carry_out(visitor, request.path_params["name"], await body_of(request)))

    async def carry_out(self, visitor: Visitor, name: str, said: Any) -> dict[str, Any]:
        """Raises HTTPException with the reason when it can't be done."""
        known = ACTIONS.get(name)
        if known is None:
            raise HTTPException(404, f"there is no action {name[:80]!r}; there are {', '.join(ACTIONS)}")
        try:
            words = check(known, said)
        except Refused as refusal:
            raise HTTPException(refusal.status, str(refusal)) from None
        answer = await asked(known.carry_out(self.hands, words))
        shown, count = known.target(words), answer["count"]
        kept = hide(words, self.readings.eyes.settings.rrqd.web.hidden_params)
        self.log.info("web.action", who=visitor.name, action=name, target=shown, count=count)
        await asked(self.readings.store.note_action(visitor.name, name, shown, count, kept))
        return {"ok": True, **answer}

    async def document(self, request: Request) -> Response:
        from rrqd.web.openapi import document  # asked for now and then, by tools

        self.access.admit(request, "viewer")
        return as_json(document(self.views))

    async def events(self, request: Request) -> Response:
        """Server-sent events: the totals, again and again, so that pages know when to look."""
        self.access.admit(request, "viewer")
        if self._streams >= MOST_STREAMS:
            raise HTTPException(503, f"{MOST_STREAMS} streams are open already; try again later")
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(self._ticks(), media_type="text/event-stream", headers=headers)

    async def _ticks(self) -> AsyncIterator[bytes]:
        self._streams += 1
        ends = clock.monotonic() + STREAM_SECONDS
        try:
            yield b"retry: 500\n\n"
            while not self.leaving.is_set() and clock.monotonic() < ends:
                sight = await self.readings.eyes.sight()
                yield b"event: tick\ndata: " + msgspec.json.encode(totals(sight)) + b"\n\n"
                try:
                    await asyncio.wait_for(self.leaving.wait(), TICK_SECONDS)
                except TimeoutError:
                    continue
        finally:
            self._streams -= 1


async def asked(answer: Awaitable[Any]) -> Any:
    """The answer, or an HTTPException that says what is wrong."""
    try:
        return await answer
    except NotThere as missing:
        raise HTTPException(404, str(missing)) from None
    except Refused as refusal:
        raise HTTPException(refusal.status, str(refusal)) from None
    except Misunderstood as fault:
        raise HTTPException(422, str(fault)) from None
    except StoreError as fault:
        raise HTTPException(503, f"the server can't be asked: {fault}", {"retry-after": "2"}) from None


def window(request: Request) -> tuple[int, int]:
    """(offset, limit) of a query. Raises HTTPException 422."""
    return (
        _whole(request, "offset", 0, 0, MOST_OFFSET),
        _whole(request, "limit", DEFAULT_LIMIT, 1, PAGE_MOST),
    )


def days_of(request: Request) -> int:
    """How many days a query asks for. Raises HTTPException 422."""
    return _whole(request, "days", 7, 1, MOST_DAYS)


def span_of(request: Request) -> str:
    """Which ring of history a query asks for. Raises HTTPException 422."""
    span = request.query_params.get("span", DEFAULT_SPAN)
    if span not in RINGS:
        raise HTTPException(422, f"span must be one of {', '.join(RINGS)}")
    return span


def look_of(request: Request) -> int:
    """How many buried jobs a query wants looked at. Raises HTTPException 422."""
    return _whole(request, "look", LOOK_LEAST, 1, LOOK_MOST)


def which_of(request: Request) -> Which:
    """Which buried jobs a query means; what is left empty does not matter."""
    return Which(**{name: request.query_params.get(name) or None for name in Which._fields})


def _whole(request: Request, name: str, default: int, least: int, most: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and least <= int(text[:12]) <= most):
        raise HTTPException(422, f"{name} must be a whole number from {least} to {most}")
    return int(text)


async def body_of(request: Request) -> Any:
    """The JSON of a request's body. Raises HTTPException 413, 415 or 422."""
    try:
        return msgspec.json.decode(await read_body(request, "application/json"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise HTTPException(422, f"the body is not JSON: {fault}") from None


async def read_body(request: Request, media_type: str) -> bytes:
    """A whole body of this type. Raises HTTPException 413 or 415."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != media_type:
        raise HTTPException(415, f"send {media_type}")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BODY_BYTES:
            raise HTTPException(413, f"the body is larger than {MOST_BODY_BYTES} bytes")
    return bytes(body)


def as_json(body: dict[str, Any], status: int = 200) -> Response:
    headers = {"content-type": "application/json", "cache-control": "no-store", "x-content-type-options": "nosniff"}
    return Response(msgspec.json.encode(body) + b"\n", status, headers=headers)
