"""``rrqd job tag|untag|tags|track|untrack`` and ``rrqd events``: what people put on jobs, and being told of moves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import click
import msgspec

from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import complain, emit, fields, printable, table
from rrqd.cli.session import TIMEOUT_SECONDS, dsn_of, dsn_option, open_store, run
from rrqd.exc import InvalidRequest
from rrqd.model.names import read_tags
from rrqd.store import Store, policy_of
from rrqd.store.connection import Endpoint
from rrqd.store.finding import Finder
from rrqd.store.following import Follower, JobEvent
from rrqd.store.keys import Keys
from rrqd.store.labels import TooManyTags

Change = Callable[[Store], Awaitable[Any]]


@click.command("tag")
@click.argument("job_id")
@click.argument("tags", nargs=-1, required=True, metavar="TAG...")
@dsn_option
@config_option
@json_option
@click.pass_obj
def tag(invocation: Invocation, job_id: str, tags: tuple[str, ...], dsn: str | None, as_json: bool) -> int:
    """Add tags to a job and print all it has. Exit 1 when there is no such job."""
    try:
        wanted = read_tags(tags)
        return _say_tags(job_id, run(_on_store(invocation, dsn, lambda store: store.tag(job_id, wanted))), as_json)
    except (InvalidRequest, TooManyTags) as fault:
        raise click.UsageError(str(fault)) from None


@click.command("untag")
@click.argument("job_id")
@click.argument("tags", nargs=-1, required=True, metavar="TAG...")
@dsn_option
@config_option
@json_option
@click.pass_obj
def untag(invocation: Invocation, job_id: str, tags: tuple[str, ...], dsn: str | None, as_json: bool) -> int:
    """Take tags off a job and print those that are left. Exit 1 when there is no such job."""
    return _say_tags(job_id, run(_on_store(invocation, dsn, lambda store: store.untag(job_id, tags))), as_json)


def _say_tags(job_id: str, tags: list[str] | None, as_json: bool) -> int:
    if tags is None:
        complain(f"there is no job {job_id} (it may have expired)")
        return 1
    emit({"id": job_id, "tags": tags}, as_json, lambda: click.echo("\n".join(map(printable, tags)), nl=bool(tags)))
    return 0


async def _on_store(invocation: Invocation, dsn: str | None, change: Change) -> Any:
    async with open_store(invocation, dsn) as store:
        return await change(store)


@click.command("tags")
@dsn_option
@config_option
@json_option
@click.pass_obj
def list_tags(invocation: Invocation, dsn: str | None, as_json: bool) -> int:
    """List all tags in use with the number of their jobs, most used first."""
    counts: dict[str, int] = run(_on_store(invocation, dsn, lambda store: store.tags()))
    rows = [{"tag": name, "jobs": count} for name, count in counts.items()]
    emit(rows, as_json, lambda: table(("tag", "jobs"), list(counts.items())))
    return 0


@click.command("track")
@click.argument("job_ids", nargs=-1, required=True, metavar="ID...")
@dsn_option
@config_option
@json_option
@click.pass_obj
def track(invocation: Invocation, job_ids: tuple[str, ...], dsn: str | None, as_json: bool) -> int:
    """Tell of every move of these jobs from now on (see rrqd events). Exit 1 if one of them is not there."""
    return _say_tracked(run(_on_store(invocation, dsn, lambda store: _each(store.track, job_ids))), "tracked", as_json)


@click.command("untrack")
@click.argument("job_ids", nargs=-1, required=True, metavar="ID...")
@dsn_option
@config_option
@json_option
@click.pass_obj
def untrack(invocation: Invocation, job_ids: tuple[str, ...], dsn: str | None, as_json: bool) -> int:
    """Tell of them no more. Exit 1 if one of them is not there."""
    said = run(_on_store(invocation, dsn, lambda store: _each(store.untrack, job_ids)))
    return _say_tracked(said, "not tracked any more", as_json)


async def _each(change: Callable[[str], Awaitable[bool | None]], job_ids: Sequence[str]) -> dict[str, bool | None]:
    return {job_id: await change(job_id) for job_id in job_ids}


def _say_tracked(changed: dict[str, bool | None], done: str, as_json: bool) -> int:
    words = {True: done, False: "was so already", None: "there is no such job"}
    data = {job_id: {True: "changed", False: "unchanged", None: "unknown"}[said] for job_id, said in changed.items()}
    emit(data, as_json, lambda: fields({job_id: words[said] for job_id, said in changed.items()}))
    return 1 if None in changed.values() else 0


@click.command("events")
@click.option("--follow", "-f", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@click.option(
    "--last", metavar="N", type=click.IntRange(0, 1000), default=20, show_default=True, help="So many that were before."
)
@click.option("--job", "job_id", metavar="ID", help="Events of this job only.")
@dsn_option
@config_option
@json_option
@click.pass_obj
def events(invocation: Invocation, follow: bool, last: int, job_id: str | None, dsn: str | None, as_json: bool) -> int:
    """Print the moves of tracked jobs, oldest first.

    A job is tracked by rrqd job track, or by track=True when it is enqueued. With --json each event is a line of its
    own.
    """
    loaded = invocation.load()
    keys = Keys(policy_of(loaded.settings).namespace)
    follower = Follower(Finder(Endpoint.parse(dsn_of(invocation, dsn)), keys.namespace), keys, "rrqd:cli", last=last)

    def say(event: JobEvent) -> None:
        if job_id is None or event.job_id == job_id:
            click.echo(_line(event, as_json))

    run(_follow(invocation, dsn, follower, say, follow))
    return 0


async def _follow(
    invocation: Invocation, dsn: str | None, follower: Follower, say: Callable[[JobEvent], None], on: bool
) -> None:
    async with open_store(invocation, dsn):  # says at once when nothing answers; the follower would wait
        pass
    if not on:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            for event in await follower.before():
                say(event)
        return
    async for event in follower:
        say(event)


def _line(event: JobEvent, as_json: bool) -> str:
    told = {name: value for name, value in msgspec.structs.asdict(event).items() if value is not None}
    if as_json:
        return json.dumps(told, ensure_ascii=True)
    rest = "  ".join(f"{name}={value}" for name, value in told.items() if name not in ("at", "event", "job_id"))
    return printable(f"{event.at[:23]}Z  {event.event:<12}  {event.job_id}  {rest}".rstrip())
