"""``rrqd job trace``: what happened to a job, when, and how long each step took."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, NamedTuple

import click

from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.job_again import missing
from rrqd.cli.output import complain, emit, table
from rrqd.cli.rows import shorten
from rrqd.cli.session import dsn_option, open_store, run
from rrqd.job import JobStatus
from rrqd.model.job import Job

LIVING = (JobStatus.PENDING, JobStatus.RETRYING)


class Step(NamedTuple):
    """Something that happened, or will."""

    at: datetime
    what: str
    detail: str


@click.command("trace")
@click.argument("job_id")
@dsn_option
@config_option
@json_option
@click.pass_obj
def trace(invocation: Invocation, job_id: str, dsn: str | None, as_json: bool) -> int:
    """Tell a job's life: enqueued, due, started, ended, each time with what has passed since. Exit 1: no such job.

    Every end is known as long as the job is; of starts only the last one is stored.
    """
    found, ends = run(_look(invocation, dsn, job_id))
    steps = steps_of(found, ends)
    rows = [
        {"at": step.at.isoformat(), "event": step.what, "detail": step.detail, "after_seconds": after}
        for step, after in zip(steps, gaps(steps), strict=True)
    ]
    data = {"id": job_id, "status": found.status.value, "events": rows}
    emit(data, as_json, lambda: _show(rows))
    return 0


def _show(rows: list[dict[str, Any]]) -> None:
    if not rows:
        complain("nothing is stored of when anything happened to it")
        return
    table(
        ("event", "at", "after", "detail"),
        [(row["event"], row["at"], _span(row["after_seconds"]), shorten(row["detail"])) for row in rows],
    )


async def _look(invocation: Invocation, dsn: str | None, job_id: str) -> tuple[Job, list[tuple[float, str]]]:
    async with open_store(invocation, dsn) as store:
        found = await store.get(job_id)
        if found is None:
            raise missing(job_id)
        return found, await store.events_of(job_id)


def steps_of(job: Job, ends: list[tuple[float, str]]) -> list[Step]:
    """The steps in the order of their times. ``ends``: epoch ms and status of each end, as the server noted them."""
    steps = []

    def note(field: str, what: str, detail: str) -> None:
        at = job.moment(field)
        if at is not None:
            steps.append(Step(at, what, detail))

    note("enqueue_time", "enqueued", f"{job.function} in queue {job.queue}")
    if job.status in LIVING:
        attempts = job.number("current_retries") or 0
        note("next_scheduled_run_time", "due", f"attempt {attempts + 1}" if attempts else "")
    note("start_time", "started", job.fields.get("worker_id", ""))
    steps += [Step(datetime.fromtimestamp(ms / 1000, UTC), "ended", status) for ms, status in ends]
    if not ends and job.status.is_final:
        note("completion_time", "ended", job.status.value)
    if job.last_error and steps and steps[-1].what == "ended":
        steps[-1] = steps[-1]._replace(detail=f"{steps[-1].detail}: {job.last_error}")
    return sorted(steps, key=lambda step: step.at)


def gaps(steps: list[Step]) -> list[float | None]:
    """Seconds since the step before; they are in order, so none is negative, whatever clocks wrote them."""
    later = [round((step.at - before.at).total_seconds(), 6) for before, step in pairwise(steps)]
    return [None, *later] if steps else []


def _span(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    if seconds < 1:
        return f"+{seconds * 1000:.1f} ms"
    if seconds < 120:
        return f"+{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"+{hours} h {minutes} min" if hours else f"+{minutes} min {rest} s"
