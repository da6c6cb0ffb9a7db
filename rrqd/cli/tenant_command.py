"""``rrqd tenant``: how tenants share the turns of a queue."""

from __future__ import annotations

from typing import Any

import click

from rrqd.asking.tenants import read_weight
from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import complain, emit, printable, table
from rrqd.cli.rows import limit_option
from rrqd.cli.session import dsn_option, open_store, run
from rrqd.exc import InvalidRequest
from rrqd.model.job import short_queue_name
from rrqd.model.names import read_tenant


@click.group("tenant")
def tenant() -> None:
    """Show and weigh tenants, whose jobs take turns in a queue."""


@tenant.command("list")
@click.option(
    "--queue", metavar="NAME", help="Tenants that have due jobs in this queue. Left out: those with a weight."
)
@limit_option
@dsn_option
@config_option
@json_option
@click.pass_obj
def list_tenants(invocation: Invocation, queue: str | None, limit: int, dsn: str | None, as_json: bool) -> int:
    """List tenants with their weights; of a queue with about how many of their jobs wait there, most first."""

    async def ask() -> list[dict[str, Any]]:
        async with open_store(invocation, dsn) as store:
            weights = await store.weights()
            if queue is None:
                return [{"tenant": name, "weight": weights[name], "waiting": None} for name in sorted(weights)][:limit]
            found = await store.tenants_of(short_queue_name(queue), most=limit)
            return [
                {"tenant": name, "weight": weights.get(name, 1.0), "waiting": round(count)}
                for name, count in found.items()
                if round(count)
            ]

    rows = run(ask())
    headers = ("tenant", "weight", "waiting")
    emit(rows, as_json, lambda: table(headers, [tuple(row.values()) for row in rows]) if rows
         else complain("no tenant has jobs waiting" if queue is not None else "all tenants have weight 1"))  # fmt: skip
    return 0


@tenant.command("weight")
@click.argument("name", metavar="TENANT")
@click.argument("weight", type=float, metavar="N")
@dsn_option
@config_option
@json_option
@click.pass_obj
def weigh(invocation: Invocation, name: str, weight: float, dsn: str | None, as_json: bool) -> int:
    """Give a tenant N turns for one of the others', in all queues; 1 is what all have without.

    It counts for jobs that come to wait from now on.
    """
    try:
        whose, number = read_tenant(name), read_weight(weight)
    except InvalidRequest as fault:
        raise click.UsageError(str(fault)) from None

    async def ask() -> None:
        async with open_store(invocation, dsn) as store:
            await store.set_weight(whose, number)

    run(ask())
    emit({"tenant": whose, "weight": number}, as_json, lambda: click.echo(f"{printable(whose)} has weight {number:g}"))
    return 0
