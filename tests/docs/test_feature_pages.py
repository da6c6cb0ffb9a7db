"""The examples of the pages on single features run as they are written; only the server's address is put in."""

from __future__ import annotations

import re

import pytest

from tests.support.daemon import ROOT

SERVER = "redis://localhost:6379/0"
PAGES = ("tags", "stats", "throttles", "recurring", "moving", "stored-config", "tenants")


def examples(page: str) -> list[str]:
    """The blocks of Python on a page."""
    return re.findall(r"(?ms)^```python\n(.*?)^```$", (ROOT / "docs" / f"{page}.md").read_text())


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_run_one_after_the_other(page: str, dsn: str) -> None:
    names: dict[str, object] = {"__name__": f"docs.{page}"}
    blocks = examples(page)
    assert blocks
    for block in blocks:
        assert SERVER in block or names.keys() > {"__name__"}
        exec(compile(block.replace(SERVER, dsn), f"docs/{page}.md", "exec"), names)


def test_every_event_of_a_tracked_job_is_in_the_table() -> None:
    """What scripts tell literally, and what a settlement answers."""
    page = (ROOT / "docs" / "tags.md").read_text().partition("| event |")[2].partition("\n\n")[0]
    told = {word for row in re.findall(r"(?m)^\| (`.*?) \|", page) for word in re.findall(r"`([\w-]+)`", row)}
    there = set()
    for file in (ROOT / "rrqd" / "store" / "lua").glob("*.lua"):
        text = file.read_text()
        for line in re.findall(r"\btell\((.*)$", text, re.MULTILINE):
            there |= set(re.findall(r"'([\w-]+)'", line.partition("{")[0]))
        if file.name == "settle.lua":
            there |= set(re.findall(r"return '(\w+)'", text))
            there |= set(re.findall(r"'(retrying|snoozed|diverted)'", text))
    assert told == there
