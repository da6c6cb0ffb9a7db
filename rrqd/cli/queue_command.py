"""``rrqd queue``: how full they are, and what waits in one."""

from __future__ import annotations

from typing import Any

import click

from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import complain, emit, table
from rrqd.cli.rows import QUEUE_HEADERS, job_row, limit_option, offset_option, queue_row, show_jobs
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
    """List all queues ever seen, and the configured ones.

    Due jobs can start now, scheduled ones have a later time; "oldest s" is how long the oldest due job has waited.
    """
    rows = run(_list(invocation, dsn))
    emit(rows, as_json, lambda: table(QUEUE_HEADERS, [tuple(row.values()) for row in rows]))
    return 0


async def _list(invocation: Invocation, dsn: str | None) -> list[dict[str, Any]]:
    pools = invocation.load().settings.rrqd.pools.values()
    async with open_store(invocation, dsn) as store:
        names = {name for pool in pools for name in pool.queues} | set(await store.queues())
        return [queue_row(one) for one in await store.queue_depths(sorted(names))]


@queue.command("inspect")
@click.argument("name")
@limit_option
@offset_option
@dsn_option
@config_option
@json_option
@click.pass_obj
def inspect(invocation: Invocation, name: str, limit: int, offset: int, dsn: str | None, as_json: bool) -> int:
    """List the jobs that wait in a queue, soonest first."""
    rows = run(_inspect(invocation, dsn, short_queue_name(name), offset, limit))
    emit(rows, as_json, lambda: show_jobs(rows, f"no jobs wait in queue {name}"))
    if len(rows) == limit and not as_json:
        complain(f"{limit} from number {offset + 1}; --offset and --limit show others")
    return 0


async def _inspect(invocation: Invocation, dsn: str | None, name: str, offset: int, limit: int) -> list[dict[str, Any]]:
    async with open_store(invocation, dsn) as store:
        ids = await store.queue_page(name, offset, limit)
        return [job_row(job_id, job) for job_id, job in zip(ids, await store.jobs(ids), strict=True)]
