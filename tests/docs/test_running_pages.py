"""The blocks of the pages about single features run as they are written, against one daemon."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.daemon import ROOT, Daemon

PAGES = ("priorities.md", "dependencies.md", "pipelines.md")
JOBS = """
from rrqd.registry import Registry

registry = Registry()


@registry.handler()
async def report(request):
    return request.params


@registry.handler()
async def count(request):
    return len(request.params.get("region", ""))
"""


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", (ROOT / "docs" / page).read_text())


def handlers() -> str:
    """The handlers that the pages show, registered."""
    shown = [text for page in PAGES for text in blocks(page, "python") if "async def" in text]
    return "\n\n".join(shown).replace("async def", "@registry.handler()\nasync def")


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    pool = {"processes": 1, "queues": ["default", "slow", "cpu"]}
    with Daemon({"default": pool}, stand_ins=False, jobs=JOBS + handlers()) as daemon:
        daemon.expect_log("rrqd.ready")
        yield daemon


def run(daemon: Daemon, words: list[str]) -> str:
    done = subprocess.run(
        words, cwd=daemon.folder, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("page", PAGES)
def test_the_page_runs_as_written(daemon: Daemon, page: str) -> None:
    for text in blocks(page, "python"):
        if "async def" not in text:
            run(daemon, [sys.executable, "-c", text])
    for line in "".join(blocks(page, "console")).splitlines():
        program, *words = shlex.split(line.removeprefix("$ "))
        assert program == "rrqd"
        run(daemon, [sys.executable, "-m", "rrqd", *words])
