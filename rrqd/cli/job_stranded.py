"""``rrqd job stranded``: jobs that say they run while nobody runs them."""

from __future__ import annotations

from typing import Any

import click

from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import complain, emit
from rrqd.cli.rows import show_jobs
from rrqd.cli.session import dsn_option, open_store, run
from rrqd.store.shown import job_row


@click.command("stranded")
@click.option("--revive", is_flag=True, help="Put them back into their queues.")
@click.option("--limit", metavar="N", type=click.IntRange(1), help="At most this many. Left out: all.")
@dsn_option
@config_option
@json_option
@click.pass_obj
def stranded(invocation: Invocation, revive: bool, limit: int | None, dsn: str | None, as_json: bool) -> int:
    """List jobs that are ACTIVE and that nobody runs; looks at every key of the server.

    RRQ's first API (0.3 to 0.7) leaves such jobs when a worker is killed, and nothing of RRQ's ever finds them. Those
    of dead workers of later versions go back by themselves while an rrqd runs.
    """
    rows, revived = run(_stranded(invocation, dsn, limit, revive))
    data = {"jobs": rows, "revived": revived}
    emit(data, as_json, lambda: show_jobs(rows, "no stranded jobs"))
    if revive and not as_json and rows:
        complain(f"{len(revived)} put back; they start in two seconds")
    elif rows and not as_json:
        complain("--revive puts them back into their queues")
    return 0


async def _stranded(
    invocation: Invocation, dsn: str | None, limit: int | None, revive: bool
) -> tuple[list[dict[str, Any]], list[str]]:
    rows: list[dict[str, Any]] = []
    revived: list[str] = []
    async with open_store(invocation, dsn) as store:
        async for page in store.stranded():
            part = page[: limit - len(rows)] if limit is not None else page
            rows += [job_row(job.id, job) for job in part]
            if revive:
                adopted = await store.adopt_stranded([job.id for job in part])
                revived += adopted.queued
            if len(rows) == limit:
                break
    return rows, revived
