"""The dashboard mounted in a program: under a path, for whom the program has let in."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest

from rrqd.model.job import NewJob
from rrqd.store import ClaimRequest, Store
from rrqd.web import Visitor, dashboard
from tests.support.web import Site, site_on

PAGES = [
    "", "queues", "queues/mail", "running", "failures", "dlq", "workers", "tags", "tracked", "audit", "schedules",
    "throttles", "stats/mail", "config",
]  # fmt: skip


@pytest.fixture
async def site(store: Store, dsn: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with site_on(dsn, tmp_path, at="/ops/jobs") as site:
        await store.enqueue_many([NewJob(id="a/b?c#d", function="send", queue="mail")])
        yield site


async def test_every_page_and_link_stays_below_the_path(site: Site) -> None:
    for page in PAGES:
        text = await site.page(page)
        assert '<base href="/ops/jobs/">' in text, page
        links = re.findall(r'(?:href|src|action)="([^"]*)"', text)
        assert [link for link in links if link.startswith("/") and link != "/ops/jobs/"] == [], page
        if page:
            assert f'href="{page}#main"' in text
    for link in re.findall(r'(?:href|src)="(static/[^"]*)"', await site.page("")):
        assert (await site.ask(link)).status_code == 200


async def test_a_form_leads_back_to_its_page_whatever_the_names_in_it(site: Site) -> None:
    text = await site.page("jobs/a%2Fb%3Fc%23d")
    back = re.findall(r'name="back" value="([^"]*)"', text)[0]
    answer = await site.form("job.tag", f"job=a%2Fb%3Fc%23d&tags=urgent&back={quote(back)}")
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/ops/jobs/jobs/a%2Fb%3Fc%23d?did=job.tag")
    assert "urgent" in await site.page(answer.headers["location"].removeprefix("/ops/jobs/"))
    (entry,) = (await site.view("audit"))["actions"]
    assert (entry["who"], entry["action"]) == ("olaf", "job.tag")


async def test_the_program_says_who_comes_in(site: Site) -> None:
    words = {"queue": "mail"}
    site.visitor = Visitor("vera", "viewer")
    assert '<form class="do"' not in await site.page("queues")
    assert (await site.act("queue.pause", words)).status_code == 403
    for stranger in (None, Visitor("eve", "none")):
        site.visitor = stranger
        refused = await site.ask("queues", accept="text/html")
        assert (refused.status_code, "does not let you in" in refused.text) == (403, True)
        assert (await site.ask("api/v1/queues")).status_code == 403
    with pytest.raises(ValueError, match="'king' is no role; there are none, viewer, operator"):
        Visitor("karl", "king")


async def test_without_a_word_from_the_program_the_file_decides(dsn: str, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"viewer vera {'v' * 20}\n")
    async with site_on(dsn, tmp_path, more=f'[rrqd.web]\ntokens_file = "{tokens}"') as site:
        site.app.routes[0].app = dashboard(tmp_path / "rrq.toml")  # type: ignore[attr-defined]
        assert (await site.ask("api/v1/queues")).status_code == 401
        assert (await site.ask("api/v1/queues", authorization=f"Bearer {'v' * 20}")).status_code == 200


async def test_jobs_of_all_machines_are_seen_running(site: Site, store: Store) -> None:
    await store.renew("node", 60_000)
    await store.open_worker("worker", "node")
    claim = await store.claim(
        ClaimRequest(worker_id="worker", node_id="node", turn=1, limit=5, running=0, queues=("mail",))
    )
    assert len(claim.jobs) == 1
    running = await site.view("running")
    assert [row["id"] for row in running["jobs"]] == ["a/b?c#d"]
    overview = await site.view("overview")
    assert (overview["totals"]["running"], overview["totals"]["workers"], overview["problems"]) == (1, 1, [])
