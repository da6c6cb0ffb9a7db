"""``rrqd dlq``: look at buried jobs, and bring them back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import click

from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import complain, emit
from rrqd.cli.rows import job_row, limit_option, offset_option, show_jobs
from rrqd.cli.session import dsn_option, open_store, run
from rrqd.model.job import Job, short_queue_name
from rrqd.store.jobs import MOVE_BATCH

dlq_option = click.option("--dlq-name", metavar="NAME", help="Left out: the default dead-letter queue.")


@click.group("dlq")
def dlq() -> None:
    """Look at buried jobs and revive them."""


@dlq.command("list")
@dlq_option
@limit_option
@offset_option
@dsn_option
@config_option
@json_option
@click.pass_obj
def list_buried(
    invocation: Invocation, dlq_name: str | None, limit: int, offset: int, dsn: str | None, as_json: bool
) -> int:
    """List buried jobs, newest first."""
    rows, total = run(_list(invocation, dsn, dlq_name, offset, limit))
    emit({"total": total, "jobs": rows}, as_json, lambda: show_jobs(rows, "no buried jobs"))
    if not as_json and 0 < len(rows) < total:
        complain(f"{len(rows)} of {total}; --offset and --limit show others")
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
@click.option("--all", "everything", is_flag=True, help="Every buried job. Needed when there is no filter.")
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
    """Bring buried jobs back as if new.

    Attempts, stalls and the error are reset. Several filters must all hold. Exit 1 if a job named by --job-id is not
    there.
    """
    if not (everything or job_ids or function or queue or error):
        raise click.UsageError("say which: --job-id, --function, --queue, --error, or --all for every one")

    def wanted(job: Job) -> bool:
        return (
            (not job_ids or job.id in job_ids)
            and (function is None or job.function == function)
            and (queue is None or job.queue == short_queue_name(queue))
            and (error is None or error in (job.last_error or ""))
        )

    target = short_queue_name(target_queue) if target_queue else None
    found = run(_requeue(invocation, dsn, dlq_name, wanted, set(job_ids), limit, target, dry_run))
    data = {
        "matched": len(found.matched),
        "requeued": len(found.moved),
        "dry_run": dry_run,
        "job_ids": found.matched if dry_run else found.moved,
    }
    emit(data, as_json, lambda: click.echo(_words(data, target)))
    missing = sorted(set(job_ids) - found.seen)
    if missing:
        complain(f"not in the dead-letter queue: {', '.join(missing)}")
    return 1 if missing else 0


def _words(data: dict[str, Any], target: str | None) -> str:
    number = data["matched"] if data["dry_run"] else data["requeued"]
    one = number == 1
    where = f"queue {target}" if target else "its own queue" if one else "their own queues"
    return f"{'would requeue' if data['dry_run'] else 'requeued'} {number} job{'' if one else 's'} to {where}"


@dataclass(slots=True)
class Found:
    """What a walk through the dead-letter queue came to."""

    seen: set[str] = field(default_factory=set)
    matched: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)


async def _requeue(
    invocation: Invocation,
    dsn: str | None,
    name: str | None,
    wanted: Callable[[Job], bool],
    named: set[str],
    limit: int | None,
    target: str | None,
    dry_run: bool,
) -> Found:
    found = Found()
    async with open_store(invocation, dsn) as store:
        async for entry in store.dlq_from_oldest(name):
            if isinstance(entry, Job):
                found.seen.add(entry.id)
                if wanted(entry) and len(found.matched) != limit:
                    found.matched.append(entry.id)
                if len(found.matched) == limit and named <= found.seen:
                    break
        if not dry_run:
            for at in range(0, len(found.matched), MOVE_BATCH):
                found.moved += await store.revive(found.matched[at : at + MOVE_BATCH], dlq=name, queue=target)
    return found
