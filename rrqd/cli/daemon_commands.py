"""Commands to the daemon on this machine: reload, scale, pause, resume, restart, dump, crashes, stop."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import click

from rrqd.cli.daemon_line import CommandRefused, NoDaemon, state_dir_of, tell
from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import complain, emit, fields, printable, table
from rrqd.cli.rows import shorten
from rrqd.cli.watching import watch_option
from rrqd.supervisor.dossier import FILE_NAME, read
from rrqd.supervisor.house import LOCK_NAME
from rrqd.supervisor.process import take_lock

LOOK_SECONDS = 0.2
FAILURES_MOST = 3
"""Deaths of a pool's new workers, one after the other, after which nobody waits for them any more."""


@click.command("reload")
@click.option("--config-only", is_flag=True, help="Keep the workers of pools whose settings did not change.")
@click.option("--wait", is_flag=True, help="Until all workers are of the new generation.")
@config_option
@json_option
@click.pass_obj
def reload(invocation: Invocation, config_only: bool, wait: bool, as_json: bool) -> int:
    """Read the configuration again and replace the workers, a few at a time; running jobs are finished.

    As SIGHUP, but says how it ended: exit 0 when the new generation is in force, 1 when the old one stays, and why.
    With --wait also 1 when workers of the new one have failed three times in a row.
    """
    answer = tell(invocation, None, command="reload", config_only=config_only)
    generation = answer["generation"]
    while wait:
        pools = tell(invocation, command="status")["status"]["pools"]
        if failing := {name: pool for name, pool in pools.items() if pool["failures"] >= FAILURES_MOST}:
            for name, pool in failing.items():
                complain(f"rrqd: new workers of pool {name} do not stay: {pool['last_error']}; see rrqd crashes")
            return 1
        if all(pool["ready"] == pool["processes"] and _all_ready(pool) for pool in pools.values()):
            break
        time.sleep(LOOK_SECONDS)
    emit(answer, as_json, lambda: click.echo(f"generation {generation} is in force"))
    return 0


def _all_ready(pool: dict[str, Any]) -> bool:
    """Nobody starts any more, and nobody of an older generation goes on: not even until the next try to replace it."""
    return all(slot["phase"] == "ready" and slot["generation"] == pool["generation"] for slot in pool["slots"])


def _sizes(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> list[dict[str, Any]]:
    """``pool=4``, ``pool=+1`` or ``pool=-1``."""
    sizes = []
    for value in values:
        pool, _, text = value.partition("=")
        try:
            number = int(text)
        except ValueError:
            pool = ""
        if not pool:
            raise click.UsageError(f'"{value}" is not POOL=N; write default=4, or default=+1')
        sizes.append({"pool": pool, "change" if text[0] in "+-" else "processes": number})
    return sizes


@click.command("scale")
@click.argument("sizes", metavar="POOL=N …", nargs=-1, required=True, callback=_sizes)
@config_option
@json_option
@click.pass_obj
def scale(invocation: Invocation, sizes: list[dict[str, Any]], as_json: bool) -> int:
    """Change the number of workers: default=4, default=+1, default=-1.

    It holds until the daemon ends, or a reload brings another number in the file. Workers that go finish their jobs.
    """
    answers = [tell(invocation, command="scale", **size) for size in sizes]

    def show() -> None:
        for one in answers:
            click.echo(f"pool {one['pool']}: {one['before']} → {one['processes']} processes")

    emit(answers, as_json, show)
    return 0


@click.command("upgrade")
@config_option
@json_option
@click.pass_obj
def upgrade(invocation: Invocation, as_json: bool) -> int:
    """Let the running master become the rrqd that is installed now, with the same pid and the same workers.

    As SIGUSR2, but says how it ended: exit 0 when the new one goes on, 1 when it can't and nothing has changed.
    """
    answer = tell(invocation, 120.0, command="upgrade")
    emit(answer, as_json, lambda: click.echo("the new rrqd goes on; rrqd reload gives the workers its code, too"))
    return 0


@click.command("pause")
@click.argument("pool", required=False)
@config_option
@json_option
@click.pass_obj
def pause(invocation: Invocation, pool: str | None, as_json: bool) -> int:
    """Let a pool, or all of them, take no more jobs. What runs goes on.

    It answers when all workers have heard it and no job is on its way to them any more. Those that have not said so
    within two seconds (one hangs, or waits for a lost server) are named; they will hear it as soon as they can.
    """
    return _show_paused(tell(invocation, command="pause", pool=pool), as_json)


@click.command("resume")
@click.argument("pool", required=False)
@config_option
@json_option
@click.pass_obj
def resume(invocation: Invocation, pool: str | None, as_json: bool) -> int:
    """Let a pool, or all of them, take jobs again."""
    return _show_paused(tell(invocation, command="resume", pool=pool), as_json)


def _show_paused(answer: dict[str, Any], as_json: bool) -> int:
    names = ", ".join(answer["paused"])

    def show() -> None:
        click.echo(f"paused: {names}" if names else "no pool is paused")
        if unheard := answer.get("unheard"):
            click.echo(f"not heard yet by {', '.join(unheard)}; they take no more jobs once they have", err=True)

    emit(answer, as_json, show)
    return 0


@click.command("restart")
@click.argument("who", metavar="[POOL[/SLOT]]", required=False)
@config_option
@json_option
@click.pass_obj
def restart(invocation: Invocation, who: str | None, as_json: bool) -> int:
    """Replace workers by fresh ones of the same code, a few at a time: all, a pool's, or one."""
    pool, separator, slot = (who or "").partition("/")
    if separator and not (pool and slot.isdecimal()):
        raise click.UsageError(f'"{who}" is not POOL/SLOT, for example default/0')
    number = int(slot) if separator else None
    answer = tell(invocation, command="restart", pool=pool or None, slot=number)
    emit(answer, as_json, lambda: click.echo(f"being replaced: {', '.join(answer['workers'])}"))
    return 0


@click.command("dump")
@config_option
@json_option
@click.pass_obj
def dump(invocation: Invocation, as_json: bool) -> int:
    """Print what every process is doing: threads, asyncio tasks with their jobs, raw stacks. It is logged, too."""
    entries = tell(invocation, command="dump")["entries"]

    def show() -> None:
        for who in dict.fromkeys(entry["child"] for entry in entries):
            mine = [entry for entry in entries if entry["child"] == who]
            click.secho(f"{who} (pid {mine[0]['pid']})", bold=True)
            for entry in mine:
                _show_entry({key: value for key, value in entry.items() if key not in ("child", "pid")})

    emit(entries, as_json, show)
    return 0


def _show_entry(entry: dict[str, Any]) -> None:
    stack = entry.pop("stack", "")
    head = "  ".join(f"{key} {value}" for key, value in entry.items() if value not in (None, ""))
    click.echo(f"  {printable(head)}" if head else "  raw stacks")
    for line in stack if isinstance(stack, list) else str(stack).splitlines():
        click.echo(f"    {printable(str(line))}")


@click.command("crashes")
@click.option(
    "--limit", metavar="N", type=click.IntRange(1, 100), default=10, show_default=True, help="At most this many."
)
@click.option("--full", is_flag=True, help="All that is known of each, with the last stack.")
@config_option
@json_option
@watch_option
@click.pass_obj
def crashes(invocation: Invocation, limit: int, full: bool, as_json: bool) -> int:
    """Show how processes died lately, the newest first: why, with what jobs, how large, and where they stood."""
    found = _crashes(invocation, limit)
    emit(found, as_json, lambda: _show_crashes(found, full))
    return 0


def _crashes(invocation: Invocation, limit: int) -> list[dict[str, Any]]:
    """The daemon's own list; when none runs, what an earlier one has left in its file."""
    try:
        return list(tell(invocation, command="crashes", limit=limit)["crashes"])
    except NoDaemon:
        kept = state_dir_of(invocation) / FILE_NAME
        if not kept.exists():
            raise
        return read(kept)[-limit:][::-1]


def _show_crashes(found: list[dict[str, Any]], full: bool) -> None:
    if not found:
        complain("nothing has died abnormally")
    elif full:
        for one in found:
            running = "\n".join(f"{job['job_id']}  {job['function']}  {job['seconds']} s" for job in one["running"])
            fields({**{key: value for key, value in one.items() if value not in (None, "", [])}, "running": running})
            click.echo()
    else:
        rows = [
            (
                str(one["at"])[:19],
                one["who"],
                one["reason"],
                f"{one['age_seconds']:.0f} s",
                one["jobs_done"],
                shorten(", ".join(f"{job['function']} {job['job_id']}" for job in one["running"])),
            )
            for one in found
        ]
        table(("at", "who", "reason", "age", "jobs done", "running"), rows)


@click.command("stop")
@click.option("--now", is_flag=True, help="Hand running jobs back to their queues at once, instead of finishing them.")
@click.option("--no-wait", is_flag=True, help="Do not wait until the daemon has ended.")
@config_option
@json_option
@click.pass_obj
def stop(invocation: Invocation, now: bool, no_wait: bool, as_json: bool) -> int:
    """Stop the daemon, as SIGTERM does; running jobs get stop_timeout_seconds to finish."""
    folder = state_dir_of(invocation)
    answer = tell(invocation, command="stop", step=1 if now else 0)
    if not no_wait:
        give_up_at = time.monotonic() + float(answer["seconds"]) + 60.0
        while not _has_ended(folder):
            if time.monotonic() > give_up_at:
                raise CommandRefused("the daemon is still there; a further rrqd stop --now is harder")
            time.sleep(LOOK_SECONDS)
    emit(answer, as_json, lambda: click.echo("stopping" if no_wait else "stopped"))
    return 0


def _has_ended(folder: Path) -> bool:
    """Whether the master's lock is free."""
    fd = take_lock(folder / LOCK_NAME)
    if fd is None:
        return False
    os.close(fd)
    return True
