"""Each attack that the dashboard withstands, tried: on the app itself, in the test's own process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode

import httpx
import pytest
import uvicorn

from rrqd.model.lifecycle import End
from rrqd.store import Store
from rrqd.web import Visitor
from rrqd.web.access import BURST_REQUESTS
from rrqd.web.actions import ACTIONS
from rrqd.web.app import KnownHosts
from rrqd.web.patience import HEAD_SECONDS, MOST_HEAD_BYTES, PatientProtocol
from tests.support.moves import hand, job
from tests.support.web import HOST, Site, site_on

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&amp;{{7*7}}javascript:alert(1)//../..\\"
ATTRIBUTES = {
    "a": {"href", "class", "rel", "aria-current"}, "base": {"href"}, "link": {"rel", "href", "nonce"},
    "script": {"src", "nonce", "defer"}, "meta": {"charset", "name", "content"},
}  # fmt: skip
ANYWHERE = {
    "lang", "class", "id", "tabindex", "role", "method", "action", "name", "value", "type", "for", "placeholder",
    "accesskey", "autocomplete", "inputmode", "size", "required", "checked", "rows", "spellcheck", "scope", "min",
    "max", "open", "selected", "multiple", "formaction",
    "viewbox", "preserveaspectratio", "d", "x", "y", "width", "height", "colspan",
}  # fmt: skip


class Elements(HTMLParser):
    """Everything on a page that is more than text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.odd: list[tuple[str, str]] = []
        self.scripts = 0
        self.links: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        allowed = ATTRIBUTES.get(tag, ANYWHERE)
        self.odd += [
            (tag, name) for name, _ in attrs if name not in allowed and not name.startswith(("aria-", "data-"))
        ]
        self.odd += [(tag, "?")] if tag in ("img", "iframe", "object", "embed", "style") else []
        if tag == "a":
            self.links.add(dict(attrs)["href"] or "")


@pytest.fixture
async def site(store: Store, dsn: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with site_on(dsn, tmp_path, more='[rrqd.web]\nhidden_params = ["PIN", "password"]') as site:
        yield site


async def hostile_world(store: Store) -> None:
    """Names and texts of all kinds that an attacker may choose, as bad as can be."""
    params = json.dumps({HOSTILE: HOSTILE}).encode()
    more = {"function": HOSTILE, "queue": HOSTILE, "params": params, "tags": (HOSTILE,), "max_retries": 1}
    await store.enqueue_many([job(HOSTILE, track=True, **more)])
    worker = await hand(store, HOSTILE, node_id=HOSTILE, queues=[HOSTILE])
    (claimed,) = await worker.take(1)
    await store.progress([(claimed.id, claimed.token, params)])
    detail = json.dumps({"type": HOSTILE, "message": HOSTILE, "traceback": HOSTILE}).encode()
    await worker.settle(claimed, End.BURY, error=HOSTILE, detail=detail, ttl_seconds=99)
    await store.enqueue_many(
        [job(f"{HOSTILE}2", **{**more, "throttles": (HOSTILE,)}), job("3", parents=(f"{HOSTILE}2",))]
    )
    await store.set_throttle(HOSTILE, 0)
    await worker.take(5)
    await store.note_action(HOSTILE, HOSTILE, HOSTILE, 1, {HOSTILE: HOSTILE})


async def test_hostile_text_is_only_ever_text_on_every_page_that_links_lead_to(site: Site, store: Store) -> None:
    await hostile_world(store)
    site.visitor = Visitor(HOSTILE, "operator")
    seen: set[str] = set()
    left = {"", f"failures?function={quote(HOSTILE)}", f"queues?did={quote(HOSTILE)}&count=1&said={quote(HOSTILE)}"}
    while left:
        link = left.pop()
        seen.add(link)
        text = await site.page(link)
        page = Elements(text)
        assert (page.odd, page.scripts) == ([], 1), link
        assert "{{7*7}}" in text or "49" not in text
        assert all(not one.startswith(("http", "/", "javascript", "data")) for one in page.links), link
        left |= {one.partition("#")[0] for one in page.links} - seen
    kinds = {unquote(one).partition("/")[0].partition("?")[0] for one in seen if HOSTILE[:5] in unquote(one)}
    assert kinds >= {"queues", "jobs", "tags", "throttles", "stats", "failures"}


async def test_a_page_names_its_own_script_and_style_anew_each_time_and_runs_nothing_else(site: Site) -> None:
    numbers = set()
    for _ in range(2):
        answer = await site.ask("queues", accept="text/html")
        policy = dict(one.strip().split(" ", 1) for one in answer.headers["content-security-policy"].split(";"))
        (number,) = set(re.findall(r'nonce="([^"]*)"', answer.text))
        assert policy["script-src"] == policy["style-src"] == f"'nonce-{number}'"
        assert (policy["default-src"], policy["frame-ancestors"], policy["form-action"]) == (
            "'none'",
            "'none'",
            "'self'",
        )
        numbers.add(number)
    assert len(numbers) == 2
    for path in ("nowhere", "static/rrqd.js", "find?q=x", "jobs/nobody"):
        headers = (await site.ask(path, accept="text/html")).headers
        assert "default-src 'none'" in headers.get("content-security-policy", "") or path == "nowhere"
        assert headers.get("x-content-type-options", "nosniff") == "nosniff"


async def test_a_link_cannot_put_words_into_a_pages_mouth(site: Site) -> None:
    for query in ("said=call+555", "did=call+555&count=1", "did=queue.pause&count=call+555", "did=queue.pause&count=٣"):
        text = await site.page(f"queues?{query}")
        assert "555" not in Visible(text).main
        assert 'role="status"' not in text


class Visible(HTMLParser):
    """The text within <main>."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.main = ""
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, _attrs: Any) -> None:
        self._inside = self._inside or tag == "main"

    def handle_data(self, data: str) -> None:
        self.main += data if self._inside else ""


async def test_the_way_back_leads_nowhere_else(site: Site) -> None:
    for back in (
        "//evil.example",
        "\\\\evil.example",
        "https://evil.example",
        "x\r\nset-cookie: a=b",
        "javascript:alert(1)",
    ):
        answer = await site.form("queue.resume", urlencode({"queue": "q", "back": back}))
        where = httpx.URL(f"http://{HOST}/").join(answer.headers["location"])
        assert (answer.status_code, where.host, "set-cookie" in answer.headers) == (303, HOST, False), back


@pytest.mark.parametrize("name", sorted(ACTIONS))
async def test_who_may_only_look_changes_nothing_whatever_is_sent(site: Site, name: str) -> None:
    for visitor, status in ((Visitor("vera", "viewer"), 403), (None, 403)):
        site.visitor = visitor
        assert (await site.act(name, {})).status_code == status
        assert (await site.form(name, "back=")).status_code == status
    site.visitor = Visitor("olaf", "operator")
    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE"):
        assert (await site.ask(f"api/v1/actions/{name}", method)).status_code == 405
        assert (await site.ask(f"do/{name}", method)).status_code == 405
    for words in ({"origin": "http://evil.example"}, {"sec_fetch_site": "cross-site"}, {"origin": "null"},
                  {"sec_fetch_site": "same-site", "origin": f"http://{HOST}"}):  # fmt: skip
        assert (await site.act(name, {}, **words)).status_code == 403
        assert (await site.form(name, "back=", **words)).status_code == 403
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/json5"):
        assert (await site.act(name, {}, content_type=kind)).status_code == 415
    assert (await site.view("audit"))["actions"] == []


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9464", "localhost.evil.example", "", "[::1].evil", "a@localhost"]
)
async def test_a_name_that_is_not_ours_is_not_answered_to(site: Site, host: str) -> None:
    guarded = KnownHosts(site.app, ["localhost", "127.0.0.1", "[::1]"])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(guarded), base_url="http://localhost") as browser:
        assert (await browser.get("/queues")).status_code == 200
        assert (await browser.get("/queues", headers={"host": "[::1]:9464"})).status_code == 200
        for path in ("/queues", "/api/v1/queues", "/static/rrqd.js"):
            assert (await browser.get(path, headers={"host": host})).status_code == 400


async def test_what_is_hidden_is_nowhere(site: Site, store: Store) -> None:
    secret, params = "x7-hush-x7", {"Password": "x7-hush-x7", "card": [{"pin": "x7-hush-x7"}]}
    await store.enqueue_many([job("a", params=json.dumps(params).encode(), max_retries=1)])
    worker = await hand(store)
    (claimed,) = await worker.take(1)
    await store.progress([(claimed.id, claimed.token, json.dumps(params).encode())])
    await worker.settle(claimed, result=json.dumps(params).encode())
    assert (await site.act("job.requeue", {"job": "a", "params": params})).status_code == 200
    for path in ("jobs/a", "api/v1/jobs/a", "audit", "api/v1/audit", "config", "queues/default"):
        answer = await site.ask(path, accept="text/html")
        assert (answer.status_code, secret in answer.text) == (200, False), path


async def test_floods_and_giants_are_refused(site: Site) -> None:
    huge = json.dumps({"queue": "x" * 1_100_000})
    for answer in (await site.ask("api/v1/actions/queue.pause", "POST", huge, content_type="application/json"),
                   await site.form("queue.pause", "queue=" + "x" * 1_100_000)):  # fmt: skip
        assert answer.status_code == 413
    deep = "[" * 100_000
    assert (
        await site.ask("api/v1/actions/queue.pause", "POST", deep, content_type="application/json")
    ).status_code == 422
    for query in ("limit=201", "limit=0", "offset=-1", f"offset={2**64}", "limit=1e3", "limit=٣", "look=20001"):
        view = "failures" if "look" in query else "dlq"
        assert (await site.ask(f"api/v1/{view}?{query}")).status_code == 422, query
    flood = await asyncio.gather(*(site.ask("api/v1/tags") for _ in range(int(BURST_REQUESTS) * 2)))
    assert {answer.status_code for answer in flood} == {200, 429}


@contextlib.asynccontextmanager
async def served(site: Site) -> AsyncIterator[int]:
    """The site on a port, behind the daemon's own protocol."""
    config = uvicorn.Config(site.app, log_config=None, lifespan="off", http=PatientProtocol, ws="none")
    config.load()
    state = uvicorn.server.ServerState()
    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: PatientProtocol(config, state, {}), "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def test_a_head_without_end_is_hung_up_on_and_a_long_one_is_read(site: Site) -> None:
    async with served(site) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /api/v1/tags HTTP/1.1\r\nhost: x\r\ncookie: " + b"c" * 16_000 + b"\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\n" + (b"x-a: " + b"a" * 1000 + b"\r\n") * (MOST_HEAD_BYTES // 1000 + 1))
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(HEAD_SECONDS / 2):
                assert await reader.read() == b""
        writer.close()
