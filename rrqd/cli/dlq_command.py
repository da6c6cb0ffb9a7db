"""``rrqd dlq``: look at buried jobs, and bring them back."""

from __future__ import annotations

from typing import Any

import click

from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import complain, emit
from rrqd.cli.rows import job_row, show_jobs
from rrqd.cli.session import dsn_option, open_store, run
from rrqd.model.job import Job, short_queue_name
from rrqd.store.jobs import MOVE_BATCH

dlq_option = click.option("--dlq-name", metavar="NAME", help="Left out: the default dead-letter queue.")


@click.group("dlq")
def dlq() -> None:
    """Look at buried jobs and revive them."""


@dlq.command("list")
@dlq_option
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True)
@click.option("--offset", type=click.IntRange(0), default=0, show_default=True)
@dsn_option
@config_option
@json_option
@click.pass_obj
def list_buried(
    invocation: Invocation, dlq_name: str | None, limit: int, offset: int, dsn: str | None, as_json: bool
) -> int:
    """Buried jobs, newest first."""
    rows, total = run(_list(invocation, dsn, dlq_name, offset, limit))
    emit({"total": total, "jobs": rows}, as_json, lambda: show_jobs(rows))
    if not as_json:
        click.echo(f"{len(rows)} of {total}")
    return 0


async def _list(
    invocation: Invocation, dsn: str | None, name: str | None, offset: int, limit: int
) -> tuple[list[dict[str, Any]], int]:
    async with open_store(invocation, dsn) as store:
        ids = await store.dlq_list(name, offset=offset, limit=limit)
        rows = [job_row(job_id, job) for job_id, job in zip(ids, await store.jobs(ids), strict=True)]
        return rows, await store.dlq_size(name)


@dlq.command("requeue")
@dlq_option
@click.option("--all", "everything", is_flag=True, help="All that match; needed when there is no filter.")
@click.option("--job-id", "job_ids", multiple=True, metavar="ID", help="This job; may be given many times.")
@click.option("--function", metavar="NAME", help="Jobs of this function.")
@click.option("--queue", metavar="NAME", help="Jobs that came from this queue.")
@click.option("--error", metavar="TEXT", help="Jobs whose last error contains this.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most this many, oldest first.")
@click.option("--target-queue", metavar="NAME", help="Left out: each job's own queue.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@dsn_option
@config_option
@json_option
@click.pass_obj
def requeue(
    invocation: Invocation,
    dlq_name: str | None,
    everything: bool,
    job_ids: tuple[str, ...],
    function: str | None,
    queue: str | None,
    error: str | None,
    limit: int | None,
    target_queue: str | None,
    dry_run: bool,
    dsn: str | None,
    as_json: bool,
) -> int:
    """Bring buried jobs back as if new: attempts, stalls and error are reset."""
    if not (everything or job_ids or function or queue or error):
        raise click.UsageError("refusing to requeue everything without --all or a filter")

    def wanted(job: Job) -> bool:
        return (
            (not job_ids or job.id in job_ids)
            and (function is None or job.function == function)
            and (queue is None or job.queue == short_queue_name(queue))
            and (error is None or error in (job.last_error or ""))
        )

    target = short_queue_name(target_queue) if target_queue else None
    chosen = run(_requeue(invocation, dsn, dlq_name, wanted, limit, target, dry_run))
    data = {"requeued": 0 if dry_run else len(chosen), "matched": len(chosen), "dry_run": dry_run, "job_ids": chosen}
    words = f"{'Would requeue' if dry_run else 'Requeued'} {len(chosen)} job(s)"
    emit(data, as_json, lambda: click.echo(f"{words} to {target or 'their own queues'}"))
    missing = sorted(set(job_ids) - set(chosen))
    if missing:
        complain(f"not in the dead-letter queue: {', '.join(missing)}")
    return 1 if missing else 0


async def _requeue(
    invocation: Invocation,
    dsn: str | None,
    name: str | None,
    wanted: Any,
    limit: int | None,
    target: str | None,
    dry_run: bool,
) -> list[str]:
    chosen: list[str] = []
    async with open_store(invocation, dsn) as store:
        async for entry in store.dlq_from_oldest(name):
            if isinstance(entry, Job) and wanted(entry):
                chosen.append(entry.id)
                if len(chosen) == limit:
                    break
        if dry_run:
            return chosen
        moved: list[str] = []
        for at in range(0, len(chosen), MOVE_BATCH):
            moved += await store.revive(chosen[at : at + MOVE_BATCH], dlq=name, queue=target)
        return moved
