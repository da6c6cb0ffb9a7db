"""``rrqd job priority`` and ``rrqd job deps``: when a job has its turn, and for whom it waits."""

from __future__ import annotations

from typing import Any

import click

from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import complain, emit, fields
from rrqd.cli.session import dsn_option, open_store, run
from rrqd.exc import InvalidRequest, UnknownParent
from rrqd.model import checks
from rrqd.store import Prioritised
from rrqd.store.family import Kinship, Waits


@click.command("priority", context_settings={"ignore_unknown_options": True})
@click.argument("job_id")
@click.argument("priority", type=float, metavar="N")
@dsn_option
@config_option
@json_option
@click.pass_obj
def priority(invocation: Invocation, job_id: str, priority: float, dsn: str | None, as_json: bool) -> int:
    """Change a job's priority to N: higher runs first, 0 is what jobs have without one.

    A waiting job moves to its new place at once. For one that runs or is buried it counts when it next waits. Exit 1
    when it has ended, or there is no such job.
    """
    try:
        wanted = checks.priority(priority)
    except InvalidRequest as fault:
        raise click.UsageError(str(fault)) from None

    async def ask() -> Prioritised:
        async with open_store(invocation, dsn) as store:
            return await store.prioritise(job_id, wanted)

    answer = run(ask())
    words = {
        Prioritised.MOVED: f"waits with priority {priority:g}",
        Prioritised.NOTED: f"has priority {priority:g} when it next waits in a queue",
        Prioritised.TOO_LATE: "had ended already, or is run by a foreign worker",
        Prioritised.UNKNOWN: "there is no such job",
    }
    emit({job_id: answer.value}, as_json, lambda: fields({job_id: words[answer]}))
    return 0 if answer in (Prioritised.MOVED, Prioritised.NOTED) else 1


@click.command("deps")
@click.argument("job_id")
@click.option("--add", multiple=True, metavar="ID", help="Wait for this job, too; may be given many times.")
@click.option("--drop", multiple=True, metavar="ID", help="Wait for this job no more; may be given many times.")
@click.option("--drop-all", is_flag=True, help="Wait for no other job.")
@dsn_option
@config_option
@json_option
@click.pass_obj
def deps(
    invocation: Invocation,
    job_id: str,
    add: tuple[str, ...],
    drop: tuple[str, ...],
    drop_all: bool,
    dsn: str | None,
    as_json: bool,
) -> int:
    """Show for whom a job waits and who waits for it, or change the first.

    Exit 1 when there is no such job, or it does not wait any more.
    """
    if sum([bool(add), bool(drop), drop_all]) > 1:
        raise click.UsageError("--add, --drop and --drop-all are three things; ask for one at a time")
    if add or drop or drop_all:
        return _change(invocation, dsn, job_id, add, drop, as_json)

    async def ask() -> Kinship | None:
        async with open_store(invocation, dsn) as store:
            job = await store.get(job_id)
            return await store.kinship(job) if job is not None else None

    kin = run(ask())
    if kin is None:
        complain(f"there is no job {job_id} (it may have expired)")
        return 1
    emit(kin, as_json, lambda: fields(kin_page(kin)))
    return 0


def kin_page(kin: Kinship) -> dict[str, Any]:
    """The lines for people."""
    page: dict[str, Any] = {}
    parents = [
        f"{one.id}  {one.status.value if one.status is not None else 'gone'}{'  waited for' if one.waited_for else ''}"
        for one in kin.parents
    ]
    page["waits for"] = "\n".join(parents) or "nobody"
    if parents:
        page["if one fails"] = kin.on_parent
    more = kin.children - len(kin.some_children)
    page["who waits for it"] = "\n".join([*kin.some_children, *([f"… {more} more"] if more else [])]) or "nobody"
    return page


def _change(
    invocation: Invocation, dsn: str | None, job_id: str, add: tuple[str, ...], drop: tuple[str, ...], as_json: bool
) -> int:
    async def ask() -> Waits:
        async with open_store(invocation, dsn) as store:
            return await (store.depend(job_id, add) if add else store.undepend(job_id, drop))

    try:
        answer = run(ask())
    except (InvalidRequest, UnknownParent) as fault:
        raise click.UsageError(str(fault)) from None
    words = {
        Waits.WAITS: "waits for others",
        Waits.READY: "waits for nobody; it is in its queue",
        Waits.TOO_LATE: "runs, has ended, or waited for nobody",
        Waits.UNKNOWN: "there is no such job",
    }
    emit({job_id: answer.value}, as_json, lambda: fields({job_id: words[answer]}))
    return 0 if answer in (Waits.WAITS, Waits.READY) else 1
