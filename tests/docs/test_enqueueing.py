"""docs/enqueueing.md: every option stands in the table, and the example is true."""

from __future__ import annotations

import re
import textwrap

from rrqd.client import RRQClient
from rrqd.model.request import OPTIONS
from rrqd.store import Store
from tests.support.daemon import ROOT

PAGE = (ROOT / "docs" / "enqueueing.md").read_text()


def test_the_table_has_every_option() -> None:
    table = PAGE.partition("## Options\n")[2]
    told = [name for row in re.findall(r"(?m)^\| (`.*?) \|", table) for name in re.findall(r"`(\w+)`", row)]

    assert sorted(told) == sorted(OPTIONS)


async def test_the_example_is_true(store: Store, dsn: str) -> None:
    (example,) = re.findall(r"(?ms)^```python\n(.*?)^```$", PAGE)
    scope: dict[str, object] = {}
    exec(f"async def example(client):\n{textwrap.indent(example, '    ')}", scope)

    async with RRQClient(config={"redis_dsn": dsn}) as client:
        await scope["example"](client)  # type: ignore[operator]
