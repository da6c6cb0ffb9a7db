"""``rrqd config store``: what the store itself says of queues, for all machines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click

from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import complain, emit, printable, table
from rrqd.cli.session import dsn_option, open_store, run
from rrqd.exc import InvalidRequest
from rrqd.model.job import short_queue_name
from rrqd.model.queue_config import KINDS, check, check_key, field_of, read
from rrqd.store import Store

T = TypeVar("T")

queue_option = click.option("--queue", metavar="NAME", help="Of this queue. Left out: of all that say nothing else.")


@click.group("store")
@config_option
def store() -> None:
    """What the store itself says of queues, for all machines, changed while they work."""


@store.command("list")
@dsn_option
@config_option
@json_option
@click.pass_obj
def list_all(invocation: Invocation, dsn: str | None, as_json: bool) -> int:
    """Print all that is said, of all queues and of single ones."""
    stored = _ask(invocation, dsn, lambda store: store.config())
    rows: list[dict[str, Any]] = []
    for field in sorted(stored):
        key, _, queue = field.partition(" ")
        rows.append({"key": key, "queue": queue or None, "value": read(key, stored[field])})
    emit(rows, as_json, lambda: table(("key", "queue", "value"), [tuple(row.values()) for row in rows])
         if rows else complain("nothing is set; there are " + ", ".join(KINDS)))  # fmt: skip
    return 0


@store.command("get")
@click.argument("key")
@queue_option
@dsn_option
@config_option
@json_option
@click.pass_obj
def get(invocation: Invocation, key: str, queue: str | None, dsn: str | None, as_json: bool) -> int:
    """Print what counts for KEY, in a queue or in all. Exit 1 when nothing is said."""
    _checked(lambda: field_of(check_key(key), _home(queue)))
    stored = _ask(invocation, dsn, lambda store: store.config())
    value = read(key, stored.get(field_of(key, _home(queue)), stored.get(key)))
    if value is None and not as_json:
        complain(f"nothing is said of {printable(key)}")
    emit(
        {"key": key, "value": value}, as_json, lambda: click.echo(printable(f"{value}")) if value is not None else None
    )
    return 1 if value is None else 0


@store.command("set")
@click.argument("key")
@click.argument("value")
@queue_option
@dsn_option
@config_option
@json_option
@click.pass_obj
def set_one(invocation: Invocation, key: str, value: str, queue: str | None, dsn: str | None, as_json: bool) -> int:
    """Say VALUE of KEY. Workers hear of it at once; it counts for runs that begin then."""
    text = _checked(lambda: check(key, value))
    _checked(lambda: field_of(key, _home(queue)))
    before = _ask(invocation, dsn, lambda store: store.set_config(key, text, _home(queue)))
    _show(key, queue, read(key, before), read(key, text), as_json)
    return 0


@store.command("unset")
@click.argument("key")
@queue_option
@dsn_option
@config_option
@json_option
@click.pass_obj
def unset(invocation: Invocation, key: str, queue: str | None, dsn: str | None, as_json: bool) -> int:
    """Say nothing of KEY any more. Exit 1 when nothing was said."""
    _checked(lambda: field_of(check_key(key), _home(queue)))
    before = _ask(invocation, dsn, lambda store: store.unset_config(key, _home(queue)))
    _show(key, queue, read(key, before), None, as_json)
    return 0 if before is not None else 1


def _show(key: str, queue: str | None, before: Any, now: Any, as_json: bool) -> None:
    where = f" of queue {printable(queue)}" if queue is not None else ""
    was = "nothing" if before is None else before
    words = f"{printable(key)}{where}: {'nothing' if now is None else now} (was {was})"
    emit({"key": key, "queue": _home(queue), "before": before, "value": now}, as_json, lambda: click.echo(words))


def _home(queue: str | None) -> str | None:
    return None if queue is None else short_queue_name(queue)


def _checked(call: Callable[[], str]) -> str:
    try:
        return call()
    except InvalidRequest as fault:
        raise click.UsageError(str(fault)) from None


def _ask(invocation: Invocation, dsn: str | None, call: Callable[[Store], Awaitable[T]]) -> T:
    async def ask() -> T:
        async with open_store(invocation, dsn) as opened:
            return await call(opened)

    return run(ask())
