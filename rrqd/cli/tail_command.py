"""``rrqd tail``: what happens to jobs, as it happens."""

from __future__ import annotations

import asyncio

import click
import msgspec

from rrqd import clock
from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import complain, json_line, printable, use_colour
from rrqd.cli.rows import shorten
from rrqd.cli.session import dsn_option, open_store, run
from rrqd.exc import StoreError, StoreRefused
from rrqd.model.wanted import Wanted
from rrqd.store.connection import ServerSaid
from rrqd.store.tailing import Move, Tail, short_time

COLOURS = {
    "completed": "green", "buried": "red", "retrying": "yellow", "cancelled": "magenta", "started": "cyan",
}  # fmt: skip
FAILURES = ("buried", "retrying")
QUIET = ("enqueued", "waiting")
"""What is told with --all only."""


@click.command("tail")
@click.option("--queue", metavar="NAME", help="Jobs of this queue.")
@click.option("--function", metavar="NAME", help="Jobs of this function.")
@click.option("--tag", metavar="TAG", help="Jobs with this tag.")
@click.option("--tenant", metavar="NAME", help="Jobs of this tenant.")
@click.option("--worker", metavar="ID", help="Jobs that this worker runs.")
@click.option("--failed", is_flag=True, help="Failures only: runs that come again, and jobs that are buried.")
@click.option("--all", "everything", is_flag=True, help="Also jobs that are enqueued, or wait again.")
@click.option("--count", metavar="N", type=click.IntRange(1), help="End after so many.")
@dsn_option
@config_option
@json_option
@click.pass_obj
def tail(
    invocation: Invocation,
    queue: str | None,
    function: str | None,
    tag: str | None,
    tenant: str | None,
    worker: str | None,
    failed: bool,
    everything: bool,
    count: int | None,
    dsn: str | None,
    as_json: bool,
) -> int:
    """Follow jobs as they start, end and fail, on all machines, until Ctrl-C.

    What starts and ends within a tenth of a second is told as its end. With --json each move is a line of its own.
    """
    said = {"queue": queue, "function": function, "tag": tag, "tenant": tenant, "worker": worker}
    wanted = Wanted.read({word: text for word, text in said.items() if text}, clock.wall())
    try:
        run(_follow(invocation, dsn, wanted, Teller(failed, everything, count, as_json)))
    except (ServerSaid, StoreRefused) as fault:
        raise StoreError(f"{fault}; tail needs the right client|tracking") from None
    return 0


class Teller:
    """Prints moves; counts them."""

    def __init__(self, failed: bool, everything: bool, count: int | None, as_json: bool) -> None:
        self._failed = failed
        self._everything = everything
        self._left = count
        self._as_json = as_json
        self._width = 8

    def tell(self, moves: list[Move]) -> bool:
        """False once it was enough."""
        for move in moves:
            if (move.event in QUIET and not self._everything) or (self._failed and move.event not in FAILURES):
                continue
            click.echo(json_line(msgspec.to_builtins(move)) if self._as_json else self._line(move))
            if self._left is not None:
                self._left -= 1
                if self._left == 0:
                    return False
        return True

    def _line(self, move: Move) -> str:
        self._width = min(24, max(self._width, len(move.function)))
        event = f"{move.event:<9}"
        if use_colour() and move.event in COLOURS:
            event = click.style(event, fg=COLOURS[move.event])
        who = printable(f"{move.function:<{self._width}}  {move.job_id}  {move.queue}")
        return f"{short_time(move.at)}  {event}  {who}  {printable('  '.join(_details(move)))}".rstrip()


def _details(move: Move) -> list[str]:
    told = [_span(move.seconds)] if move.seconds is not None else []
    if move.event in FAILURES:
        told.append(f"attempt {move.attempts}")
    if move.next_run is not None and move.event == "retrying":
        told.append(f"again at {short_time(move.next_run)[:8]}")
    if move.event == "started" and move.worker:
        told.append(move.worker)
    if move.error:
        told.append(shorten(move.error) or "")
    return told


def _span(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


async def _follow(invocation: Invocation, dsn: str | None, wanted: Wanted, teller: Teller) -> None:
    async with open_store(invocation, dsn) as store:
        following = Tail(store, wanted)
        said = asyncio.create_task(_say_when_ready(following, store.endpoint.shown))
        try:
            async for moves, missed in following:
                if not teller.tell(moves):
                    return
                if missed:
                    complain(f"… {missed} more jobs were touched, too many to look at")
        finally:
            said.cancel()


async def _say_when_ready(following: Tail, server: str) -> None:
    await following.ready.wait()
    complain(f"following {server}; Ctrl-C ends it")
