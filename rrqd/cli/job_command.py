"""``rrqd job``: look at jobs, cancel them."""

from __future__ import annotations

import json
from typing import Any

import click

from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import complain, emit, fields
from rrqd.cli.rows import job_page, job_row, show_jobs
from rrqd.cli.session import dsn_option, open_store, run
from rrqd.job import JobStatus
from rrqd.model.job import Job, short_queue_name
from rrqd.store import Cancelled, Store

PAGE = 200


@click.group("job")
def job() -> None:
    """Look at a job, cancel it."""


@job.command("show")
@click.argument("job_id")
@click.option("--raw", is_flag=True, help="The stored fields, as they are.")
@dsn_option
@config_option
@json_option
@click.pass_obj
def show(invocation: Invocation, job_id: str, raw: bool, dsn: str | None, as_json: bool) -> int:
    """Everything that is stored of a job."""
    found = run(_get(invocation, dsn, job_id))
    if found is None:
        complain(f"there is no job {job_id} (it may have expired)")
        return 1
    data = dict(sorted(found.fields.items())) if raw else job_page(found)
    emit(data, as_json, lambda: fields({name: _cell(value) for name, value in data.items()}))
    return 0


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | bool) else value


async def _get(invocation: Invocation, dsn: str | None, job_id: str) -> Job | None:
    async with open_store(invocation, dsn) as store:
        return await store.get(job_id)


@job.command("list")
@click.option("--queue", metavar="NAME")
@click.option("--status", type=click.Choice([s.value for s in JobStatus], case_sensitive=False))
@click.option("--function", metavar="NAME")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True)
@click.option("--scan", is_flag=True, help="Also look for finished jobs: walks the key space.")
@click.option("--max-scan", type=click.IntRange(1), default=10_000, show_default=True, help="Most jobs to look at.")
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
    """Jobs that run, wait or are buried; with --scan finished ones, too."""

    def wanted(one: Job) -> bool:
        return (
            (queue is None or one.queue == short_queue_name(queue))
            and (status is None or one.status.value == status.upper())
            and (function is None or one.function == function)
        )

    rows, looked = run(_list(invocation, dsn, wanted, limit, scan, max_scan))
    emit(rows, as_json, lambda: show_jobs(rows))
    if looked >= max_scan:
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
    """Cancel jobs: at once while they wait, by asking their worker while they run. Exit 1 if one could not be."""
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
