"""``rrqd recurring``: jobs that come again and again, at an interval."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from rrqd.cli.enqueue_command import read_params
from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import complain, emit, fields, table
from rrqd.cli.rows import limit_option, offset_option
from rrqd.cli.session import TIMEOUT_SECONDS, dsn_option, run
from rrqd.cli.watching import watch_option
from rrqd.client import RRQClient
from rrqd.exc import InvalidRequest
from rrqd.model.recurring import Recurring

Command = TypeVar("Command", bound=Callable[..., Any])
HEADERS = ("id", "function", "every s", "next", "count", "queue")
OPTIONS = ("queue_name", "max_retries", "job_timeout_seconds", "priority", "tags", "throttles", "tenant", "rate")


@click.group("recurring")
def recurring() -> None:
    """Make jobs again and again, at an interval (by the hours of the day: cron_jobs in the file)."""


def template_options(command: Command) -> Command:
    """What each job of a template has."""
    for option in reversed((
        click.option("--params", metavar="JSON|@FILE|-", default=None, help="Parameters of each job, a JSON object."),
        click.option("--queue", "queue_name", metavar="NAME", help="The queue; left out: the default one."),
        click.option("--max-retries", type=click.IntRange(1), metavar="N", help="Attempts in all, of each job."),
        click.option("--timeout", "job_timeout_seconds", type=int, metavar="SECONDS", help="Time for one attempt."),
        click.option("--priority", type=float, metavar="N", help="Of each job: higher is taken first."),
        click.option("--tag", "tags", multiple=True, metavar="TAG", help="Of each job; may be given many times."),
        click.option("--throttle", "throttles", multiple=True, metavar="NAME", help="Each job runs under it."),
        click.option("--tenant", metavar="NAME", help="Whose job each is: tenants of a queue take turns."),
        click.option("--rate", metavar="NAME:N/UNIT", help="Each starts at most so often: api:100/m."),
        click.option("--backlog", type=click.IntRange(0), metavar="N", help="Make up this many missed ones; 0: all."),
        click.option("--unique/--no-unique", default=None, help="Make none while the last one has not ended."),
    )):  # fmt: skip
        command = option(command)
    return command


def _options(given: dict[str, Any]) -> dict[str, Any]:
    """The options of an enqueue among what was given."""
    options = {name: given[name] for name in OPTIONS if given[name] not in (None, ())}
    if "priority" in options and options["priority"].is_integer():
        options["priority"] = int(options["priority"])
    if given["params"] is not None:
        options["params"] = read_params(given["params"])
    return options


def _client(invocation: Invocation, dsn: str | None) -> RRQClient:
    return RRQClient(config_path=str(invocation.load().path), dsn=dsn, timeout_seconds=TIMEOUT_SECONDS)


@recurring.command("list")
@limit_option
@offset_option
@dsn_option
@config_option
@json_option
@watch_option
@click.pass_obj
def list_templates(invocation: Invocation, limit: int, offset: int, dsn: str | None, as_json: bool) -> int:
    """List recurring jobs, soonest first."""

    async def ask() -> list[Recurring]:
        async with _client(invocation, dsn) as client:
            return await client.recurring.all(offset=offset, limit=limit)

    rows = [_row(one) for one in run(ask())]
    cells = [
        (row["id"], row["function"], row["every_seconds"], row["next"], row["count"], row["options"].get("queue_name"))
        for row in rows
    ]
    emit(rows, as_json, lambda: table(HEADERS, cells))
    return 0


def _row(one: Recurring) -> dict[str, Any]:
    return {
        "id": one.id, "function": one.function, "every_seconds": one.interval_ms / 1000,
        "next": datetime.fromtimestamp(one.next_ms / 1000, UTC).isoformat(timespec="milliseconds"),
        "count": one.count, "backlog": one.backlog, "unique": one.unique, "options": one.options,
    }  # fmt: skip


@recurring.command("add")
@click.argument("function", metavar="NAME")
@click.option("--every", required=True, type=float, metavar="SECONDS", help="The interval.")
@click.option("--offset", type=float, default=0.0, metavar="SECONDS", help="The first one so long from now.")
@click.option("--id", "template_id", metavar="ID", help="Left out: a new UUID. One that is there is replaced.")
@template_options
@dsn_option
@config_option
@json_option
@click.pass_obj
def add(
    invocation: Invocation,
    /,
    function: str,
    every: float,
    offset: float,
    template_id: str | None,
    dsn: str | None,
    as_json: bool,
    **given: Any,
) -> int:
    """Make a job for the handler NAME now, and then at an interval. Prints the template's id."""

    async def ask() -> str:
        async with _client(invocation, dsn) as client:
            return await client.recurring.add(
                function, _options(given), every_seconds=every, offset_seconds=offset, id=template_id,
                backlog=given["backlog"] or 0, unique=bool(given["unique"]),
            )  # fmt: skip

    try:
        made = run(ask())
    except InvalidRequest as fault:
        raise click.UsageError(str(fault)) from None
    emit({"id": made}, as_json, lambda: click.echo(made))
    return 0


@recurring.command("update")
@click.argument("template_id", metavar="ID")
@click.option("--every", type=float, metavar="SECONDS", help="The interval; the next time moves by the difference.")
@click.option("--offset", type=float, metavar="SECONDS", help="The next one so long from now.")
@click.option("--function", metavar="NAME", help="Another handler.")
@template_options
@dsn_option
@config_option
@json_option
@click.pass_obj
def update(
    invocation: Invocation,
    /,
    template_id: str,
    every: float | None,
    offset: float | None,
    function: str | None,
    dsn: str | None,
    as_json: bool,
    **given: Any,
) -> int:
    """Change what is named of a recurring job; the others stay. Exit 1 when there is none."""
    changes: dict[str, Any] = {
        "every_seconds": every, "offset_seconds": offset, "function": function, "backlog": given["backlog"],
        "unique": given["unique"], "options": _options(given) or None,
    }  # fmt: skip
    named = {name: value for name, value in changes.items() if value is not None}

    async def ask() -> Recurring | None:
        async with _client(invocation, dsn) as client:
            return await client.recurring.update(template_id, **named)

    try:
        one = run(ask())
    except InvalidRequest as fault:
        raise click.UsageError(str(fault)) from None
    if one is None:
        complain(f"there is no recurring job {template_id}")
        return 1
    row = _row(one)
    emit(row, as_json, lambda: fields(row))
    return 0


@recurring.command("remove")
@click.argument("template_ids", nargs=-1, required=True, metavar="ID...")
@dsn_option
@config_option
@json_option
@click.pass_obj
def remove(invocation: Invocation, template_ids: tuple[str, ...], dsn: str | None, as_json: bool) -> int:
    """Make no more of these jobs; those that were made stay. Exit 1 if one of them is not there."""

    async def ask() -> dict[str, bool]:
        async with _client(invocation, dsn) as client:
            return {one: await client.recurring.remove(one) for one in template_ids}

    removed = run(ask())
    words = {True: "removed", False: "there is no such recurring job"}
    emit(removed, as_json, lambda: fields({one: words[was] for one, was in removed.items()}))
    return 0 if all(removed.values()) else 1
