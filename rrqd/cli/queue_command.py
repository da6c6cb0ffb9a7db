"""``rrqd queue``: how full they are, and what waits in one."""

from __future__ import annotations

from typing import Any

import click

from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import emit, table
from rrqd.cli.rows import job_row, show_jobs
from rrqd.cli.session import dsn_option, open_store, run
from rrqd.model.job import short_queue_name


@click.group("queue")
def queue() -> None:
    """Look at queues."""


@queue.command("list")
@dsn_option
@config_option
@json_option
@click.pass_obj
def list_queues(invocation: Invocation, dsn: str | None, as_json: bool) -> int:
    """All queues ever seen, and the configured ones."""
    rows = run(_list(invocation, dsn))
    headers = ("queue", "due", "scheduled", "oldest s")
    emit(rows, as_json, lambda: table(headers, [tuple(row.values()) for row in rows]))
    return 0


async def _list(invocation: Invocation, dsn: str | None) -> list[dict[str, Any]]:
    pools = invocation.load().settings.rrqd.pools.values()
    async with open_store(invocation, dsn) as store:
        names = {name for pool in pools for name in pool.queues} | set(await store.queues())
        return [
            {
                "queue": one.name,
                "due": one.due,
                "scheduled": one.waiting - one.due,
                "oldest_due_seconds": round(one.oldest_due_age_seconds, 1),
            }
            for one in await store.queue_depths(sorted(names))
        ]


@queue.command("inspect")
@click.argument("name")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--offset", type=click.IntRange(0), default=0, show_default=True)
@dsn_option
@config_option
@json_option
@click.pass_obj
def inspect(invocation: Invocation, name: str, limit: int, offset: int, dsn: str | None, as_json: bool) -> int:
    """The jobs that wait in a queue, soonest first."""
    rows = run(_inspect(invocation, dsn, short_queue_name(name), offset, limit))
    emit(rows, as_json, lambda: show_jobs(rows))
    return 0


async def _inspect(invocation: Invocation, dsn: str | None, name: str, offset: int, limit: int) -> list[dict[str, Any]]:
    async with open_store(invocation, dsn) as store:
        ids = await store.queue_page(name, offset, limit)
        return [job_row(job_id, job) for job_id, job in zip(ids, await store.jobs(ids), strict=True)]
