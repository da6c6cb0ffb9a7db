"""``rrqd queue stats``: what there is of each queue, and how long its jobs waited and ran.

What an index tells is exact: waiting, due, running and buried jobs. Ended jobs are in no index; they are counted
among as many job keys as ``--max-scan`` allows, in one walk for all queues.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import click

from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import complain, counted, emit, table
from rrqd.cli.queues_known import known_queues, must_know
from rrqd.cli.session import dsn_option, open_store, run
from rrqd.job import JobStatus
from rrqd.model.job import Job, short_queue_name
from rrqd.store import Store

PAGE = 500
HEADERS = ("queue", "due", "scheduled", "active", "buried", "completed", "cancelled", "wait s", "run s", "paused")


@dataclass(slots=True)
class Tally:
    """What was counted of one queue."""

    due: int = 0
    scheduled: int = 0
    paused: bool = False
    active: int = 0
    buried: int = 0
    completed: int = 0
    cancelled: int = 0
    waits: list[float] = field(default_factory=list)
    runs: list[float] = field(default_factory=list)

    def see(self, job: Job) -> None:
        """Count a job that has ended."""
        self.completed += job.status is JobStatus.COMPLETED
        self.cancelled += job.status is JobStatus.CANCELLED
        due, began, ended = (job.moment(name) for name in ("next_scheduled_run_time", "start_time", "completion_time"))
        due = due or job.moment("enqueue_time")
        if due and began:
            self.waits.append(max(0.0, (began - due).total_seconds()))
        if began and ended and job.status is JobStatus.COMPLETED:
            self.runs.append(max(0.0, (ended - began).total_seconds()))

    def row(self, name: str) -> dict[str, Any]:
        """For JSON and, in this order, for the table."""
        return {
            "queue": name,
            "due": self.due,
            "scheduled": self.scheduled,
            "active": self.active,
            "buried": self.buried,
            "completed": self.completed,
            "cancelled": self.cancelled,
            "wait_seconds_average": _average(self.waits),
            "run_seconds_average": _average(self.runs),
            "paused": self.paused,
        }


def _average(numbers: list[float]) -> float | None:
    return round(sum(numbers) / len(numbers), 3) if numbers else None


@click.command("stats")
@click.option("--queue", "names", multiple=True, metavar="NAME", help="Only this queue; may be given many times.")
@click.option(
    "--max-scan", metavar="N", type=click.IntRange(0), default=1000, show_default=True,
    help="Look for ended jobs among so many; 0: among all keys of the server.",
)  # fmt: skip
@dsn_option
@config_option
@json_option
@click.pass_obj
def stats(invocation: Invocation, names: tuple[str, ...], max_scan: int, dsn: str | None, as_json: bool) -> int:
    """Count the jobs of each queue by state, with the averages of how long they waited and ran.

    Waiting, active and buried jobs are counted exactly; completed and cancelled ones, and the averages, among those
    that --max-scan lets it look at. `rrqd stats` has what rrqd has run, by day, without looking at jobs.
    """
    rows, looked, is_whole = run(_stats(invocation, dsn, [short_queue_name(name) for name in names], max_scan))
    emit(rows, as_json, lambda: _show(rows))
    if not is_whole and not as_json:
        complain(
            f"looked at {counted(looked, 'job')} for ended ones; --max-scan 0 looks at all of them, and takes long"
        )
    return 0


def _show(rows: list[dict[str, Any]]) -> None:
    table(HEADERS, [(*list(row.values())[:-1], "paused" if row["paused"] else None) for row in rows])


async def _stats(
    invocation: Invocation, dsn: str | None, names: list[str], most: int
) -> tuple[list[dict[str, Any]], int, bool]:
    async with open_store(invocation, dsn) as store:
        if names:
            await must_know(invocation, store, names)
        wanted = list(dict.fromkeys(names or await known_queues(invocation, store)))
        tallies = {name: Tally() for name in wanted}
        for depth in await store.queue_depths(wanted):
            tally = tallies[depth.name]
            tally.due, tally.scheduled, tally.paused = depth.due, depth.waiting - depth.due, depth.paused
        await _count_active(store, tallies)
        await _count_buried(store, tallies)
        looked, is_whole = await _count_ended(store, tallies, most)
        return [tally.row(name) for name, tally in tallies.items()], looked, is_whole


async def _count_active(store: Store, tallies: dict[str, Tally]) -> None:
    for worker in await store.workers():
        held = list(await store.held_by(worker.worker_id))
        for job in await store.jobs(held):
            if job is not None and job.queue in tallies:
                tallies[job.queue].active += 1


async def _count_buried(store: Store, tallies: dict[str, Tally]) -> None:
    for dlq in await store.dlqs():
        async for entry in store.dlq_from_oldest(dlq):
            if isinstance(entry, Job) and entry.status is JobStatus.FAILED and entry.queue in tallies:
                tallies[entry.queue].buried += 1


async def _count_ended(store: Store, tallies: dict[str, Tally], most: int) -> tuple[int, bool]:
    """How many jobs were looked at, and whether those were all."""
    looked = 0
    async for page in store.scan_jobs():
        for at in range(0, len(page), PAGE):
            part = page[at : at + PAGE] if not most else page[at : at + PAGE][: most - looked]
            for job in await store.jobs(part):
                if job is not None and job.queue in tallies and job.status.is_final:
                    tallies[job.queue].see(job)
            looked += len(part)
            if most and looked >= most:
                return looked, False
    return looked, True
