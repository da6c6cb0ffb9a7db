"""``rrqd status``: the server, who lives, how full the queues are, and what the daemon itself says is wrong."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from typing import Any

import click

from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import emit, fields, table
from rrqd.cli.session import dsn_option, open_store, run

HTTP_SECONDS = 2.0


@click.command("status")
@dsn_option
@config_option
@json_option
@click.pass_obj
def status(invocation: Invocation, dsn: str | None, as_json: bool) -> int:
    """Show what runs. Exit 0 when a node lives and the daemon here (if it answers) is well, else 1."""
    data = run(_look(invocation, dsn))
    emit(data, as_json, lambda: _show(data))
    daemon = data["daemon"]
    living = any(node["lease_seconds"] > 0 for node in data["nodes"])
    return 0 if living and (daemon is None or daemon.get("ok")) else 1


async def _look(invocation: Invocation, dsn: str | None) -> dict[str, Any]:
    settings = invocation.load().settings
    async with open_store(invocation, dsn) as store:
        info = await store.server_info()
        configured = {name for pool in settings.rrqd.pools.values() for name in pool.queues}
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
            "nodes": nodes,
            "workers": [{"worker": one.worker_id, "node": one.node_id, "running": one.held} for one in workers],
            "queues": [
                {
                    "queue": one.name,
                    "due": one.due,
                    "scheduled": one.waiting - one.due,
                    "oldest_due_seconds": round(one.oldest_due_age_seconds, 1),
                }
                for one in depths
            ],
            "dlqs": await store.dlq_sizes(),
            "aside": await store.aside_count(),
            "daemon": await asyncio.to_thread(ask_daemon, settings.rrqd.http),
        }


def ask_daemon(address: str) -> dict[str, Any] | None:
    """What ``/healthz`` of the daemon at ``address`` says; ``None`` when nobody answers there."""
    if address in ("", "off"):
        return None
    try:
        with urllib.request.urlopen(f"http://{address}/healthz", timeout=HTTP_SECONDS) as answer:
            body = json.load(answer)
    except urllib.error.HTTPError as fault:
        try:
            body = json.load(fault)
        except ValueError:
            return None
    except (OSError, ValueError):
        return None
    return body if isinstance(body, dict) else None


def _show(data: dict[str, Any]) -> None:
    server, daemon = data["server"], data["daemon"]
    state = "does not answer" if daemon is None else "well" if daemon.get("ok") else "not ready"
    fields({"server": f"{server['flavour']} {server['version']} at {server['dsn']}", "daemon here": state})
    for problem in (daemon or {}).get("problems", []):
        click.echo(f"  ! {problem['what']} ({problem['where']}): {problem['why']}. What to do: {problem['what_to_do']}")
    click.echo()
    table(("node", "lease s", "workers", "running"), [tuple(node.values()) for node in data["nodes"]])
    click.echo()
    table(("queue", "due", "scheduled", "oldest s"), [tuple(queue.values()) for queue in data["queues"]])
    click.echo()
    table(("dlq", "jobs"), list(data["dlqs"].items()))
    if data["aside"]:
        click.echo(f"{data['aside']} ids were set aside: their keys are no jobs (hash rrqd:aside)")
