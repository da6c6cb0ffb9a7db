"""The pages say what is there: every command and option, every metric with its labels, and no link leads nowhere."""

from __future__ import annotations

import http.client
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from rrqd.cli import enqueue_command, main
from rrqd.client import SyncRRQClient
from rrqd.config.rrq_table import RRQSettings
from rrqd.config.settings import DaemonSettings
from rrqd.flight_records import Counter
from rrqd.model.policy import RunPolicy
from rrqd.model.steps import Step
from rrqd.model.verdict import AskedRetry, Diverted, Failed, Outcome, Snoozed, Succeeded, TimedOut, WasCancelled, judge
from rrqd.supervisor.children import Cause, Kind, Phase
from rrqd.testing import Engine
from tests.support.app import TOLD
from tests.support.daemon import ROOT, Daemon
from tests.support.wait import until

CLI = ROOT / "docs" / "cli.md"
OPERATING = ROOT / "docs" / "operating.md"
OTEL = ROOT / "rrqd" / "integrations" / "otel.py"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
SHARED = {"--config", "--settings", "--json", "--dsn", "--help"}
ASK_THE_DAEMON = {"reload", "upgrade", "scale", "pause", "resume", "restart", "dump", "crashes", "stop"}


def rows(page: Path, start: str = "| `") -> list[list[str]]:
    """The cells of a page's table rows that begin like this."""
    lines = [line for line in page.read_text().splitlines() if line.startswith(start)]
    return [[cell.strip() for cell in line.strip("|").replace("\\|", "¦").split("|")] for line in lines]


def codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


# -- the command line --------------------------------------------------------------------------------------


def commands(command: click.Command, path: str = "rrqd") -> Iterator[tuple[str, click.Command]]:
    """The root and every command that does something."""
    if not isinstance(command, click.Group) or path == "rrqd":
        yield path, command
    if isinstance(command, click.Group):
        with click.Context(command) as context:
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                yield from commands(inner, f"{path} {name}")


def options(command: click.Command) -> set[str]:
    return {
        name
        for one in command.get_params(click.Context(command))
        for name in one.opts
        if isinstance(one, click.Option) and name.startswith("--")
    }


def sections() -> dict[str, str]:
    """Command path to its part of the page; arguments in the heading are left out."""
    parts = re.split(r"(?m)^## `(rrqd[^`]*)`$", CLI.read_text())
    texts = [re.split(r"(?m)^## ", text)[0] for text in parts[2::2]]
    return {re.sub(r" [A-Z\[].*", "", head): text for head, text in zip(parts[1::2], texts, strict=True)}


def test_every_command_has_its_part_of_the_page_and_no_other_is_told() -> None:
    assert sorted(sections()) == sorted(path for path, _ in commands(main.cli))


def test_every_option_is_in_the_part_of_its_command_and_no_other_is_told() -> None:
    told = {path: set(re.findall(r"(?m)^\| `(--[\w-]+)", text)) for path, text in sections().items()}
    there = {path: options(command) - SHARED for path, command in commands(main.cli)}
    there["rrqd"] -= {"--version"}  # told at the top, with the shared ones
    there["rrqd runner"] |= {"--settings"}  # RRQ's, of another meaning than the shared one
    assert told == there


def test_the_shared_options_are_where_the_page_says() -> None:
    all_options = {path: options(command) for path, command in commands(main.cli) if path != "rrqd"}

    def without(option: str) -> set[str]:
        return {path.removeprefix("rrqd ") for path, found in all_options.items() if option not in found}

    assert without("--json") == {"worker run", "worker watch", "reqless-worker", "runner", "top"}
    assert without("--help") == set()
    assert without("--config") == {"init", "config schema", "reqless-worker"}
    no_server = {
        "reqless-worker",
        "init",
        "config check",
        "config show",
        "config schema",
        "debug console",
        "runner",
        "cron next",
        "top",
    }
    assert without("--dsn") == {*no_server, *ASK_THE_DAEMON}
    assert {"--config", "--version"} <= options(main.cli)


def test_the_commands_that_ask_the_daemon_are_named_together() -> None:
    line = next(line for line in CLI.read_text().splitlines() if line.startswith("`reload`, "))
    assert set(codes(line)) == ASK_THE_DAEMON


def test_every_option_and_command_has_a_help_text() -> None:
    for path, command in commands(main.cli):
        assert command.help, path
        for one in command.params:
            assert not isinstance(one, click.Option) or one.help, f"{path} {one.opts}"


def test_the_exit_codes_are_the_programs() -> None:
    told = {int(cells[0]) for cells in rows(CLI, "| ") if cells[0].isdecimal()}
    codes_of_main = {value for name, value in vars(main).items() if name.startswith("EX_")}
    assert told == {0, 2, 70, enqueue_command.EX_TEMPFAIL, *codes_of_main}


# -- metrics -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scrape() -> dict[str, Metric]:
    """The metrics of a daemon in which everything has been counted once, by the name of their samples."""
    rrq = {"cron_jobs": [{"function_name": "told", "schedule": "@yearly"}]}
    with Daemon(http=True, pools={"default": {"processes": 1}}, stand_ins=False, jobs=TOLD, rrq=rrq) as daemon:
        daemon.expect_log("rrqd.ready")
        with SyncRRQClient(config={"redis_dsn": f"redis://127.0.0.1:{daemon.port}/0"}) as client:
            assert client.wait_for_completion(client.enqueue("told"), timeout_seconds=10) is not None
        mark = daemon.mark()
        os.kill(daemon.workers()["worker default/0 g1"], signal.SIGKILL)
        daemon.expect_log("worker.ready", since=mark)
        until(lambda: all(one.samples for one in _scrape(daemon).values()), 20, "every metric to have a sample")
        found = _scrape(daemon)
        assert daemon.stop() == 0
    return found


def _scrape(daemon: Daemon) -> dict[str, Metric]:
    connection = http.client.HTTPConnection(daemon.rrqd["http"], timeout=10)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return {one.name + ("_total" if one.type == "counter" else ""): one for one in text_string_to_metric_families(text)}


def metric_rows() -> dict[str, list[str]]:
    return {codes(cells[0])[0]: cells for cells in rows(OPERATING, "| `rrqd_")}


def test_every_metric_is_on_the_page_and_the_other_way_round(scrape: dict[str, Metric]) -> None:
    assert sorted(metric_rows()) == sorted(scrape)


def test_every_metric_has_the_kind_and_the_labels_of_the_page(scrape: dict[str, Metric]) -> None:
    told = {name: (cells[1], set(codes(cells[2]))) for name, cells in metric_rows().items()}
    there = {name: (one.type, set(one.samples[0].labels) - {"le"}) for name, one in scrape.items()}
    assert told == there


def test_every_worker_counter_is_a_metric(scrape: dict[str, Metric]) -> None:
    assert {f"rrqd_worker_{counter.label}_total" for counter in Counter} <= set(scrape)


def test_alerts_speak_of_metrics_that_exist(scrape: dict[str, Metric]) -> None:
    alerts = OPERATING.read_text().partition("```yaml")[2].partition("```")[0]
    names = set(re.findall(r"\brrqd_\w+", alerts))
    assert names
    assert names <= set(scrape)


def label_values(label: str) -> set[str]:
    return set(codes(next(cells for cells in rows(OPERATING, f"| `{label}` | `"))[1]))


def test_the_words_in_labels_are_on_the_page() -> None:
    policy = RunPolicy(
        max_retries=1, retry_delay_seconds=1, max_retry_delay_seconds=1, retry_jitter=0, on_timeout="retry",
        result_ttl_seconds=1, dlq_retention_seconds=1, cancelled_retention_seconds=1,
    )  # fmt: skip
    outcomes: list[Outcome] = [
        Succeeded(b"1"), Succeeded(b"1", Step()), Snoozed("", 1.0), WasCancelled(""), TimedOut(""),
        AskedRetry("", None), Diverted("q"), Failed(message=""), Failed(message="", fatal=True),
    ]  # fmt: skip
    labels = {judge(outcome, policy, 1, 0.5).label for outcome in outcomes}
    assert label_values("outcome") == labels | {"invalid"}
    assert label_values("reason") == {cause.value for cause in Cause}
    assert label_values("role") == {kind.value for kind in Kind}
    assert label_values("phase") == {phase.value for phase in Phase}


# -- links -------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The anchors that headings get where the pages are shown."""
    heads = re.findall(r"(?m)^#+ (.+)$", page.read_text())
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), f"{page.name}: {target}"
        assert there.is_relative_to(ROOT), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(there), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_and_settings_named_on_a_page_exist(page: Path) -> None:
    text = page.read_text()
    for name in re.findall(r"`((?:config|docs|systemd|tests|rrqd)/[\w./-]+\.\w+)`", text):
        assert (ROOT / name).exists(), f"{page.name}: {name}"
    for table, model in (("rrq", RRQSettings), ("rrqd", DaemonSettings)):
        for key in re.findall(rf"`{table}\.([a-z_]+)", text):
            other = key in ("toml", "schema", "ready") or list((ROOT / "rrqd").glob(f"{key}*"))
            fixture = table == "rrqd" and hasattr(Engine, key)  # in tests of applications `rrqd` is a fixture
            span = f'"{table}.{key}"' in OTEL.read_text()
            assert other or fixture or span or key in model.model_fields, f"{page.name}: {table}.{key}"
