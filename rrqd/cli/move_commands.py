"""``rrqd job cancel``, ``move`` and ``timeout``: jobs moved by hand, one or many."""

from __future__ import annotations

from collections.abc import Sequence

import click

from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import complain, counted, emit, fields, printable
from rrqd.cli.session import dsn_option, open_store, run
from rrqd.exc import InvalidRequest
from rrqd.model import checks
from rrqd.model.job import short_queue_name
from rrqd.store import Cancelled, Moved
from rrqd.store.choosing import unfinished

DELAY = click.FloatRange(0, checks.MAX_SECONDS)
MOST_SHOWN = 20
MOVED = {
    Moved.MOVED: "waits there",
    Moved.REVIVED: "was buried; it waits there, as if new",
    Moved.TAKEN: "was taken from its worker; it waits there",
    Moved.CANCELLED: "was taken from its worker, and is cancelled, as somebody had asked",
    Moved.WAITING: "does not run",
    Moved.BURIED: "does not run; it is buried",
    Moved.RUNNING: "runs; --running takes it from its worker",
    Moved.TOO_LATE: "had ended already, or is run by a foreign worker",
    Moved.UNKNOWN: "there is no such job",
}
CANCELLED = {
    Cancelled.CANCELLED: "cancelled",
    Cancelled.ASKED: "runs; its worker was asked to stop it",
    Cancelled.TOO_LATE: "had ended already, or is run by a foreign worker",
    Cancelled.UNKNOWN: "there is no such job",
}


@click.command("cancel")
@click.argument("job_ids", nargs=-1, metavar="[ID...]")
@click.option("--tag", metavar="TAG", help="All jobs with this tag that have not ended.")
@click.option("--queue", metavar="NAME", help="All jobs that wait in this queue; with --tag: those that have both.")
@click.option("--yes", is_flag=True, help="Needed with --tag and --queue, unless it is a --dry-run.")
@click.option("--dry-run", is_flag=True, help="Only say which jobs would be cancelled.")
@dsn_option
@config_option
@json_option
@click.pass_obj
def cancel(
    invocation: Invocation,
    job_ids: tuple[str, ...],
    tag: str | None,
    queue: str | None,
    yes: bool,
    dry_run: bool,
    dsn: str | None,
    as_json: bool,
) -> int:
    """Cancel jobs that wait or run.

    A waiting job is cancelled at once. A running one is asked to stop, through its worker. Exit 1 if one of those
    named could not be cancelled.
    """
    in_bulk = tag is not None or queue is not None
    if in_bulk == bool(job_ids):
        raise click.UsageError("say which: ids, or --tag and --queue for all that have them")
    if in_bulk and not (yes or dry_run):
        raise click.UsageError("--tag and --queue are about many jobs: look with --dry-run, then say --yes")
    home = short_queue_name(queue) if queue is not None else None

    async def ask() -> dict[str, Cancelled | None]:
        async with open_store(invocation, dsn) as store:
            named = list(dict.fromkeys(job_ids))
            ids = await unfinished(store, tag=tag, queue=home) if in_bulk else named
            if dry_run:
                return dict.fromkeys(ids)
            return dict(zip(ids, await store.cancel_many(ids), strict=True))

    answers = run(ask())
    said = {job_id: "would be cancelled" if one is None else CANCELLED[one] for job_id, one in answers.items()}
    data = {job_id: "dry-run" if one is None else one.value for job_id, one in answers.items()}
    emit(data, as_json, lambda: _show(said, in_bulk))
    done = (Cancelled.CANCELLED, Cancelled.ASKED, None)
    return 0 if in_bulk or all(one in done for one in answers.values()) else 1


def _show(said: dict[str, str], in_bulk: bool) -> None:
    fields(dict(list(said.items())[:MOST_SHOWN] if in_bulk else said))
    if in_bulk:
        complain(counted(len(said), "job") + (f"; the first {MOST_SHOWN} are shown" if len(said) > MOST_SHOWN else ""))


@click.command("move", context_settings={"ignore_unknown_options": True})
@click.argument("job_ids", nargs=-1, required=True, metavar="ID...")
@click.option("--queue", metavar="NAME", help="Into this queue. Left out: each job's own.")
@click.option("--priority", type=float, metavar="N", help="With this priority. Left out: its own.")
@click.option("--delay", type=DELAY, metavar="SECONDS", help="Not before so many seconds from now. Left out: its time.")
@click.option("--running", is_flag=True, help="Jobs that run, too: they are taken from their workers.")
@dsn_option
@config_option
@json_option
@click.pass_obj
def move(
    invocation: Invocation,
    job_ids: tuple[str, ...],
    queue: str | None,
    priority: float | None,
    delay: float | None,
    running: bool,
    dsn: str | None,
    as_json: bool,
) -> int:
    """Let jobs wait in another queue, at another priority, or until another time.

    A buried job comes back as if new. Exit 1 if one of them could not be moved.
    """
    if queue is None and priority is None and delay is None:
        raise click.UsageError("say where to: --queue, --priority or --delay")
    states = ("waiting", "buried", "running") if running else ("waiting", "buried")
    return _move(invocation, job_ids, queue, priority, delay, states, dsn, as_json)


@click.command("timeout")
@click.argument("job_ids", nargs=-1, required=True, metavar="ID...")
@click.option("--delay", type=DELAY, metavar="SECONDS", help="Not before so many seconds from now.")
@dsn_option
@config_option
@json_option
@click.pass_obj
def timeout(
    invocation: Invocation, job_ids: tuple[str, ...], delay: float | None, dsn: str | None, as_json: bool
) -> int:
    """Take running jobs from their workers, and put them back to their old place.

    It costs a job no attempt. The worker is told to stop the run; what that still does, it can settle nothing. Exit 1
    if one of them does not run.
    """
    return _move(invocation, job_ids, None, None, delay, ("running",), dsn, as_json)


def _move(
    invocation: Invocation,
    job_ids: Sequence[str],
    queue: str | None,
    priority: float | None,
    delay: float | None,
    states: Sequence[str],
    dsn: str | None,
    as_json: bool,
) -> int:
    try:
        home = short_queue_name(checks.name(queue, "queue")) if queue is not None else None
        wanted = checks.priority(priority) or 0 if priority is not None else None
    except InvalidRequest as fault:
        raise click.UsageError(str(fault)) from None
    ids = list(dict.fromkeys(job_ids))

    async def ask() -> list[Moved]:
        async with open_store(invocation, dsn) as store:
            delay_ms = None if delay is None else round(delay * 1000)
            return await store.move(ids, queue=home, delay_ms=delay_ms, priority=wanted, states=states)

    answers = dict(zip(ids, run(ask()), strict=True))
    where = f"waits in queue {printable(home)}" if home is not None else "waits"
    words = {job_id: MOVED[one].replace("waits there", where) for job_id, one in answers.items()}
    emit({job_id: one.value for job_id, one in answers.items()}, as_json, lambda: fields(words))
    return 0 if all(one.done for one in answers.values()) else 1
