"""``rrqd queue``: how full they are, what waits in one, and whether it may be taken from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import complain, emit, printable
from rrqd.cli.queue_stats import stats
from rrqd.cli.queues_known import known_queues, must_know
from rrqd.cli.rows import limit_option, offset_option, show_changed, show_jobs, show_queues
from rrqd.cli.session import dsn_option, open_store, run
from rrqd.cli.watching import watch_option
from rrqd.model.job import short_queue_name
from rrqd.store.shown import job_row, queue_row


@click.group("queue")
def queue() -> None:
    """Look at queues, pause them."""


queue.add_command(stats)


@queue.command("list")
@click.option("--show-empty/--hide-empty", default=True, help="Queues without jobs, too (the default), or not.")
@dsn_option
@config_option
@json_option
@watch_option
@click.pass_obj
def list_queues(invocation: Invocation, show_empty: bool, dsn: str | None, as_json: bool) -> int:
    """List all queues ever seen, and the configured ones.

    Due jobs can start now, scheduled ones have a later time; "oldest s" is how long the oldest due job has waited.
    """
    rows = [
        row for row in run(_list(invocation, dsn)) if show_empty or row["due"] or row["scheduled"] or row["dependent"]
    ]
    emit(rows, as_json, lambda: show_queues(rows))
    return 0


async def _list(invocation: Invocation, dsn: str | None) -> list[dict[str, Any]]:
    async with open_store(invocation, dsn) as store:
        return [queue_row(one) for one in await store.queue_depths(await known_queues(invocation, store))]


@queue.command("inspect")
@click.argument("name")
@limit_option
@offset_option
@dsn_option
@config_option
@json_option
@click.pass_obj
def inspect(invocation: Invocation, name: str, limit: int, offset: int, dsn: str | None, as_json: bool) -> int:
    """List the jobs that wait in a queue, soonest first. Exit 1 when there is no such queue."""
    rows = run(_inspect(invocation, dsn, short_queue_name(name), offset, limit))
    emit(rows, as_json, lambda: show_jobs(rows, f"no jobs wait in queue {printable(name)}"))
    if len(rows) == limit and not as_json:
        complain(f"{limit} from number {offset + 1}; --offset and --limit show others")
    return 0


async def _inspect(invocation: Invocation, dsn: str | None, name: str, offset: int, limit: int) -> list[dict[str, Any]]:
    async with open_store(invocation, dsn) as store:
        ids = await store.queue_page(name, offset, limit)
        if not ids:
            await must_know(invocation, store, [name])
        return [job_row(job_id, job) for job_id, job in zip(ids, await store.jobs(ids), strict=True)]


force_option = click.option("--force", is_flag=True, help="Also a queue that nobody has seen or configured yet.")


@queue.command("pause")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@force_option
@dsn_option
@config_option
@json_option
@click.pass_obj
def pause(invocation: Invocation, names: tuple[str, ...], force: bool, dsn: str | None, as_json: bool) -> int:
    """Let no rrqd worker of any machine take jobs from these queues, from now on. What runs goes on.

    Jobs can be enqueued all the same. Real RRQ workers know of no pauses and go on claiming.
    """
    return show_changed(run(_set(invocation, dsn, names, True, force)), "paused", "was paused already", as_json)


@queue.command("resume")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@force_option
@dsn_option
@config_option
@json_option
@click.pass_obj
def resume(invocation: Invocation, names: tuple[str, ...], force: bool, dsn: str | None, as_json: bool) -> int:
    """Let jobs be taken from these queues again."""
    return show_changed(run(_set(invocation, dsn, names, False, force)), "resumed", "was not paused", as_json)


async def _set(
    invocation: Invocation, dsn: str | None, names: Sequence[str], pausing: bool, force: bool
) -> dict[str, bool]:
    wanted = list(dict.fromkeys(map(short_queue_name, names)))
    async with open_store(invocation, dsn) as store:
        if not force:
            await must_know(invocation, store, wanted)
        changed = await (store.pause_queues(wanted) if pausing else store.resume_queues(wanted))
        return {name: name in changed for name in wanted}
