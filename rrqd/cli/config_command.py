"""`rrqd config check | show | schema`: what the configuration says, before anything is started. None needs Redis."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from typing import TYPE_CHECKING, Any

import click

from rrqd.cli import output, stored_config_command
from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.exc import ConfigError

if TYPE_CHECKING:
    from rrqd.config.loader import Loaded
    from rrqd.supervisor.probe import MoldReport

EX_CONFIG = 78
_NAMES_SHOWN = 8
_COLUMNS = ("import", "seconds", "memory", "threads", "sockets", "loops", "children", "verdict")


@click.group()
@config_option
def config() -> None:
    """Check, show or describe the configuration; read and change the part that lies in the store."""


config.add_command(stored_config_command.store)


@config.command()
@config_option
@json_option
@click.pass_obj
def check(invocation: Invocation, as_json: bool) -> int:
    """Read the file and import the handlers of every pool.

    What the daemon imports before it forks workers is imported in a process of its own, which gets
    boot_timeout_seconds; a table says what each import costs and what it leaves behind. Nothing is started and Redis
    is not asked. Exit code 0 if the daemon would start with this, 78 if not.
    """
    try:
        loaded = invocation.load()
    except ConfigError as error:
        if not as_json:
            raise
        output.emit({"ok": False, "problems": str(error).splitlines(), "pools": {}, "molds": {}}, True, lambda: None)
        return EX_CONFIG
    from rrqd.supervisor.probe import probe_molds

    reports = probe_molds(loaded)
    problems = [_placed(loaded, report, problem) for report in reports for problem in report.problems]
    problems += _missing_programs(loaded)
    warnings = [_placed(loaded, report, warning) for report in reports for warning in report.warned]
    warnings += _unserved(loaded)
    by_pool = {pool: report for report in reports for pool in report.pools}
    data = {
        "ok": not problems,
        "file": str(loaded.path),
        "problems": problems,
        "warnings": warnings,
        "pools": {pool: _pool_data(loaded, pool, by_pool[pool]) for pool in loaded.settings.rrqd.pools},
        "molds": {report.mold: {"pools": report.pools, "imports": report.steps} for report in reports},
    }
    output.emit(data, as_json, lambda: _print_check(loaded, reports, problems, warnings))
    return EX_CONFIG if problems else 0


@config.command()
@config_option
@json_option
@click.option("--toml", "as_toml", is_flag=True, help="Print a TOML file with every key.")
@click.pass_obj
def show(invocation: Invocation, as_json: bool, as_toml: bool) -> None:
    """Print every setting in force and where it comes from.

    That is the default, a line of the file, or a variable of the environment. Passwords are never printed.
    """
    if as_json and as_toml:
        raise click.UsageError("--json and --toml exclude each other")
    from rrqd.config import show as view

    loaded = invocation.load()
    if as_toml:
        click.echo(view.as_toml(loaded), nl=False)
        return
    rows = view.as_rows(loaded)
    data = {
        "file": str(loaded.path),
        "settings": view.as_tables(loaded),
        "origins": {row.key: row.origin for row in rows},
    }
    output.emit(
        data,
        as_json,
        lambda: output.table(["key", "from", "value"], [[row.key, row.origin, _value(row.value)] for row in rows]),
    )


@config.command()
@click.option("--json", "_as_json", is_flag=True, expose_value=False, help="Changes nothing: it is JSON anyway.")
def schema() -> None:
    """Print the JSON Schema of rrq.toml, for editors.

    Save it beside the file and put `#:schema ./rrq.schema.json` into the file's first line.
    """
    from rrqd.config.show import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


def _placed(loaded: Loaded, report: MoldReport, problem: str) -> str:
    """The problem with the file and line of the key it is about."""
    table = f"rrqd.pools.{report.pools[0]}"
    pool = loaded.settings.rrqd.pools[report.pools[0]]
    key = problem.split(" ")[0]
    if key not in ("cwd", "preload", "warmup", "middleware"):
        key = "preload" if any(problem.startswith(f"importing {name} ") for name in pool.preload) else "handlers"
    return f"{loaded.origins[f'{table}.{key}']}: [{table}] {problem}"


def _missing_programs(loaded: Loaded) -> list[str]:
    """Runners whose program is not there: their pools would not start."""
    rrq, found = loaded.settings.rrq, []
    for name in dict.fromkeys(pool.runner for pool in loaded.settings.rrqd.pools.values()):
        cmd = rrq.runners[name].cmd if name is not None else None
        if not cmd or rrq.runner_management_mode == "external":
            continue
        table = rrq.runners[name or ""]
        path = (table.env or {}).get("PATH", os.environ.get("PATH"))
        program = cmd[0] if "/" not in cmd[0] else os.path.join(table.cwd or "", cmd[0])
        if shutil.which(program, path=path) is None:
            where = loaded.origins[f"rrq.runners.{name}.cmd"]
            found.append(f"{where}: [rrq.runners.{name}] cmd: there is no program {program}, or it can't be executed")
    return found


def _unserved(loaded: Loaded) -> list[str]:
    """Queues that the file itself puts jobs into, or leaves them to go to, and that no pool of it takes them from."""
    from rrqd.model.queue_patterns import may_serve

    rrq, pools = loaded.settings.rrq, loaded.settings.rrqd.pools
    wanted = [("[rrq] default_queue_name", rrq.default_queue_name)]
    wanted += [(f"[rrq.cron_jobs] {one.name}: queue_name", one.queue_name) for one in rrq.cron_jobs if one.queue_name]
    return [
        f'{key}: no pool serves "{queue}"; its jobs wait, unless another machine takes them'
        for key, queue in wanted
        if pools and not any(may_serve(pool.queues, queue) for pool in pools.values())
    ]


def _pool_data(loaded: Loaded, name: str, report: MoldReport) -> dict[str, Any]:
    pool = loaded.settings.rrqd.pools[name]
    return {
        "handlers": report.handlers,
        "from": pool.handlers,
        "runner": pool.runner,
        "queues": pool.queues,
        "processes": pool.process_count,
        "concurrency": pool.concurrency,
        "mold": report.mold,
        "problem": "; ".join(report.problems) or None,
    }


def _print_check(loaded: Loaded, reports: list[MoldReport], problems: list[str], warnings: list[str]) -> None:
    by_pool = {pool: report for report in reports for pool in report.pools}
    for name in loaded.settings.rrqd.pools:
        if not by_pool[name].problems:
            _print_pool(loaded, name, by_pool[name])
    for report in reports:
        if report.steps:
            click.echo(f"\nimported before the fork: mold {report.mold} (pools {', '.join(report.pools)})")
            output.table(_COLUMNS, [_row(step) for step in report.steps])
    if not reports:
        click.echo("no pools: add a [rrqd.pools.default] table to run Python handlers")
    elif any(report.steps for report in reports):
        click.echo()
    if warnings:
        output.complain("\n".join(f"warning: {warning}" for warning in warnings))
    if problems:
        output.complain("\n".join(problems))
    else:
        click.echo(f"{loaded.path}: ok")


def _print_pool(loaded: Loaded, name: str, report: MoldReport) -> None:
    pool = loaded.settings.rrqd.pools[name]
    names = ", ".join(report.handlers[:_NAMES_SHOWN]) + (", …" if len(report.handlers) > _NAMES_SHOWN else "")
    count = f"{len(report.handlers)} handler{'' if len(report.handlers) == 1 else 's'}"
    found = f"{count} ({names})" if report.handlers else "no handlers"
    what = (
        f"{found} in {pool.handlers}" if pool.runner is None else f"runner {pool.runner}: {_way(loaded, pool.runner)}"
    )
    click.echo(f"pool {name}: {what}; queues {', '.join(pool.queues)}; {pool.process_count} × {pool.concurrency} jobs")


def _way(loaded: Loaded, runner: str) -> str:
    """How a runner comes about."""
    table = loaded.settings.rrq.runners[runner]
    if loaded.settings.rrq.runner_management_mode == "external":
        return f"at {table.tcp_host or '127.0.0.1'}:{table.tcp_port}, started by somebody else"
    return shlex.join(table.cmd or [])


def _row(step: dict[str, Any]) -> list[Any]:
    memory = f"{step['memory_bytes'] / 1_048_576:.1f} MiB"
    counts = [step[what] for what in ("threads", "sockets", "loops", "children")]
    return [step["import"], f"{step['seconds']:.3f}", memory, *counts, step["verdict"]]


def _value(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
