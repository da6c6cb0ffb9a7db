"""``rrqd job``: look at jobs, cancel them. More stands in ``job_*``, ``label_``, ``order_`` and ``past_commands``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any, NamedTuple

import click

from rrqd.cli import label_commands, move_commands, order_commands, past_commands
from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.job_again import missing, replay, retry
from rrqd.cli.job_stranded import stranded
from rrqd.cli.job_trace import trace
from rrqd.cli.output import complain, emit, fields, json_line, printable
from rrqd.cli.rows import limit_option, offset_option, show_jobs, show_page
from rrqd.cli.session import dsn_option, open_store, run
from rrqd.job import JobStatus
from rrqd.model.job import Job, short_queue_name
from rrqd.store import Store
from rrqd.store.choosing import paged, tagged_pages, waiting_pages
from rrqd.store.shown import job_page, job_row

STATUSES = [one.value.lower() for one in JobStatus if one is not JobStatus.UNKNOWN]


@click.group("job")
def job() -> None:
    """Look at jobs, run them again, cancel them, change what they wait for, put tags on them."""


for command in (
    replay, retry, trace, stranded,
    label_commands.tag, label_commands.untag, label_commands.list_tags, label_commands.track, label_commands.untrack,
    past_commands.log, past_commands.history, order_commands.priority, order_commands.deps,
    move_commands.cancel, move_commands.move, move_commands.timeout,
):  # fmt: skip
    job.add_command(command)


@job.command("show")
@click.argument("job_id")
@click.option("--raw", is_flag=True, help="The fields of its hash, as they are stored.")
@dsn_option
@config_option
@json_option
@click.pass_obj
def show(invocation: Invocation, job_id: str, raw: bool, dsn: str | None, as_json: bool) -> int:
    """Print everything that is stored of a job. Exit 1 when there is none."""
    found = run(_get(invocation, dsn, job_id))
    if raw:
        stored = dict(sorted(found.fields.items()))
        emit(stored, as_json, lambda: fields(stored))
    else:
        page = job_page(found)
        emit(page, as_json, lambda: show_page(page))
    return 0


@job.command("get")
@click.argument("job_id")
@click.argument("names", nargs=-1, metavar="[FIELD...]")
@dsn_option
@config_option
@json_option
@click.pass_obj
def get(invocation: Invocation, job_id: str, names: tuple[str, ...], dsn: str | None, as_json: bool) -> int:
    """Print fields of a job for a script: those of `job show --json`, one line each; all of them as JSON without FIELD.

    Text as it is, everything else as JSON; what is not known is an empty line. Exit 1 when there is no such job.
    """
    page = job_page(run(_get(invocation, dsn, job_id)))
    wrong = [name for name in names if name not in page]
    if wrong:
        raise click.BadParameter(f'no field is called "{wrong[0]}"; there are {", ".join(page)}', param_hint="FIELD")
    picked = {name: page[name] for name in names or page}

    def human() -> None:
        for value in picked.values():
            click.echo(printable(value) if isinstance(value, str) else "" if value is None else json_line(value))

    emit(picked, as_json or not names, human)
    return 0


async def _get(invocation: Invocation, dsn: str | None, job_id: str) -> Job:
    async with open_store(invocation, dsn) as store:
        found = await store.get(job_id)
        if found is None:
            raise missing(job_id)
        return found


@job.command("list")
@click.option("--queue", metavar="NAME", help="Jobs of this queue.")
@click.option(
    "--status",
    metavar="STATUS",
    type=click.Choice(STATUSES, case_sensitive=False),
    help=f"Jobs in this state: {', '.join(STATUSES)}.",
)
@click.option("--function", metavar="NAME", help="Jobs of this function.")
@click.option("--tag", metavar="TAG", help="Jobs with this tag, finished ones too, newest first.")
@limit_option
@offset_option
@click.option("--scan", is_flag=True, help="Finished jobs, too: looks at every key of the server.")
@click.option(
    "--max-scan",
    metavar="N",
    type=click.IntRange(1),
    default=10_000,
    show_default=True,
    help="Look at no more than this many jobs.",
)
@dsn_option
@config_option
@json_option
@click.pass_obj
def list_jobs(
    invocation: Invocation,
    queue: str | None,
    status: str | None,
    function: str | None,
    tag: str | None,
    limit: int,
    offset: int,
    scan: bool,
    max_scan: int,
    dsn: str | None,
    as_json: bool,
) -> int:
    """List jobs: those that run, then those that wait, then buried ones; only where such jobs can be.

    Finished jobs are in no list of the server's; --scan looks for them among all keys.
    """

    home = short_queue_name(queue) if queue is not None else None

    def wanted(one: Job) -> bool:
        return (
            (home is None or one.queue == home)
            and (status is None or one.status.value == status.upper())
            and (function is None or one.function == function)
        )

    places = Places(home, JobStatus(status.upper()) if status else None, tag, scan)
    rows, looked = run(_list(invocation, dsn, wanted, offset, limit, places, max_scan))
    none = "no such jobs" + ("" if scan or tag else "; finished ones need --scan")
    emit(rows, as_json, lambda: show_jobs(rows, none))
    if len(rows) == limit and not as_json:
        complain(f"{limit} from number {offset + 1}; --offset and --limit show others, if there are more")
    elif looked >= max_scan:
        complain(f"looked at {looked} jobs and stopped; --max-scan allows more")
    return 0


async def _list(
    invocation: Invocation, dsn: str | None, wanted: Any, offset: int, limit: int, places: Places, max_scan: int
) -> tuple[list[dict[str, Any]], int]:
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    skipped = 0
    async with open_store(invocation, dsn) as store:
        async for ids in places.pages(store):
            fresh = [job_id for job_id in ids if job_id not in seen][: max_scan - len(seen)]
            seen.update(fresh)
            for one in await store.jobs(fresh):
                if one is None or not wanted(one):
                    continue
                if skipped < offset:
                    skipped += 1
                else:
                    rows.append(job_row(one.id, one))
                    if len(rows) == limit:
                        return rows, len(seen)
            if len(seen) >= max_scan:
                break
    return rows, len(seen)


class Places(NamedTuple):
    """Where jobs of this queue, state and tag (``None``: any) can be."""

    queue: str | None
    status: JobStatus | None
    tag: str | None
    everywhere: bool

    async def pages(self, store: Store) -> AsyncIterator[list[str]]:
        """Ids, page by page: held, waiting, buried, and if asked for everything else; or all that have the tag."""
        if self.tag is not None:
            async for page in tagged_pages(store, self.tag):
                yield page
            return
        if self.status in (None, JobStatus.ACTIVE):
            for worker in await store.workers():
                yield list(await store.held_by(worker.worker_id))
        if self.status in (None, JobStatus.PENDING, JobStatus.RETRYING):
            async for page in waiting_pages(store, [self.queue] if self.queue is not None else await store.queues()):
                yield page
        if self.status in (None, JobStatus.FAILED):
            for dlq in await store.dlqs():
                async for page in paged(partial(store.dlq_list, dlq)):
                    yield page
        if self.everywhere:
            async for page in store.scan_jobs():
                yield page
