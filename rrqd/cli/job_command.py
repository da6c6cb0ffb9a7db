"""``rrqd job``: look at jobs, cancel them. More stands in ``job_*``, ``label_``, ``order_`` and ``past_commands``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from rrqd import clock
from rrqd.cli import label_commands, move_commands, order_commands, past_commands
from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.job_again import missing, replay, retry
from rrqd.cli.job_stranded import stranded
from rrqd.cli.job_trace import trace
from rrqd.cli.output import complain, emit, json_line, printable
from rrqd.cli.rows import limit_option, offset_option, show_job, show_jobs
from rrqd.cli.session import dsn_option, open_store, run
from rrqd.cli.watching import watch_option
from rrqd.model.job import Job
from rrqd.model.wanted import ENDED, STATES, WORDS, Wanted
from rrqd.store.search import Found, search
from rrqd.store.shown import job_page, job_row

METAVARS = {
    "queue": "NAME",
    "function": "NAME",
    "tag": "TAG",
    "tenant": "NAME",
    "worker": "ID",
    "since": "TIME",
    "until": "TIME",
}


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
    return show_job(found, raw, as_json)


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


def _filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The words of a filter as options, passed to the command as keywords; ``state`` has its own."""
    for word, what in reversed([one for one in WORDS.items() if one[0] != "state"]):
        shown = f"{what[:1].upper()}{what[1:]}."
        command = click.option(f"--{word}", metavar=METAVARS.get(word, "TEXT"), help=shown)(command)
    return command


@job.command("list")
@_filter_options
@click.option(
    "--status",
    metavar="STATUS",
    type=click.Choice(STATES, case_sensitive=False),
    help=f"Jobs in this state: {', '.join(STATES)}.",
)
@limit_option
@offset_option
@click.option("--scan", is_flag=True, help="Finished jobs, too: looks at every key of the server.")
@click.option(
    "--max-scan",
    metavar="N",
    type=click.IntRange(1),
    default=10_000,
    show_default=True,
    help="Look at about this many jobs at the most.",
)
@dsn_option
@config_option
@json_option
@watch_option
@click.pass_obj
def list_jobs(
    invocation: Invocation,
    /,
    status: str | None,
    limit: int,
    offset: int,
    scan: bool,
    max_scan: int,
    dsn: str | None,
    as_json: bool,
    **words: str | None,
) -> int:
    """List jobs: those that run, then those that wait, then buried ones; only where such jobs can be.

    Finished jobs are in no list of the server's; --scan, or their --status, looks for them among all keys.
    """
    said = {word: value for word, value in words.items() if value is not None}
    try:
        wanted = Wanted.read({**said, "state": status or ""}, clock.wall())
    except ValueError as fault:
        raise click.UsageError(str(fault)) from None
    found = run(_list(invocation, dsn, wanted, offset + limit, max_scan, scan))
    rows = [job_row(one.id, one) for one in found.jobs[offset:]]
    ended = scan or wanted.tag or wanted.states & ENDED
    emit(rows, as_json, lambda: show_jobs(rows, "no such jobs" + ("" if ended else "; finished ones need --scan")))
    if len(rows) == limit:
        if not as_json:
            complain(f"{limit} from number {offset + 1}; --offset and --limit show others, if there are more")
    elif found.next is not None:
        complain(f"looked at {found.looked} jobs and stopped; --max-scan allows more")
    return 0


async def _list(
    invocation: Invocation, dsn: str | None, wanted: Wanted, limit: int, max_scan: int, scan: bool
) -> Found:
    async with open_store(invocation, dsn) as store:
        return await search(store, wanted, limit=limit, look_most=max_scan, everywhere=scan)
