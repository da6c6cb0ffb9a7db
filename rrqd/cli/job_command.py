"""``rrqd job``: look at jobs, cancel them."""

from __future__ import annotations

from typing import Any

import click

from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import complain, emit, fields
from rrqd.cli.rows import job_page, job_row, limit_option, show_jobs, show_page
from rrqd.cli.session import dsn_option, open_store, run
from rrqd.job import JobStatus
from rrqd.model.job import Job, short_queue_name
from rrqd.store import Cancelled, Store

PAGE = 200
STATUSES = [one.value.lower() for one in JobStatus if one is not JobStatus.UNKNOWN]


@click.group("job")
def job() -> None:
    """Look at jobs, cancel them."""


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
    if found is None:
        complain(f"there is no job {job_id} (it may have expired)")
        return 1
    if raw:
        stored = dict(sorted(found.fields.items()))
        emit(stored, as_json, lambda: fields(stored))
    else:
        page = job_page(found)
        emit(page, as_json, lambda: show_page(page))
    return 0


async def _get(invocation: Invocation, dsn: str | None, job_id: str) -> Job | None:
    async with open_store(invocation, dsn) as store:
        return await store.get(job_id)


@job.command("list")
@click.option("--queue", metavar="NAME", help="Jobs of this queue.")
@click.option(
    "--status",
    metavar="STATUS",
    type=click.Choice(STATUSES, case_sensitive=False),
    help=f"Jobs in this state: {', '.join(STATUSES)}.",
)
@click.option("--function", metavar="NAME", help="Jobs of this function.")
@limit_option
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
    limit: int,
    scan: bool,
    max_scan: int,
    dsn: str | None,
    as_json: bool,
) -> int:
    """List jobs: those that run, then those that wait, then buried ones.

    Finished jobs are in no list of the server's; --scan looks for them among all keys.
    """

    def wanted(one: Job) -> bool:
        return (
            (queue is None or one.queue == short_queue_name(queue))
            and (status is None or one.status.value == status.upper())
            and (function is None or one.function == function)
        )

    rows, looked = run(_list(invocation, dsn, wanted, limit, scan, max_scan))
    emit(rows, as_json, lambda: show_jobs(rows, "no such jobs" + ("" if scan else "; finished ones need --scan")))
    if len(rows) == limit and not as_json:
        complain(f"the first {limit}; --limit N shows more, if there are more")
    elif looked >= max_scan:
        complain(f"looked at {looked} jobs and stopped; --max-scan allows more")
    return 0


async def _list(
    invocation: Invocation, dsn: str | None, wanted: Any, limit: int, scan: bool, max_scan: int
) -> tuple[list[dict[str, Any]], int]:
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    async with open_store(invocation, dsn) as store:
        async for ids in _places(store, scan):
            fresh = [job_id for job_id in ids if job_id not in seen][: max_scan - len(seen)]
            seen.update(fresh)
            for one in await store.jobs(fresh):
                if one is not None and wanted(one):
                    rows.append(job_row(one.id, one))
                    if len(rows) == limit:
                        return rows, len(seen)
            if len(seen) >= max_scan:
                break
    return rows, len(seen)


async def _places(store: Store, scan: bool) -> Any:
    """Ids, page by page: held, waiting, buried, and if asked for everything else."""
    for worker in await store.workers():
        yield list(await store.held_by(worker.worker_id))
    for name in await store.queues():
        offset = 0
        while ids := await store.queue_page(name, offset, PAGE):
            yield ids
            offset += PAGE
    for dlq in await store.dlqs():
        offset = 0
        while ids := await store.dlq_list(dlq, offset=offset, limit=PAGE):
            yield ids
            offset += PAGE
    if scan:
        async for ids in store.scan_jobs():
            yield ids


@job.command("cancel")
@click.argument("job_ids", nargs=-1, required=True, metavar="ID...")
@dsn_option
@config_option
@json_option
@click.pass_obj
def cancel(invocation: Invocation, job_ids: tuple[str, ...], dsn: str | None, as_json: bool) -> int:
    """Cancel jobs that wait or run.

    A waiting job is cancelled at once. A running one is asked to stop, through its worker. Exit 1 if one of them could
    not be cancelled.
    """
    answers = run(_cancel(invocation, dsn, job_ids))
    words = {
        Cancelled.CANCELLED: "cancelled",
        Cancelled.ASKED: "runs; its worker was asked to stop it",
        Cancelled.TOO_LATE: "had ended already, or is run by a foreign worker",
        Cancelled.UNKNOWN: "there is no such job",
    }
    data = {job_id: answer.value for job_id, answer in answers.items()}
    emit(data, as_json, lambda: fields({job_id: words[answer] for job_id, answer in answers.items()}))
    return 0 if all(a in (Cancelled.CANCELLED, Cancelled.ASKED) for a in answers.values()) else 1


async def _cancel(invocation: Invocation, dsn: str | None, job_ids: tuple[str, ...]) -> dict[str, Cancelled]:
    async with open_store(invocation, dsn) as store:
        return {job_id: await store.cancel(job_id) for job_id in job_ids}
