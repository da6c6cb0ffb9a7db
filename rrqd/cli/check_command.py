"""``rrqd check``: are there living workers? RRQ's command, with an exit code that means something."""

from __future__ import annotations

import json
from typing import Any

import click

from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import emit, table
from rrqd.cli.session import dsn_option, open_store, run


@click.command("check")
@dsn_option
@config_option
@json_option
@click.pass_obj
def check(invocation: Invocation, dsn: str | None, as_json: bool) -> int:
    """List the workers that say they live: rrqd's and real RRQ ones. Exit 1 when there is none.

    It reads RRQ's health records, which are up to a minute old; `rrqd status` asks for the present state.
    """
    reports = run(_check(invocation, dsn))

    def human() -> None:
        if not reports:
            click.echo("Worker Health Check: FAIL (No active workers found)")
            return
        click.echo(f"Worker Health Check: OK ({len(reports)} active)")
        headers = ("worker_id", "status", "active_jobs", "concurrency_limit", "timestamp")
        table(headers, [tuple(report.get(name) for name in headers) for report in reports])

    emit({"ok": bool(reports), "workers": reports}, as_json, human)
    return 0 if reports else 1


async def _check(invocation: Invocation, dsn: str | None) -> list[dict[str, Any]]:
    async with open_store(invocation, dsn) as store:
        return [report for text in await store.health_reports() if (report := _read(text))]


def _read(text: bytes) -> dict[str, Any] | None:
    """A worker's report; whatever else lies under such a key is none."""
    try:
        report = json.loads(text)
    except ValueError:
        return None
    return report if isinstance(report, dict) else None
