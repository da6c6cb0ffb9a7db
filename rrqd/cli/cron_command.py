"""``rrqd cron``: the timetable: what comes when, what came last; pausing an entry, running one now."""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from rrqd import clock
from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import complain, emit, table
from rrqd.cli.rows import shorten, show_changed, to_the_second
from rrqd.cli.session import dsn_option, open_store, run
from rrqd.cli.watching import watch_option
from rrqd.exc import RRQError
from rrqd.model.timetable import Entry, defaults_of, job_of, read_timetable

if TYPE_CHECKING:
    from rrqd.store.timetable import CronState

LIST_HEADERS = ("name", "schedule", "timezone", "function", "queue", "next", "last", "fired", "missed", "paused")
NEXT_HEADERS = ("utc", "local", "name")
BY_HAND = "cli"


class UnknownEntry(RRQError):
    """The timetable has no entry of that name."""


@click.group("cron")
def cron() -> None:
    """Look at jobs by the clock, pause them, run one now."""


def _entries(invocation: Invocation, names: Sequence[str] = ()) -> dict[str, Entry]:
    """Those entries of the file, all without names. Raises UnknownEntry, with the nearest name."""
    known = read_timetable(invocation.load().settings)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f'did you mean "{near[0]}"?' if near else "see rrqd cron list"
            raise UnknownEntry(f'there is no cron entry "{name}"; {hint}')
    return {name: known[name] for name in dict.fromkeys(names)} if names else known


@cron.command("list")
@dsn_option
@config_option
@json_option
@watch_option
@click.pass_obj
def list_entries(invocation: Invocation, dsn: str | None, as_json: bool) -> int:
    """List all entries: their next tick, the last one that was dealt with, and how many jobs they made."""
    entries = _entries(invocation)
    rows = run(_list(invocation, dsn, entries)) if entries else []
    emit(rows, as_json, lambda: _show_list(rows))
    return 0


async def _list(invocation: Invocation, dsn: str | None, entries: dict[str, Entry]) -> list[dict[str, Any]]:
    queue = invocation.load().settings.rrq.default_queue_name
    async with open_store(invocation, dsn) as store:
        now = clock.from_ms(await store.server_ms())
        states = await store.cron_states(list(entries))
    return [_row(entry, states[name], now, queue) for name, entry in entries.items()]


def _row(entry: Entry, state: CronState, now: datetime, default_queue: str) -> dict[str, Any]:
    return {
        "name": entry.name,
        "schedule": entry.schedule.text,
        "timezone": entry.zone,
        "function": entry.function,
        "queue": entry.options.get("queue_name", default_queue),
        "next": _utc(entry.schedule.next(now)),
        "last": _utc(state.last),
        "fired": state.fired,
        "missed": state.missed,
        "paused": state.paused,
        "overlapped": state.overlapped,
        "last_job": state.job_id,
        "last_job_by": state.by,
    }


def _utc(moment: datetime | None) -> str | None:
    return to_the_second(moment.isoformat()) if moment is not None else None


def _show_list(rows: list[dict[str, Any]]) -> None:
    if not rows:
        complain("the timetable is empty; entries are [[rrq.cron_jobs]] in rrq.toml")
        return
    shown = [{**row, "paused": "paused" if row["paused"] else None} for row in rows]
    names = LIST_HEADERS[1:]
    table(LIST_HEADERS, [(row["name"], *(shorten(row[name]) for name in names)) for row in shown])


@cron.command("next")
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("--count", type=click.IntRange(1, 1000), default=10, show_default=True, metavar="N", help="How many.")
@click.option("--after", metavar="TIME", help="An RFC 3339 time, UTC if it names no zone; left out: now.")
@config_option
@json_option
@click.pass_obj
def next_ticks(invocation: Invocation, names: tuple[str, ...], count: int, after: str | None, as_json: bool) -> int:
    """Show the next ticks of some entries, or of all, by this machine's clock. No server is asked.

    Whether an entry is paused is not looked at.
    """
    start = _moment(after)
    rows = [
        {"utc": _utc(tick), "local": tick.astimezone(entry.schedule.zone).isoformat(), "name": entry.name}
        for tick, entry in islice(_all_ticks(list(_entries(invocation, names).values()), start), count)
    ]
    emit(rows, as_json, lambda: table(NEXT_HEADERS, [list(row.values()) for row in rows]))
    if not rows and not as_json:
        complain("nothing comes any more")
    return 0


def _moment(text: str | None) -> datetime:
    if text is None:
        return clock.wall()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not an RFC 3339 time", param_hint="--after") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _all_ticks(entries: list[Entry], start: datetime) -> Iterator[tuple[datetime, Entry]]:
    """The ticks of several entries in the order in which they come."""
    for tick, place in heapq.merge(*(_numbered(place, entry, start) for place, entry in enumerate(entries))):
        yield tick, entries[place]


def _numbered(place: int, entry: Entry, start: datetime) -> Iterator[tuple[datetime, int]]:
    for tick in entry.schedule.ticks(start):
        yield tick, place


@cron.command("pause")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@dsn_option
@config_option
@json_option
@click.pass_obj
def pause(invocation: Invocation, names: tuple[str, ...], dsn: str | None, as_json: bool) -> int:
    """Let these entries make no jobs, on no machine, from now on. Ticks of the pause are not made up."""
    return show_changed(run(_set(invocation, dsn, names, True)), "paused", "was paused already", as_json)


@cron.command("resume")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@dsn_option
@config_option
@json_option
@click.pass_obj
def resume(invocation: Invocation, names: tuple[str, ...], dsn: str | None, as_json: bool) -> int:
    """Let these entries make jobs again, from the next tick on."""
    return show_changed(run(_set(invocation, dsn, names, False)), "resumed", "was not paused", as_json)


async def _set(invocation: Invocation, dsn: str | None, names: Sequence[str], paused: bool) -> dict[str, bool]:
    entries = _entries(invocation, names)
    async with open_store(invocation, dsn) as store:
        return {name: await store.pause_cron(name, paused) for name in entries}


@cron.command("run")
@click.argument("name")
@dsn_option
@config_option
@json_option
@click.pass_obj
def run_now(invocation: Invocation, name: str, dsn: str | None, as_json: bool) -> int:
    """Enqueue the job of an entry now, whether it is paused or not, and print its id.

    Its ticks go on as they would have. Exit 1 when the entry is unique and its last job has not ended.
    """
    job_id, ticked = run(_run(invocation, dsn, name))
    emit({"job_id": job_id, "happened": ticked}, as_json, lambda: click.echo(job_id) if ticked == "fired" else None)
    if ticked == "fired":
        return 0
    why = f"its last job, {job_id}, has not ended" if ticked == "overlap" else "its queue's key holds no queue"
    complain(f"nothing was enqueued for {name}: {why}")
    return 1


async def _run(invocation: Invocation, dsn: str | None, name: str) -> tuple[str | None, str]:
    entry = _entries(invocation, [name])[name]
    settings = invocation.load().settings
    async with open_store(invocation, dsn) as store:
        (answer,) = await store.tick([job_of(entry, defaults_of(settings), None, BY_HAND)])
    return answer.job_id, answer.ticked.value
