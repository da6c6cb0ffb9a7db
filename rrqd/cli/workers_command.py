"""``rrqd worker list | jobs | forget``: who takes jobs, on all machines."""

from __future__ import annotations

from typing import Any

import click

from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import complain, emit, fields, printable, table
from rrqd.cli.rows import show_jobs
from rrqd.cli.session import dsn_option, open_store, run
from rrqd.cli.watching import watch_option
from rrqd.store import Forgotten
from rrqd.store.shown import job_row

HEADERS = ("worker", "node", "up s", "jobs", "lease s", "seen s ago")
WORDS = {
    Forgotten.FORGOTTEN: "forgotten; what it held waits again",
    Forgotten.ALIVE: "lives: its node renews its lease",
    Forgotten.UNKNOWN: "there is no such worker",
}


@click.command("list")
@dsn_option
@config_option
@json_option
@watch_option
@click.pass_obj
def list_workers(invocation: Invocation, dsn: str | None, as_json: bool) -> int:
    """List the open workers of all nodes, rrqd's. (`rrqd check` also knows real RRQ ones.)"""

    async def ask() -> list[dict[str, Any]]:
        async with open_store(invocation, dsn) as store:
            return [
                {
                    "worker": row.worker_id,
                    "node": row.node_id,
                    "up_seconds": round(row.up_seconds, 1),
                    "jobs": row.held,
                    "lease_seconds": round(row.lease_seconds, 1),
                    "seen_seconds": None if row.seen_seconds is None else round(row.seen_seconds, 1),
                }
                for row in await store.workers()
            ]

    rows = run(ask())
    emit(
        rows, as_json, lambda: table(HEADERS, [tuple(row.values()) for row in rows]) if rows else complain("no workers")
    )
    return 0


@click.command("jobs")
@click.argument("worker")
@dsn_option
@config_option
@json_option
@click.pass_obj
def jobs(invocation: Invocation, worker: str, dsn: str | None, as_json: bool) -> int:
    """List the jobs that a worker runs, or held when it was last seen."""

    async def ask() -> list[dict[str, Any]]:
        async with open_store(invocation, dsn) as store:
            ids = sorted(await store.held_by(worker))
            return [job_row(job_id, job) for job_id, job in zip(ids, await store.jobs(ids), strict=True)]

    rows = run(ask())
    emit(rows, as_json, lambda: show_jobs(rows, f"{printable(worker)} holds no jobs"))
    return 0


@click.command("forget")
@click.argument("workers", nargs=-1, required=True, metavar="WORKER...")
@dsn_option
@config_option
@json_option
@click.pass_obj
def forget(invocation: Invocation, workers: tuple[str, ...], dsn: str | None, as_json: bool) -> int:
    """Drop workers whose machine is gone, and put back what they held, without waiting for a steward to do it.

    A worker whose node renews its lease is left alone. Exit 1 if one of them could not be dropped.
    """

    async def ask() -> dict[str, Forgotten]:
        async with open_store(invocation, dsn) as store:
            return {one: (await store.forget_worker(one))[0] for one in dict.fromkeys(workers)}

    said = run(ask())
    emit(said, as_json, lambda: fields({one: WORDS[answer] for one, answer in said.items()}))
    return 0 if set(said.values()) == {Forgotten.FORGOTTEN} else 1
