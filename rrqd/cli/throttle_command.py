"""``rrqd throttle``: how many jobs run at a time."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from rrqd.asking.throttles import MAX_LIMIT, check_throttle
from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import complain, emit, fields, table
from rrqd.cli.rows import limit_option
from rrqd.cli.session import dsn_option, open_store, run
from rrqd.cli.watching import watch_option
from rrqd.exc import InvalidRequest
from rrqd.store.throttles import ThrottleRow

HEADERS = ("throttle", "limit", "running", "waiting", "lifted in")


def _check_name(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    try:
        return check_throttle(value)
    except InvalidRequest as fault:
        raise click.BadParameter(str(fault), param_hint="NAME") from None


name_argument = click.argument("name", callback=_check_name)


@click.group("throttle")
def throttle() -> None:
    """Limit how many jobs run at a time, over all queues; queue:NAME is a queue's own limit."""


@throttle.command("list")
@dsn_option
@config_option
@json_option
@watch_option
@click.pass_obj
def list_throttles(invocation: Invocation, dsn: str | None, as_json: bool) -> int:
    """List the throttles that were set, and those at which jobs wait."""
    rows = run(_rows(invocation, dsn))
    emit([_row(row) for row in rows], as_json, lambda: table(HEADERS, [_cells(row) for row in rows]))
    return 0


async def _rows(invocation: Invocation, dsn: str | None) -> list[ThrottleRow]:
    async with open_store(invocation, dsn) as store:
        return await store.throttle_rows(await store.throttle_names())


def _row(row: ThrottleRow) -> dict[str, Any]:
    return {**msgspec.structs.asdict(row), "seconds_left": row.seconds_left and round(row.seconds_left, 1)}


def _cells(row: ThrottleRow) -> tuple[Any, ...]:
    left = None if row.seconds_left is None else f"{row.seconds_left:.0f} s"
    return row.name, "none" if row.limit is None else row.limit, row.running, row.waiting, left


@throttle.command("show")
@name_argument
@limit_option
@dsn_option
@config_option
@json_option
@click.pass_obj
def show(invocation: Invocation, name: str, limit: int, dsn: str | None, as_json: bool) -> int:
    """Show a throttle, the jobs that run under it and the first of those that wait."""
    data = run(_show(invocation, dsn, name, limit))
    limit_ = "none" if data["limit"] is None else data["limit"]
    lines = {
        **data,
        "limit": limit_,
        "running_jobs": "\n".join(data["running_jobs"]),
        "waiting_jobs": "\n".join(data["waiting_jobs"]),
    }
    emit(data, as_json, lambda: fields({key: value for key, value in lines.items() if value not in (None, "")}))
    return 0


async def _show(invocation: Invocation, dsn: str | None, name: str, limit: int) -> dict[str, Any]:
    async with open_store(invocation, dsn) as store:
        (row,) = await store.throttle_rows([name])
        running = await store.throttle_holders(name)
        return {
            **_row(row),
            "running_jobs": running[:limit],
            "waiting_jobs": await store.throttle_waiting(name, limit=limit),
        }


@throttle.command("set")
@name_argument
@click.argument("limit", type=click.IntRange(0, MAX_LIMIT))
@click.option(
    "--expires", metavar="SECONDS", type=click.FloatRange(0, min_open=True), help="Lift the limit after so long."
)
@dsn_option
@config_option
@json_option
@click.pass_obj
def set_throttle(
    invocation: Invocation, name: str, limit: int, expires: float | None, dsn: str | None, as_json: bool
) -> int:
    """Let at most LIMIT jobs run at a time; 0: none.

    It counts from the next claim on. Jobs that run already, run on; jobs that wait and fit now are let go at once.
    """
    fresh = run(_set(invocation, dsn, name, limit, expires))
    emit({"throttle": name, "limit": limit, "new": fresh}, as_json, lambda: click.echo(f"{name}: at most {limit}"))
    return 0


async def _set(invocation: Invocation, dsn: str | None, name: str, limit: int, expires: float | None) -> bool:
    async with open_store(invocation, dsn) as store:
        return await store.set_throttle(name, limit, expires_seconds=expires)


@throttle.command("delete")
@name_argument
@dsn_option
@config_option
@json_option
@click.pass_obj
def delete(invocation: Invocation, name: str, dsn: str | None, as_json: bool) -> int:
    """Lift a limit; all jobs that wait for it are let go. Exit 1 when there was none."""
    was = run(_delete(invocation, dsn, name))
    emit({"throttle": name, "deleted": was}, as_json, lambda: click.echo(f"{name}: no limit") if was else None)
    if not was:
        complain(f"there is no limit called {name}")
    return 0 if was else 1


async def _delete(invocation: Invocation, dsn: str | None, name: str) -> bool:
    async with open_store(invocation, dsn) as store:
        return await store.delete_throttle(name)


@throttle.command("release")
@name_argument
@click.argument("job_ids", nargs=-1, required=True, metavar="ID...")
@dsn_option
@config_option
@json_option
@click.pass_obj
def release(invocation: Invocation, name: str, job_ids: tuple[str, ...], dsn: str | None, as_json: bool) -> int:
    """Count these jobs no more, though they may run on; others start in their place.

    Exit 1 when none of them counted.
    """
    freed = run(_release(invocation, dsn, name, job_ids))
    emit({"throttle": name, "released": freed}, as_json, lambda: click.echo(f"{freed} released"))
    return 0 if freed else 1


async def _release(invocation: Invocation, dsn: str | None, name: str, job_ids: tuple[str, ...]) -> int:
    async with open_store(invocation, dsn) as store:
        return await store.free_throttle(name, job_ids)
