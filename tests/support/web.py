"""The dashboard inside the test's own process: no daemon, no port; asked as a browser or a program would."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.routing import Mount

from rrqd.web import Visitor, dashboard

HOST = "ops.example"


class Site:
    """A program that shows the dashboard under a path. `visitor`: whom it has let in; may be changed at any time."""

    def __init__(self, config: Path, at: str = "") -> None:
        self.visitor: Visitor | None = Visitor("olaf", "operator")
        self.at = at
        self.app = Starlette(routes=[Mount(at or "/", dashboard(config, who=lambda _: self.visitor))])
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=f"http://{HOST}")

    async def ask(
        self, path: str, method: str = "GET", body: bytes | str | None = None, **headers: str
    ) -> httpx.Response:
        """Names of headers with `_` for `-`."""
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self._client.request(method, f"{self.at}/{path}", content=body, headers=said)

    async def view(self, path: str) -> Any:
        """What a view of the API says."""
        answer = await self.ask(f"api/v1/{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def page(self, path: str) -> str:
        """A page's text."""
        answer = await self.ask(path, accept="text/html")
        assert answer.status_code == 200, answer.text
        return answer.text

    async def act(self, action: str, words: Any, **headers: str) -> httpx.Response:
        """Ask for an action as a program does."""
        said = {"content_type": "application/json", **headers}
        return await self.ask(f"api/v1/actions/{action}", "POST", json.dumps(words), **said)

    async def form(self, action: str, words: str, **headers: str) -> httpx.Response:
        """Ask for an action as a page's form does: `words` as a browser encodes them."""
        said = {"content_type": "application/x-www-form-urlencoded", **headers}
        return await self.ask(f"do/{action}", "POST", words, **said)

    async def close(self) -> None:
        await self._client.aclose()


def config_on(dsn: str, folder: Path, more: str = "") -> Path:
    """A file for this server, on a machine where no daemon runs."""
    config = folder / "rrq.toml"
    config.write_text(
        f'[rrq]\nredis_dsn = "{dsn}"\n\n[rrqd]\nstate_dir = "{folder}"\nhttp = "off"\n{more}\n'
        '[rrqd.pools.default]\nhandlers = "handlers:registry"\nqueues = ["default"]\n'
    )
    return config


@asynccontextmanager
async def site_on(dsn: str, folder: Path, at: str = "", more: str = "") -> AsyncIterator[Site]:
    """A site on this server. `more`: lines of the `[rrqd]` tables."""
    site = Site(config_on(dsn, folder, more), at)
    try:
        yield site
    finally:
        await site.close()
