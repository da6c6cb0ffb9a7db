"""``rrqd dlq groups`` and ``unfail``: failures that handlers put into groups."""

from __future__ import annotations

import click

from rrqd.cli.dlq_choice import delay_option, home_option
from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import complain, counted, emit, printable, table
from rrqd.cli.rows import limit_option
from rrqd.cli.session import dsn_option, open_store, run
from rrqd.model.job import short_queue_name
from rrqd.store.choosing import unfail as bring_back


@click.command("groups")
@dsn_option
@config_option
@json_option
@click.pass_obj
def groups(invocation: Invocation, dsn: str | None, as_json: bool) -> int:
    """Count buried jobs by the group in which their handlers let them fail, largest first."""

    async def ask() -> dict[str, int]:
        async with open_store(invocation, dsn) as store:
            return await store.groups()

    counts = run(ask())
    rows = [{"group": group, "jobs": jobs} for group, jobs in counts.items()]
    emit(rows, as_json, lambda: table(("group", "jobs"), list(counts.items())) if rows else complain("no groups"))
    return 0


@click.command("unfail")
@click.argument("group")
@home_option
@delay_option
@limit_option
@dsn_option
@config_option
@json_option
@click.pass_obj
def unfail(
    invocation: Invocation, group: str, queue: str | None, delay: float, limit: int, dsn: str | None, as_json: bool
) -> int:
    """Bring the oldest buried jobs of a group back as if new. Exit 1 when there are none."""
    home = short_queue_name(queue) if queue is not None else None

    async def ask() -> tuple[list[str], int]:
        async with open_store(invocation, dsn) as store:
            moved = await bring_back(store, group, home, limit, round(delay * 1000))
            return moved, (await store.failed_in(group, limit=1)).total

    moved, left = run(ask())
    where = f"to queue {printable(home)}" if home is not None else "to their own queues"
    emit({"group": group, "requeued": len(moved), "left": left, "job_ids": moved}, as_json,
         lambda: click.echo(f"requeued {counted(len(moved), 'job')} {where}; {left} left"))  # fmt: skip
    return 0 if moved else 1
