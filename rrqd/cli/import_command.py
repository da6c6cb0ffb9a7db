"""``rrqd import``: jobs that wait in another system's queues are moved over."""

from __future__ import annotations

from typing import Any

import click

from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import complain, emit
from rrqd.cli.session import dsn_of, dsn_option, run
from rrqd.rq.connection import Connection
from rrqd.rq.importing import NotMoved, enqueue
from rrqd.store.rq_source import Found, RqSource


@click.group("import")
def import_() -> None:
    """Move jobs over that wait in another system's queues."""


@import_.command("rq")
@click.option("--from", "source", required=True, metavar="DSN", help="The server with RQ's queues.")
@click.option("--queue", "queues", multiple=True, metavar="NAME", help="Only this queue; may be given again.")
@click.option("--pickle", "may_pickle", is_flag=True, help="Arguments that are no JSON are pickled and signed.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@dsn_option
@config_option
@json_option
@click.pass_obj
def rq(
    invocation: Invocation, source: str, queues: tuple[str, ...], may_pickle: bool, dry_run: bool, dsn: str | None,
    as_json: bool,
) -> int:  # fmt: skip
    """Move RQ's queued and scheduled jobs, each under its own id. Exit 1 when some can't be moved; they stay in RQ.

    RQ's jobs are pickles: run this where the application's modules can be imported, and only on a server you trust.
    """
    try:
        counts = run(_move(source, queues, dry_run, _Mover(invocation, dsn, may_pickle)))
    except ValueError as fault:
        raise click.BadParameter(str(fault), param_hint="--from") from None
    emit(counts, as_json, lambda: click.echo("\n".join(f"{row['queue']}: {_told(row)}" for row in counts)))
    return 1 if any(row["left"] for row in counts) else 0


class _Mover:
    """Enqueues on our side, through RQ's face."""

    def __init__(self, invocation: Invocation, dsn: str | None, may_pickle: bool) -> None:
        namespace = invocation.load().settings.rrqd.namespace
        self._place = Connection(dsn_of(invocation, dsn), namespace=namespace)
        self._may_pickle = may_pickle

    def move(self, found: Found) -> bool:
        """False when it can't be moved; that is said."""
        try:
            enqueue(found, self._place, may_pickle=self._may_pickle)
        except NotMoved as why:
            complain(f"{found.id} in {found.queue} stays where it is: {why}")
            return False
        return True


async def _move(source: str, queues: tuple[str, ...], dry_run: bool, mover: _Mover) -> list[dict[str, Any]]:
    theirs = await RqSource.open(source)
    try:
        counts = []
        for queue in queues or await theirs.queues():
            row = {"queue": queue, "waiting": await theirs.count(queue), "moved": 0, "left": 0}
            if not dry_run:
                await _move_queue(theirs, queue, mover, row)
            counts.append(row)
        return counts
    finally:
        theirs.close()


async def _move_queue(theirs: RqSource, queue: str, mover: _Mover, row: dict[str, Any]) -> None:
    refused: list[Found] = []
    tries = row["waiting"]
    while tries and (found := await theirs.take(queue)) is not None:
        tries -= 1
        if mover.move(found):
            await theirs.done(found)
            row["moved"] += 1
        else:
            await theirs.give_back(found)
            refused.append(found)
    later = 0
    while (found := await theirs.scheduled(queue, later)) is not None:
        if mover.move(found):
            await theirs.done(found)
            row["moved"] += 1
        else:
            refused.append(found)
            later += 1
    row["left"] = len({found.id for found in refused})


def _told(row: dict[str, Any]) -> str:
    if not row["moved"] and not row["left"]:
        return f"{row['waiting']} waiting"
    return f"{row['moved']} moved" + (f", {row['left']} left in RQ" if row["left"] else "")
