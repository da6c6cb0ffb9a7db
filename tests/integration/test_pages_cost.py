"""What the pages ask of the server where there is a lot: a bounded number of commands, whatever lies there.

`python -m bench pages` measures the same pages in milliseconds, with a million jobs.
"""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from bench.pages import PAGES, QUEUES, WORKERS, fill
from rrqd.store import Store
from rrqd.web import Visitor, access, dashboard, sight

JOBS, FEWER = 50_000, QUEUES // 5
CROWD = WORKERS + 100
"""What it costs at the most to see how many jobs each worker of each node holds."""
MOST = {
    "": 3 * FEWER + CROWD,
    "queues": 3 * FEWER + CROWD,
    "running": 3 * WORKERS + CROWD,
    "jobs": CROWD + 100,
    "jobs?queue=queue-7&function=function_7": 1000 + CROWD,  # as many jobs as one page looks at
    "failures": 1000 + 10,
    "throttles": 200,
    "tags/bench": 200,
    "workers": 2 * WORKERS + 100,
}
OTHERS_MOST = 80


@pytest.fixture
async def page_costs(dsn: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Page -> commands, each page alone: no look at the store that another has just paid for."""
    await fill(dsn, JOBS, FEWER)
    monkeypatch.setattr(sight, "STORE_SECONDS", 0.0)
    monkeypatch.setattr(access, "BURST_REQUESTS", 1e9)
    (tmp_path / "rrq.toml").write_text(f'[rrq]\nredis_dsn = "{dsn}"\n[rrqd]\nstate_dir = "{tmp_path}"\n')
    app = dashboard(tmp_path / "rrq.toml", who=lambda _: Visitor("test", "operator"))
    costs = {}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as browser:
        for page in ("config", *PAGES):  # the first opens the connection
            before = int((await store.info())["total_commands_processed"])
            answer = await browser.get(f"/{page}", headers={"accept": "text/html"})
            assert answer.status_code == 200, answer.text[:300]
            costs[page] = int((await store.info())["total_commands_processed"]) - before - 1
    return costs


async def test_each_page_asks_no_more_than_it_may(page_costs: dict[str, int]) -> None:
    over = {page: cost for page, cost in page_costs.items() if cost > MOST.get(page, OTHERS_MOST)}
    assert over == {}, page_costs
