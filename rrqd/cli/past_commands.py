"""``rrqd stats``, ``rrqd job history`` and ``rrqd job log``: figures of a queue, and what a job has gone through."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import complain, emit, printable, table
from rrqd.cli.rows import shorten
from rrqd.cli.session import dsn_option, open_store, run
from rrqd.model.figures import DayFigures, SpreadFigures
from rrqd.model.history import history_of
from rrqd.model.job import Job, short_queue_name
from rrqd.model.joblog import LogLine

WIDEST_BAR = 40
DAY = click.DateTime(["%Y-%m-%d"])


@click.command("stats")
@click.argument("queue")
@click.option("--days", metavar="N", type=click.IntRange(1, 366), default=1, show_default=True, help="So many days.")
@click.option("--until", metavar="DAY", type=DAY, help="The newest of them, like 2026-01-31. Left out: today (UTC).")
@dsn_option
@config_option
@json_option
@click.pass_obj
def stats(invocation: Invocation, queue: str, days: int, until: datetime | None, dsn: str | None, as_json: bool) -> int:
    """Show how many runs of a queue's jobs ended how, and how long jobs waited and ran.

    The days are the server's, in UTC. With one day the waits and runs are drawn, too.
    """
    figures = run(_figures(invocation, dsn, short_queue_name(queue), days, until))
    emit([msgspec.to_builtins(day) for day in figures], as_json, lambda: _show(figures))
    return 0


async def _figures(
    invocation: Invocation, dsn: str | None, queue: str, days: int, until: datetime | None
) -> list[DayFigures]:
    async with open_store(invocation, dsn) as store:
        return await store.figures(queue, days=days, until=until.replace(tzinfo=UTC).date() if until else None)


def _show(figures: list[DayFigures]) -> None:
    headers = ("day", "completed", "retried", "buried", "snoozed", "cancelled", "wait", "sd", "run", "sd")
    table(headers, [
        (
            day.day, day.completed, day.retried, day.buried, day.snoozed, day.cancelled,
            _seconds(day.wait.mean_seconds), _seconds(day.wait.sd_seconds),
            _seconds(day.run.mean_seconds), _seconds(day.run.sd_seconds),
        )
        for day in figures
    ])  # fmt: skip
    if len(figures) == 1:
        for title, spread in (("wait", figures[0].wait), ("run", figures[0].run)):
            _draw(title, spread)


def _draw(title: str, spread: SpreadFigures) -> None:
    """A bar for each bucket that has jobs."""
    most = max(spread.histogram.values(), default=0)
    for bucket, count in spread.histogram.items():
        bar = "#" * max(1, round(WIDEST_BAR * count / most))
        click.echo(f"{title:<5} {_at_least(bucket):>6}  {count:>8}  {bar}")


def _at_least(bucket: str) -> str:
    letters = bucket.rstrip("0123456789")
    return f"{bucket[len(letters) :]} {letters}"


def _seconds(value: float) -> str:
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"


@click.command("history")
@click.argument("job_id")
@dsn_option
@config_option
@json_option
@click.pass_obj
def history(invocation: Invocation, job_id: str, dsn: str | None, as_json: bool) -> int:
    """Print what a job has gone through: when, what, which worker, why. Exit 1 when there is no such job."""
    job = run(_job(invocation, dsn, job_id))
    if job is None:
        complain(f"there is no job {job_id} (it may have expired)")
        return 1
    rows = [msgspec.structs.asdict(one) for one in history_of(job)]
    headers = ("at", "what", "worker", "why")
    cells = [(row["at"], row["what"], row["worker"], shorten(row["why"])) for row in rows]
    emit(rows, as_json, lambda: table(headers, cells))
    return 0


async def _job(invocation: Invocation, dsn: str | None, job_id: str) -> Job | None:
    async with open_store(invocation, dsn) as store:
        return await store.get(job_id)


@click.command("log")
@click.argument("job_id")
@dsn_option
@config_option
@json_option
@click.pass_obj
def log(invocation: Invocation, job_id: str, dsn: str | None, as_json: bool) -> int:
    """Print the lines that handlers wrote to a job's log with request.log("…"). Exit 1 when there is no such job."""
    lines, known = run(_log(invocation, dsn, job_id))
    if not lines and not known:
        complain(f"there is no job {job_id} (it may have expired)")
        return 1
    emit([_plain(line) for line in lines], as_json, lambda: click.echo("\n".join(map(_text, lines)), nl=bool(lines)))
    if not lines and not as_json:
        complain(f"job {job_id} has written nothing to its log")
    return 0


async def _log(invocation: Invocation, dsn: str | None, job_id: str) -> tuple[list[LogLine], bool]:
    async with open_store(invocation, dsn) as store:
        return await store.log_lines(job_id), await store.get(job_id) is not None


def _plain(line: LogLine) -> dict[str, Any]:
    return msgspec.structs.asdict(line)


def _text(line: LogLine) -> str:
    rest = "  ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in line.fields.items())
    return printable(f"{line.at[:23]}  attempt {line.attempt}  {line.message}  {rest}".rstrip())
