"""The page for those who come from reqless: its programs run as they are written, and it leaves no argument out."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from rrqd import reqless
from rrqd.cli.reqless_command import reqless_worker
from rrqd.config.pool_table import PoolSettings
from rrqd.config.settings import Settings
from rrqd.handlers import load_handlers
from rrqd.rq.connection import DSN_VARIABLE, connect
from rrqd.rq.running import DottedRegistry
from rrqd.standalone import Attendant
from rrqd.store import Store
from tests.support.daemon import ROOT

PAGE = (ROOT / "docs" / "migrating-from-reqless.md").read_text()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store, dsn: str) -> Iterator[Path]:
    """A folder with the page's files, and an empty server that its programs find."""
    for text in re.findall(r"(?ms)^```python\n(.*?)^```$", PAGE):
        head = re.match(r"# (\w+\.py)", text)
        assert head is not None, text
        (tmp_path / head[1]).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(DSN_VARIABLE, dsn)
    yield tmp_path
    connect().close()


def said(name: str) -> str:
    """What the page says that this command prints."""
    found = re.search(rf"(?ms)^\$ python {name}\n(.*?)^(?:```|\$ )", PAGE)
    assert found is not None
    return found[1]


def run(program: Path) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        runpy.run_path(str(program), run_name="__main__")["client"].close()
    return out.getvalue()


async def work(dsn: str) -> None:
    """A worker of the page's queues, until nothing is left; what its jobs print goes where a worker's output does."""
    settings = Settings.model_validate({"rrq": {"redis_dsn": dsn}})
    pool = PoolSettings(handlers="dotted:shopjobs.*", queues=["orders", "packing", "reports"], concurrency=1)
    handlers = load_handlers(pool.handlers)
    await Attendant(settings, pool, handlers).run(horizon_seconds=0.0)
    assert isinstance(handlers.registry, DottedRegistry)
    handlers.registry.place.close()


def test_the_programs_print_what_the_page_says(here: Path, dsn: str) -> None:
    assert run(here / "put.py") == said("put.py")
    asyncio.run(work(dsn))
    assert run(here / "look.py") == said("look.py")
    assert run(here / "by_hand.py") == said("by_hand.py")


def told(title: str) -> set[str]:
    part = PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"-{0,2}[\w-]+", " ".join(re.findall(r"`([^`]+)`", part))))


def test_every_argument_name_and_flag_is_on_the_page() -> None:
    flags = {name for one in reqless_worker.params if isinstance(one, click.Option) for name in one.opts}
    assert flags - {"--allow", "--timeout", "--http"} <= told("Flags of the worker")
    for call in (reqless.Queue.put, reqless.Queue.recur, reqless.Queue.peek):
        assert set(inspect.signature(call).parameters) - {"self"} <= told("Queue"), call
    for room, title in ((reqless.Queue, "Queue"), (reqless.Throttle, "The rest of the client")):
        public = {name for name in vars(room) if not name.startswith("_")}
        assert public <= told(title), room


def test_each_test_that_the_page_names_is_there() -> None:
    table = PAGE.partition("## What is held to, and by which test\n")[2]
    rows = [line for line in table.splitlines() if line.startswith("| ") and not line.endswith("| test |")]
    assert len(rows) > 60
    for row in rows:
        named = re.findall(r"`([\w/]+\.py)(?:::(test_\w+))?`", row.rpartition(" | ")[2])
        assert named, row
        for file, test in named:
            assert f"def {test or 'test_'}" in (ROOT / "tests" / file).read_text(), (file, test)
