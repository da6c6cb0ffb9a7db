"""A real browser for tests: Debian's chromium, driven by Playwright; what it complains of, and what axe-core finds."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
PICTURES = os.environ.get("RRQD_SCREENSHOTS")
"""A folder for pictures of every page, for people to look at."""


class Browser:
    """One window. `complaints`: errors that pages wrote to the console, and answers that were errors.

    `links`: where the pages that were shown lead to; `done`: names of the actions whose forms were sent."""

    def __init__(self, page: Any, base: str, axe: str) -> None:
        self.page = page
        self.base = base
        self._axe = axe
        self.complaints: list[str] = []
        self.links: set[str] = set()
        self.done: set[str] = set()
        page.on("console", lambda said: said.type == "error" and self.complaints.append(f"{page.url}: {said.text}"))
        page.on("pageerror", lambda fault: self.complaints.append(f"{page.url}: {fault}"))
        page.on("request", lambda one: one.method == "POST" and self.done.add(one.url.rpartition("/do/")[2]))

    def go(self, path: str) -> None:
        self.page.goto(f"{self.base}/{path}", wait_until="load")
        self.links |= set(self.page.evaluate("[...document.links].map((one) => one.href.split('#')[0])"))

    def view(self, path: str) -> Any:
        """What the API says."""
        return self.page.request.get(f"{self.base}/api/v1/{path}").json()

    def faults(self, *rules: str) -> list[str]:
        """What axe-core finds serious or critical on this page, by all its rules or by these."""
        self.page.evaluate(self._axe)
        options = {
            "resultTypes": ["violations"],
            "runOnly": rules or ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"],
        }
        found = self.page.evaluate("async (options) => (await axe.run(document, options)).violations", options)
        return [
            f"{self.page.url}: {one['id']}: {one['nodes'][0]['html'][:160]}"
            for one in found
            if one["impact"] in ("serious", "critical")
        ]

    def picture(self, name: str) -> None:
        if PICTURES:
            self.page.screenshot(path=str(Path(PICTURES) / f"{name}.png"), full_page=True)

    def press(self, button: str, within: str = "main", **filled: str) -> None:
        """Fill the fields of the form that has this button, and press it; the page that follows says what was done,
        and not why it was refused."""
        form = self.page.locator(f"{within} form", has=self.page.get_by_role("button", name=button, exact=True)).first
        for name, value in filled.items():
            form.locator(f"[name='{name}']").fill(value)
        form.get_by_role("button", name=button, exact=True).click()
        said = self.page.locator("p.said")
        said.wait_for()
        assert "bad" not in str(said.get_attribute("class")), f"{button}: {said.text_content()}"

    def open(self, summary: str) -> None:
        self.page.locator("summary", has_text=summary).first.click()


PROGRAM = next(filter(None, map(shutil.which, NAMES)), None)
MISSING = "no chromium here: apt-get install chromium" if PROGRAM is None else ""
if not (find_spec("playwright") and find_spec("axe_playwright_python")):
    MISSING = "no Playwright here: pip install -e '.[browser]'"


@contextmanager
def browsing(base: str) -> Iterator[Browser]:
    """A window on the site at `base`. Where there is no browser, `MISSING` says why."""
    api = import_module("playwright.sync_api")
    axe = import_module("axe_playwright_python.base")
    with api.sync_playwright() as playwright:
        window = playwright.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        try:
            page = window.new_context(viewport={"width": 1280, "height": 800}).new_page()
            page.set_default_timeout(30_000)
            yield Browser(page, base, axe.AXE_SCRIPT)
        finally:
            window.close()
