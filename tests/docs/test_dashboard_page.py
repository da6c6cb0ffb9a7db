"""The page of the dashboard: its example of a program runs, and it names every action."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from rrqd.web.actions import ACTIONS
from tests.docs.test_feature_pages import examples
from tests.support.daemon import ROOT

PAGE = (ROOT / "docs" / "dashboard.md").read_text()


async def test_the_program_shows_it_to_whom_it_knows(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rrq.toml").write_text(f'[rrq]\nredis_dsn = "{dsn}"\n[rrqd]\nstate_dir = "{tmp_path}"\n')
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    (block,) = examples("dashboard")
    exec(compile(block, "docs/dashboard.md", "exec"), names)
    transport = httpx.ASGITransport(names["app"])
    async with httpx.AsyncClient(transport=transport, base_url="http://program", follow_redirects=True) as browser:
        seen = await browser.get("/ops/jobs", headers={"accept": "text/html", "x-user": "vera"})
        assert (seen.status_code, "vera (viewer)" in seen.text) == (200, True)
        assert (await browser.get("/ops/jobs/queues", headers={"x-user": "nobody"})).status_code == 403
        answers = [
            await browser.post("/ops/jobs/api/v1/actions/queue.pause", json={"queue": "x"}, headers={"x-user": name})
            for name in ("vera", "olaf")
        ]
        assert [answer.status_code for answer in answers] == [403, 200]


def test_every_action_is_named() -> None:
    assert ACTIONS.keys() <= set(re.findall(r"`([a-z]+\.[a-z]+)`", PAGE))
