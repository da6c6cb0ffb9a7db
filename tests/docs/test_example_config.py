"""The example file and the page on configuration say what the settings say: every key, once, with its default."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from rrqd.config.loader import Loaded, embedded_wanted, parse
from rrqd.config.rrq_table import CronJobSettings, RRQSettings, RunnerSettings, WatchSettings
from rrqd.config.settings import DaemonSettings, PoolSettings
from rrqd.config.web_table import WebSettings
from rrqd.supervisor.probe import probe_molds

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config" / "rrq.example.toml"
PAGE = ROOT / "docs" / "configuration.md"

# The tables of the file, and the keys of each that are tables themselves.
TABLES: dict[str, tuple[type[BaseModel], set[str]]] = {
    "rrq": (RRQSettings, {"runners", "runner_routes", "cron_jobs", "watch", "correlation_mappings"}),
    "rrq.runners.node": (RunnerSettings, set()),
    "rrq.cron_jobs": (CronJobSettings, set()),
    "rrq.watch": (WatchSettings, set()),
    "rrqd": (DaemonSettings, {"pools", "web"}),
    "rrqd.web": (WebSettings, set()),
    "rrqd.pools.default": (PoolSettings, set()),
}
# What an example must give a value to though the settings have no default, or have another one.
NEEDED = {
    "rrq.runners.node": {"cmd", "tcp_port"},
    "rrqd.pools.default": {"handlers"},
    # what to believe a proxy for has no default that would show how it is written
    "rrqd.web": {"proxies"},
}


def uncommented() -> str:
    """The example with every `#key = value` and `#[table]` switched on; prose has a space after its #."""
    return re.sub(r"(?m)^#(?=[a-z\[])", "", EXAMPLE.read_text())


def keys_by_table(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    table = ""
    for line in text.splitlines():
        if header := re.match(r"\[+([\w.]+)\]+", line):
            table = header[1]
            assert table not in found, f"[{table}] stands there twice"
            found[table] = []
        elif key := re.match(r"(\w+) = ", line):
            found[table].append(key[1])
    return found


def at(loaded: Loaded, table: str) -> Any:
    found: Any = loaded.settings
    for name in table.split("."):
        found = found[name] if isinstance(found, dict) else getattr(found, name)
    return found[0] if isinstance(found, list) else found


def test_the_example_is_a_complete_configuration_as_it_is() -> None:
    loaded = parse(EXAMPLE.read_text(), EXAMPLE, {})
    assert embedded_wanted(loaded)
    (report,) = probe_molds(loaded)
    assert (report.problems, report.handlers) == ((), ("hello", "add", "slow", "flaky"))


@pytest.mark.parametrize("table", TABLES)
def test_every_key_is_mentioned_once(table: str) -> None:
    model, tables_inside = TABLES[table]
    mentioned = keys_by_table(uncommented())[table]
    assert sorted(mentioned) == sorted(set(model.model_fields) - tables_inside)


def test_every_key_that_is_a_table_has_its_header() -> None:
    headers = {".".join(name.split(".")[:2]) for name in keys_by_table(uncommented())}
    assert headers == {
        "rrq", "rrq.runners", "rrq.runner_routes", "rrq.correlation_mappings", "rrq.cron_jobs", "rrq.watch",
        "rrqd", "rrqd.web", "rrqd.pools",
    }  # fmt: skip


@pytest.mark.parametrize("table", TABLES)
def test_the_values_shown_are_the_defaults(table: str) -> None:
    model, tables_inside = TABLES[table]
    one_of_two = uncommented().replace('\nrunner = "node"\n', "\n")  # handlers stand there, too
    shown = at(parse(one_of_two, EXAMPLE, {}), table)
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if name in tables_inside or name in NEEDED.get(table, ()) or field.is_required() or default is None:
            continue
        value = getattr(shown, name)
        if name == "queues":  # beside a runner, handlers also take what names them there
            value = [queue for queue in value if queue != "python#"]
        assert value == default, f"{table}.{name}"


def rows(model: type[BaseModel], tables_inside: set[str]) -> Iterator[str]:
    """The lines of the page's table for one model."""
    for name, field in model.model_fields.items():
        if name in tables_inside:
            continue
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        text = "needed" if field.is_required() else "" if default is None else f"`{json.dumps(default)}`"
        description = (field.description or "").replace("|", "\\|").replace("<", "&lt;")
        yield f"| `{name}` | {text} | {description} |"


@pytest.mark.parametrize("table", TABLES)
def test_the_page_lists_every_key_with_default_and_meaning(table: str) -> None:
    page = PAGE.read_text().splitlines()
    expected = list(rows(*TABLES[table]))
    start = page.index(expected[0]) if expected[0] in page else 0
    assert page[start : start + len(expected)] == expected
