"""``rrqd status``: the server, who lives, how full the queues are, and what the daemon itself says is wrong."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import click

from rrqd.cli.daemon_line import address_of, status_of
from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import complain, emit, fields, table
from rrqd.cli.rows import show_queues
from rrqd.cli.session import dsn_option, open_store, run
from rrqd.cli.watching import watch_option
from rrqd.exc import StoreUnavailable
from rrqd.store.shown import queue_row

HTTP_SECONDS = 2.0
EX_UNAVAILABLE = 69


@click.command("status")
@dsn_option
@config_option
@json_option
@watch_option
@click.pass_obj
def status(invocation: Invocation, dsn: str | None, as_json: bool) -> int:
    """Show the server, the nodes, the queues, the daemon's processes, and what is wrong.

    Exit 0 when a node lives and the daemon here, if it answers, is well; 1 when not; 69 when the server is silent.
    """
    master = status_of(invocation)
    address = address_of(invocation, master)
    daemon = ask_daemon(address)
    try:
        data = {**run(_look(invocation, dsn)), "daemon": daemon, "master": master}
    except StoreUnavailable as fault:
        data = {**EMPTY, "error": str(fault), "daemon": daemon, "master": master}
        emit(data, as_json, lambda: _show_here(daemon, master, address) if daemon or master else None)
        complain(f"rrqd: {fault}")
        return EX_UNAVAILABLE
    emit(data, as_json, lambda: _show(data, address))
    living = any(node["lease_seconds"] > 0 for node in data["nodes"])
    return 0 if living and (daemon is None or daemon.get("ok")) else 1


#: What can't be known without the server.
EMPTY: dict[str, Any] = {
    "server": None, "nodes": [], "workers": [], "queues": [], "dlqs": {}, "aside": None,
}  # fmt: skip


async def _look(invocation: Invocation, dsn: str | None) -> dict[str, Any]:
    settings = invocation.load().settings
    async with open_store(invocation, dsn) as store:
        info = await store.server_info()
        configured = {name for pool in settings.rrqd.pools.values() for name in pool.named_queues}
        depths = await store.queue_depths(sorted(configured | set(await store.queues())))
        workers = await store.workers()
        nodes = [
            {
                "node": node,
                "lease_seconds": round(await store.lease_left(node) or 0.0, 1),
                "workers": sum(worker.node_id == node for worker in workers),
                "running": sum(worker.held for worker in workers if worker.node_id == node),
            }
            for node in await store.nodes()
        ]
        return {
            "server": {"flavour": info.flavour, "version": info.version, "dsn": store.endpoint.shown},
            "error": None,
            "nodes": nodes,
            "workers": [{"worker": one.worker_id, "node": one.node_id, "running": one.held} for one in workers],
            "queues": [queue_row(one) for one in depths],
            "dlqs": await store.dlq_sizes(),
            "aside": await store.aside_count(),
        }


def ask_daemon(address: str) -> dict[str, Any] | None:
    """What ``/healthz`` of the daemon at ``address`` says; ``None`` when nobody answers there."""
    if address in ("", "off"):
        return None
    try:
        # Not through a proxy, whatever the environment says: it is this machine's daemon that is asked.
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"http://{address}/healthz", timeout=HTTP_SECONDS) as answer:
            body = json.load(answer)
    except urllib.error.HTTPError as fault:
        try:
            body = json.load(fault)
        except ValueError:
            return None
    except (OSError, ValueError):
        return None
    return body if isinstance(body, dict) else None


def _show(data: dict[str, Any], address: str) -> None:
    server = data["server"]
    fields({"server": f"{server['flavour']} {server['version']} at {server['dsn']}"})
    _show_here(data["daemon"], data["master"], address)
    click.echo()
    if data["nodes"]:
        headers = ("node", "lease", "workers", "running")
        table(headers, [(one["node"], _lease(one), one["workers"], one["running"]) for one in data["nodes"]])
    else:
        click.echo("no node has a lease: no rrqd runs on this server")
    click.echo()
    show_queues(data["queues"])
    click.echo()
    table(("dlq", "jobs"), list(data["dlqs"].items()))
    if data["aside"]:
        click.echo(f"\n{data['aside']} ids were set aside: their keys are no jobs (hash rrqd:aside)")


def _show_here(daemon: dict[str, Any] | None, master: dict[str, Any] | None, address: str) -> None:
    """What needs no server: how this machine's daemon is, and who is there."""
    _show_daemon(daemon, address)
    if master is not None:
        click.echo()
        _show_processes(master)


def _lease(node: dict[str, Any]) -> str:
    left = node["lease_seconds"]
    return f"{left:.1f} s" if left > 0 else f"ended {-left:.0f} s ago"


def _show_processes(master: dict[str, Any]) -> None:
    """Who is there, as the master of this machine has it; a pool's name is followed by what is odd about it."""
    slots = [slot for pool in master["pools"].values() for slot in pool["slots"]]
    rows = [
        (
            one["title"],
            one["pid"],
            "silent" if one.get("silent") else one["phase"],
            f"{one['age_seconds']:.0f} s",
            f"{one['private_bytes'] / 1048576:.1f} MiB" if one.get("private_bytes") else None,
            one.get("worn") or (f"suspect {one['suspect']}" if one.get("suspect") else None),
        )
        for one in [*master["processes"], *slots]
    ]
    table(("process", "pid", "state", "age", "private", "remark"), rows)
    for name, pool in master["pools"].items():
        if pool["paused"]:
            click.echo(f"pool {name} is paused: rrqd resume {name}")
        if pool["degraded"]:
            click.echo(f"pool {name} is degraded, its workers die faster than they work: rrqd crashes")


def _show_daemon(daemon: dict[str, Any] | None, address: str) -> None:
    if address in ("", "off"):
        fields({"daemon": "not asked (rrqd.http is off)"})
        return
    state = "does not answer" if daemon is None else "well" if daemon.get("ok") else "not ready"
    fields({"daemon": f"{state}, at http://{address}"})
    if daemon is None:
        return
    pools = daemon.get("pools") or {}
    for name, pool in pools.items():
        queues = ", ".join(pool.get("queues") or [])
        fields({"pool": f"  {name}: {pool.get('ready')} of {pool.get('processes')} workers ready; queues {queues}"})
    for problem in daemon.get("problems", []):
        why = str(problem["why"]).rstrip(".")
        click.echo(f"  ! {problem['what']} ({problem['where']}): {why}. What to do: {problem['what_to_do']}")
