"""``rrqd job replay`` and ``rrqd job retry``: run something again, as a new job or as itself."""

from __future__ import annotations

import json

import click

from rrqd.cli.dlq_choice import delay_option, home_option
from rrqd.cli.enqueue_command import read_params
from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import complain, emit, fields, printable
from rrqd.cli.session import dsn_option, open_store, run
from rrqd.exc import RRQError
from rrqd.job import JobStatus
from rrqd.model.again import alike
from rrqd.model.job import NewJob, short_queue_name


class NoSuchJob(RRQError):
    """It never was, or it has expired."""


def missing(job_id: str) -> NoSuchJob:
    """The error for an id under which nothing is stored."""
    return NoSuchJob(f"there is no job {printable(job_id)} (it may have expired)")


@click.command("replay")
@click.argument("job_id")
@click.option("--queue", metavar="NAME", help="Left out: the queue it was in.")
@click.option("--params", metavar="JSON|@FILE|-", help="Other parameters than its own.")
@click.option("--dry-run", is_flag=True, help="Only say what would be enqueued.")
@dsn_option
@config_option
@json_option
@click.pass_obj
def replay(
    invocation: Invocation,
    job_id: str,
    queue: str | None,
    params: str | None,
    dry_run: bool,
    dsn: str | None,
    as_json: bool,
) -> int:
    """Enqueue a new job like this one, whatever became of it; prints the new id.

    Function, parameters, queue, retries, timeout, time to live, priority, tags, limits, trace and correlation are the
    old job's; its unique key and the jobs it waited for are not.
    """
    with_params = None if params is None else json.dumps(read_params(params), ensure_ascii=False).encode()
    target = short_queue_name(queue) if queue is not None else None
    new = run(_replay(invocation, dsn, job_id, target, with_params, dry_run))
    data = {
        "job_id": None if dry_run else new.id,
        "like": job_id,
        "function": new.function,
        "queue": new.queue,
        "dry_run": dry_run,
    }
    what = f"{printable(new.function)} in queue {printable(new.queue)}"
    emit(data, as_json, lambda: click.echo(f"would enqueue {what}" if dry_run else new.id))
    return 0


async def _replay(
    invocation: Invocation, dsn: str | None, job_id: str, queue: str | None, params: bytes | None, dry_run: bool
) -> NewJob:
    async with open_store(invocation, dsn) as store:
        old = await store.get(job_id)
        if old is None:
            raise missing(job_id)
        new = alike(old, queue or old.queue or store.policy.default_queue, params)
        if not dry_run:
            await store.enqueue_many([new])
        return new


@click.command("retry")
@click.argument("job_ids", nargs=-1, required=True, metavar="ID...")
@home_option
@delay_option
@dsn_option
@config_option
@json_option
@click.pass_obj
def retry(
    invocation: Invocation, job_ids: tuple[str, ...], queue: str | None, delay: float, dsn: str | None, as_json: bool
) -> int:
    """Bring buried jobs back as if new, under their ids. Exit 1 if one of them is not buried."""
    target = short_queue_name(queue) if queue is not None else None
    answers = run(_retry(invocation, dsn, tuple(dict.fromkeys(job_ids)), target, round(delay * 1000)))
    emit(answers, as_json, lambda: fields({job_id: _words(answer) for job_id, answer in answers.items()}))
    if JobStatus.COMPLETED in answers.values() or JobStatus.CANCELLED in answers.values():
        complain("what has ended otherwise than in the dead-letter queue can be run again with rrqd job replay")
    return 0 if set(answers.values()) == {"queued"} else 1


def _words(answer: str) -> str:
    match answer:
        case "queued":
            return "queued again"
        case "unknown":
            return "there is no such job"
        case "not-buried":
            return "is FAILED, but lies in no dead-letter queue; rrqd job replay makes a new one"
        case status:
            return f"is {status}, not buried"


async def _retry(
    invocation: Invocation, dsn: str | None, job_ids: tuple[str, ...], queue: str | None, delay_ms: int
) -> dict[str, str]:
    answers: dict[str, str] = {}
    async with open_store(invocation, dsn) as store:
        for job_id, old in zip(job_ids, await store.jobs(job_ids), strict=True):
            if old is None:
                answers[job_id] = "unknown"
            elif old.status is not JobStatus.FAILED:
                answers[job_id] = old.status.value
            else:
                moved = await store.revive([job_id], dlq=old.fields.get("dlq_name"), queue=queue, delay_ms=delay_ms)
                answers[job_id] = "queued" if moved else "not-buried"
    return answers
