"""``rrqd dlq``: look at buried jobs, bring them back, or remove them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from rrqd.cli import group_commands
from rrqd.cli.dlq_choice import Choice, Found, choice_options, choose, dlq_option
from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import complain, counted, emit, fields, json_text, printable, table
from rrqd.cli.rows import limit_option, offset_option, shorten, show_job, show_jobs
from rrqd.cli.session import dsn_option, open_store, run
from rrqd.cli.watching import watch_option
from rrqd.exc import RRQError
from rrqd.model.job import Job, short_queue_name
from rrqd.store.jobs import MOVE_BATCH
from rrqd.store.shown import job_row

TOP = 10
TOP_ERRORS = 5


class NotBuried(RRQError):
    """The job is not in that dead-letter queue."""


@click.group("dlq")
def dlq() -> None:
    """Look at buried jobs, revive or remove them."""


# -- looking -----------------------------------------------------------------------------------------------


for command in (group_commands.groups, group_commands.unfail):
    dlq.add_command(command)


@dlq.command("list")
@dlq_option
@click.option("--function", metavar="NAME", help="Jobs of this function.")
@click.option("--queue", metavar="NAME", help="Jobs that came from this queue.")
@click.option("--error", metavar="TEXT", help="Jobs whose last error contains this.")
@limit_option
@offset_option
@click.option("--raw", is_flag=True, help="The fields of their hashes as they are stored, as JSON.")
@click.option(
    "--batch-size", metavar="N", type=click.IntRange(1, 10_000), default=100, show_default=True,
    help="Ask the server for so many at a time.",
)  # fmt: skip
@dsn_option
@config_option
@json_option
@watch_option
@click.pass_obj
def list_buried(
    invocation: Invocation,
    dlq_name: str | None,
    function: str | None,
    queue: str | None,
    error: str | None,
    limit: int,
    offset: int,
    raw: bool,
    batch_size: int,
    dsn: str | None,
    as_json: bool,
) -> int:
    """List buried jobs, newest first. Several filters must all hold."""
    choice = Choice(function=function, queue=queue and short_queue_name(queue), error=error)
    found, total = run(_list(invocation, dsn, dlq_name, choice, offset, limit, batch_size))
    if raw:
        click.echo(json_text([job.fields if job is not None else {"id": job_id} for job_id, job in found]))
        return 0
    rows = [job_row(job_id, job) for job_id, job in found]
    emit({"total": total, "jobs": rows}, as_json, lambda: show_jobs(rows, "no buried jobs"))
    if not as_json and 0 < len(rows) < total and (len(rows) == limit or offset):
        complain(f"{len(rows)} of {total}; --offset and --limit show others")
    return 0


async def _list(
    invocation: Invocation, dsn: str | None, name: str | None, choice: Choice, offset: int, limit: int, batch: int
) -> tuple[list[tuple[str, Job | None]], int]:
    """A page. Without a filter only that page is read; with one, the list from its new end until the page is full."""
    rows: list[tuple[str, Job | None]] = []
    async with open_store(invocation, dsn) as store:
        total = await store.dlq_size(name)
        at, passed = (0, 0) if choice.filters else (offset, offset)
        while len(rows) < limit:
            ids = await store.dlq_list(
                name, offset=at, limit=batch if choice.filters else min(batch, limit - len(rows))
            )
            if not ids:
                break
            at += len(ids)
            for job_id, job in zip(ids, await store.jobs(ids), strict=True):
                if choice.filters and (job is None or not choice.wants(job)):
                    continue
                passed += 1 if choice.filters else 0
                if (not choice.filters or passed > offset) and len(rows) < limit:
                    rows.append((job_id, job))
    return rows, total


@dlq.command("inspect")
@click.argument("job_id")
@dlq_option
@click.option("--raw", is_flag=True, help="The fields of its hash, as they are stored.")
@dsn_option
@config_option
@json_option
@click.pass_obj
def inspect(
    invocation: Invocation, job_id: str, dlq_name: str | None, raw: bool, dsn: str | None, as_json: bool
) -> int:
    """Print everything that is stored of a buried job. Exit 1 when it is not in the dead-letter queue."""
    found = run(_inspect(invocation, dsn, job_id, dlq_name))
    return show_job(found, raw, as_json)


async def _inspect(invocation: Invocation, dsn: str | None, job_id: str, name: str | None) -> Job:
    async with open_store(invocation, dsn) as store:
        found = await store.get(job_id)
        if found is None or not await store.is_buried(job_id, name or found.fields.get("dlq_name")):
            state = f"it is {found.status.value}" if found is not None else "there is no such job"
            raise NotBuried(f"job {printable(job_id)} is not in the dead-letter queue; {state}")
        return found


@dlq.command("stats")
@dlq_option
@click.option(
    "--max-scan", metavar="N", type=click.IntRange(0), default=0,
    help="Look at no more than so many, the oldest ones. Left out, or 0: at all.",
)  # fmt: skip
@dsn_option
@config_option
@json_option
@click.pass_obj
def stats(invocation: Invocation, dlq_name: str | None, max_scan: int, dsn: str | None, as_json: bool) -> int:
    """Count buried jobs by queue, function and error; tell the oldest and the newest."""
    data = run(_stats(invocation, dsn, dlq_name, max_scan))
    emit(data, as_json, lambda: _show_stats(data))
    return 0


async def _stats(invocation: Invocation, dsn: str | None, name: str | None, most: int) -> dict[str, Any]:
    by: dict[str, Counter[str]] = {"queues": Counter(), "functions": Counter(), "errors": Counter()}
    looked = expired = attempts = 0
    times: list[str] = []
    async with open_store(invocation, dsn) as store:
        total = await store.dlq_size(name)
        async for entry in store.dlq_from_oldest(name):
            looked += 1
            if isinstance(entry, Job):
                by["queues"][entry.queue] += 1
                by["functions"][entry.function] += 1
                by["errors"][shorten(entry.last_error) or ""] += 1
                attempts += entry.number("current_retries") or 0
                times.append(entry.fields.get("completion_time", ""))
            else:
                expired += 1
            if looked == most:
                break
    living = looked - expired
    ended = sorted(filter(None, times))
    return {
        "total": total,
        "looked_at": looked,
        "expired": expired,
        "oldest": ended[0] if ended else None,
        "newest": ended[-1] if ended else None,
        "attempts_average": round(attempts / living, 2) if living else None,
        **{what: dict(count.most_common(TOP_ERRORS if what == "errors" else TOP)) for what, count in by.items()},
    }


def _show_stats(data: dict[str, Any]) -> None:
    fields({name: data[name] for name in ("total", "expired", "oldest", "newest", "attempts_average")})
    for what in ("queues", "functions", "errors"):
        if data[what]:
            click.echo()
            table((what[:-1], "jobs"), list(data[what].items()))
    if data["looked_at"] < data["total"]:
        complain(f"looked at the {data['looked_at']} oldest of {data['total']}; --max-scan 0 looks at all")


# -- moving ------------------------------------------------------------------------------------------------


target_option = click.option("--target-queue", metavar="NAME", help="Left out: each job's own queue.")
dry_option = click.option("--dry-run", is_flag=True, help="Only say what would be done.")


@dlq.command("requeue")
@dlq_option
@choice_options
@target_option
@dry_option
@dsn_option
@config_option
@json_option
@click.pass_obj
def requeue(
    invocation: Invocation,
    dlq_name: str | None,
    choice: Choice,
    target_queue: str | None,
    dry_run: bool,
    dsn: str | None,
    as_json: bool,
) -> int:
    """Bring buried jobs back as if new.

    Attempts, stalls and the error are reset. Several filters must all hold. Exit 1 if a job named by --job-id is not
    there.
    """
    choice.must_say_which()
    return _revive(invocation, dsn, dlq_name, choice, target_queue, dry_run, as_json)


@dlq.command("retry-all")
@dlq_option
@click.option("--function", metavar="NAME", help="Only jobs of this function.")
@click.option("--queue", metavar="NAME", help="Only jobs that came from this queue.")
@click.option("--error", metavar="TEXT", help="Only jobs whose last error contains this.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most this many, oldest first.")
@target_option
@dry_option
@dsn_option
@config_option
@json_option
@click.pass_obj
def retry_all(
    invocation: Invocation,
    dlq_name: str | None,
    function: str | None,
    queue: str | None,
    error: str | None,
    limit: int | None,
    target_queue: str | None,
    dry_run: bool,
    dsn: str | None,
    as_json: bool,
) -> int:
    """Bring every buried job back as if new; requeue --all, by its other name."""
    choice = Choice(
        everything=True, function=function, queue=queue and short_queue_name(queue), error=error, limit=limit
    )
    return _revive(invocation, dsn, dlq_name, choice, target_queue, dry_run, as_json)


def _revive(
    invocation: Invocation,
    dsn: str | None,
    name: str | None,
    choice: Choice,
    target_queue: str | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    target = short_queue_name(target_queue) if target_queue else None

    async def move() -> tuple[Found, list[str]]:
        moved: list[str] = []
        async with open_store(invocation, dsn) as store:
            found = await choose(store, name, choice)
            for at in range(0, 0 if dry_run else len(found.matched), MOVE_BATCH):
                moved += await store.revive(found.matched[at : at + MOVE_BATCH], dlq=name, queue=target)
        return found, moved

    found, moved = run(move())
    one = len(found.matched if dry_run else moved) == 1
    where = f"queue {printable(target)}" if target else "its own queue" if one else "their own queues"
    return _report(choice, found, moved, "requeue", f" to {where}", dry_run, as_json)


@dlq.command("purge")
@dlq_option
@choice_options
@dry_option
@dsn_option
@config_option
@json_option
@click.pass_obj
def purge(
    invocation: Invocation, dlq_name: str | None, choice: Choice, dry_run: bool, dsn: str | None, as_json: bool
) -> int:
    """Remove buried jobs for good, with all that is stored of them.

    Several filters must all hold. With --all also entries whose job has expired. Exit 1 if a job named by --job-id is
    not there.
    """
    choice.must_say_which()

    async def remove() -> tuple[Found, list[str]]:
        removed: list[str] = []
        async with open_store(invocation, dsn) as store:
            found = await choose(store, dlq_name, choice, with_expired=choice.everything and not choice.filters)
            for at in range(0, 0 if dry_run else len(found.matched), MOVE_BATCH):
                part = found.matched[at : at + MOVE_BATCH]
                removed += (await store.purge(part, dlq=dlq_name or store.policy.default_dlq)).removed
        return found, removed

    found, removed = run(remove())
    return _report(choice, found, removed, "remove", "", dry_run, as_json)


def _report(choice: Choice, found: Found, moved: list[str], verb: str, where: str, dry_run: bool, as_json: bool) -> int:
    ids = found.matched if dry_run else moved
    done = f"{verb}d"
    data = {"matched": len(found.matched), done: len(moved), "dry_run": dry_run, "job_ids": ids}
    words = f"{f'would {verb}' if dry_run else done} {counted(len(ids), 'job')}{where}"
    emit(data, as_json, lambda: click.echo(words))
    missing = sorted(set(choice.job_ids) - found.seen)
    if missing:
        complain(f"not in the dead-letter queue: {', '.join(map(printable, missing))}")
    return 1 if missing else 0
