"""``rrqd worker``: a worker without the daemon, and which workers there are."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from rrqd import logs
from rrqd.cli.invocation import Invocation, config_option
from rrqd.cli.session import dsn_of, dsn_option, run
from rrqd.cli.workers_command import forget, jobs, list_workers
from rrqd.config.pool_table import MOST_IN_FLIGHT, PoolSettings
from rrqd.config.settings import Settings
from rrqd.exc import ConfigError, RRQError
from rrqd.model.job import short_queue_name
from rrqd.model.queue_patterns import may_serve


class MissingExtra(RRQError):
    """A library that only some need is not installed."""


@click.group("worker")
def worker() -> None:
    """Run a worker without the daemon; list workers, and what they run."""


@worker.command("run")
@click.option(
    "--queue", "queues", metavar="NAME", multiple=True, help="Take jobs from this queue only; may be repeated."
)
@click.option("--pool", metavar="NAME", help="Whose handlers and limits to use, when there are several pools.")
@click.option("--burst", is_flag=True, help="End with 0 when nothing runs and no job is due.")
@click.option(
    "--horizon", metavar="SECONDS", type=click.FloatRange(0), help="With --burst: also wait for what comes due so soon."
)
@click.option("--runner-mode", type=click.Choice(["managed", "external"]), help="Replaces rrq.runner_management_mode.")
@click.option("--concurrency", metavar="N", type=click.IntRange(1), help="Jobs at a time. Replaces the pool's.")
@click.option("--num-workers", metavar="N", type=click.IntRange(1, 1024), default=1, help="So many such processes.")
@dsn_option
@config_option
@click.pass_context
def run_worker(
    context: click.Context,
    queues: tuple[str, ...],
    pool: str | None,
    burst: bool,
    horizon: float | None,
    runner_mode: str | None,
    concurrency: int | None,
    num_workers: int,
    dsn: str | None,
) -> int:
    """Run one worker in this process, without the daemon, and log to stderr. TERM or Ctrl-C lets it finish its jobs,
    for at most stop_timeout_seconds; a second one ends it at once.

    It uses the handlers, queues and limits of a pool of the configuration; what a pool says of processes and recycling
    is the daemon's business.
    """
    if horizon is not None and not burst:
        raise click.UsageError("--horizon goes with --burst")
    invocation: Invocation = context.obj
    if num_workers > 1:
        choose_pool(invocation.load().settings, pool, [short_queue_name(queue) for queue in queues])
        return run_crew(invocation, own_words(context, leave_out="num_workers"), num_workers)
    from rrqd.standalone.program import WorkOrder
    from rrqd.standalone.program import run as be_worker

    loaded = invocation.load()
    settings = with_server(loaded.settings, dsn_of(invocation, dsn), runner_mode)
    name, chosen = choose_pool(settings, pool, [short_queue_name(queue) for queue in queues])
    if concurrency is not None:
        chosen = at_a_time(chosen, concurrency)
    return be_worker(
        WorkOrder(
            settings=settings, pool_name=name, pool=chosen, folder=loaded.folder,
            horizon_seconds=(horizon or 0.0) if burst else None,
        )
    )  # fmt: skip


def own_words(context: click.Context, *, leave_out: str) -> list[str]:
    """The options that the command was given, as words again; the configuration is named elsewhere."""
    words: list[str] = []
    for option in context.command.params:
        value = context.params.get(option.name or "")
        if option.name == leave_out or value in (None, False, ()) or not isinstance(option, click.Option):
            continue
        for one in value if isinstance(value, tuple) else (value,):
            words += [option.opts[0]] if option.is_flag else [option.opts[0], str(one)]
    return words


def run_crew(invocation: Invocation, words: list[str], size: int) -> int:
    """Be the parent of so many processes of the same command."""
    import asyncio

    from rrqd.standalone.crew import Crew

    loaded = invocation.load()
    logs.configure("crew", loaded.settings.rrqd.log_format, loaded.settings.rrqd.log_level)
    command = [sys.executable, "-m", "rrqd", "--config", str(loaded.path), "worker", "run", *words]

    async def work() -> int:
        return await Crew(command, size).run()

    return asyncio.run(work())


def with_server(settings: Settings, dsn: str, runner_mode: str | None) -> Settings:
    """The settings with the server that clients use, and perhaps another mode for runners."""
    update = {"redis_dsn": dsn, **({"runner_management_mode": runner_mode} if runner_mode else {})}
    return settings.model_copy(update={"rrq": settings.rrq.model_copy(update=update)})


def choose_pool(settings: Settings, name: str | None, queues: list[str]) -> tuple[str, PoolSettings]:
    """The pool to be, with these queues if any are named: the named one, the only one, or the only one that serves the
    queues. Raises ConfigError."""
    pools = settings.rrqd.pools
    if not pools:
        why = "has neither [rrqd.pools.…] nor, with --settings, a job_registry, so there are no handlers to run"
        raise ConfigError(f"rrqd worker run: the configuration {why}")
    if name is not None and name not in pools:
        raise ConfigError(f'rrqd worker run: there is no pool "{name}"; there are {", ".join(pools)}')
    fitting = [name] if name is not None else list(pools)
    if len(fitting) > 1 and queues:
        fitting = [one for one, pool in pools.items() if all(may_serve(pool.queues, queue) for queue in queues)]
    if len(fitting) != 1:
        raise ConfigError(f"rrqd worker run: say which pool to be with --pool; there are {', '.join(pools)}")
    pool = pools[fitting[0]]
    return fitting[0], pool.model_copy(update={"queues": list(dict.fromkeys(queues))}) if queues else pool


def at_a_time(pool: PoolSettings, jobs: int) -> PoolSettings:
    """The pool with so many jobs at a time. Raises ConfigError for more than its runner takes."""
    if pool.runner is not None and jobs > MOST_IN_FLIGHT:
        raise ConfigError(f"--concurrency {jobs}: a runner takes at most {MOST_IN_FLIGHT} on one connection")
    return pool.model_copy(update={"concurrency": jobs})


@worker.command("watch")
@click.option("--queue", "queues", metavar="NAME", multiple=True, help="Only jobs of this queue; may be repeated.")
@click.option("--pool", metavar="NAME", help="Whose handlers and limits to use, when there are several pools.")
@click.option("--path", metavar="DIR", type=click.Path(), help="Folder to watch. Otherwise: path of [rrq.watch].")
@click.option("--pattern", "patterns", metavar="GLOB", multiple=True, help="Files that count; may be repeated.")
@click.option("--ignore-pattern", "ignored", metavar="GLOB", multiple=True, help="Files and folders that don't.")
@click.option("--no-gitignore", is_flag=True, help="Also files that git ignores.")
@click.option("--runner-mode", type=click.Choice(["managed", "external"]), help="Replaces rrq.runner_management_mode.")
@click.option("--concurrency", metavar="N", type=click.IntRange(1), default=1, help="Jobs at a time; otherwise one.")
@dsn_option
@config_option
@click.pass_obj
def watch_worker(
    invocation: Invocation,
    queues: tuple[str, ...],
    pool: str | None,
    path: str | None,
    patterns: tuple[str, ...],
    ignored: tuple[str, ...],
    no_gitignore: bool,
    runner_mode: str | None,
    concurrency: int,
    dsn: str | None,
) -> int:
    """Run a worker for development, and start it again when files change.

    What counts, and what is run before each restart, stands in [rrq.watch]; options come first. One worker process,
    one job at a time. A restart hands the job that runs back at once. Ctrl-C or TERM ends it.
    """
    loaded = invocation.load()
    choose_pool(loaded.settings, pool, [short_queue_name(queue) for queue in queues])
    words = [*(word for queue in queues for word in ("--queue", queue)), "--concurrency", str(concurrency)]
    for option, value in (("--pool", pool), ("--runner-mode", runner_mode), ("--dsn", dsn)):
        words += [option, value] if value is not None else []
    try:
        from rrqd.standalone.sieve import Sieve
        from rrqd.standalone.watching import Watch, WatchPlan
    except ImportError as missing:
        raise MissingExtra(f'rrqd worker watch needs {missing.name}: pip install "rrqd[watch]"') from None
    settings = loaded.settings.rrq.watch
    root = Path(path) if path is not None else loaded.folder / settings.path
    if not root.is_dir():
        raise ConfigError(f"rrqd worker watch: {root} is no folder")
    plan = WatchPlan(
        root=root.resolve(),
        sieve=Sieve(
            root, patterns or settings.include_patterns, ignored or settings.ignore_patterns,
            gitignore=not (no_gitignore or settings.no_gitignore),
        ),
        command=[sys.executable, "-m", "rrqd", "--config", str(loaded.path), "worker", "run", *words],
        before=settings.pre_restart_cmds,
        before_folder=loaded.folder / settings.pre_restart_cwd if settings.pre_restart_cwd else root.resolve(),
        before_seconds=settings.pre_restart_timeout_seconds,
    )  # fmt: skip
    logs.configure("watch", loaded.settings.rrqd.log_format, loaded.settings.rrqd.log_level)

    async def work() -> int:
        return await Watch(plan).run()

    return run(work())


for command in (list_workers, jobs, forget):
    worker.add_command(command)
