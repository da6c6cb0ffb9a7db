"""``rrqd reqless-worker``: the daemon by the flags of ``reqless-py-worker``, without a file of one's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from rrqd.cli.invocation import Invocation
from rrqd.cli.main import run_daemon
from rrqd.exc import ConfigError
from rrqd.model.checks import MAX_SECONDS
from rrqd.reqless.flags import DAY_SECONDS, Flags, in_flags, settings_of
from rrqd.rq.connection import DSN_VARIABLE


@click.command("reqless-worker")
@click.option(
    "-q", "--queue", "queues", metavar="NAME", multiple=True, required=True, help="Its jobs; may be repeated."
)
@click.option(
    "-w", "--workers", metavar="N", type=click.IntRange(0, 1024), default=0, help="Processes; 0: as processors."
)
@click.option(
    "-g", "--greenlets", metavar="N", type=click.IntRange(0, 1000), default=0,
    help="Jobs at a time in each process; 0: one, alone, in its sandbox.",
)  # fmt: skip
@click.option("-m", "--import", "imports", metavar="MODULE", multiple=True, help="Imported first; its classes may run.")
@click.option("-p", "--path", "paths", metavar="DIR", multiple=True, help="Import from it; the classes in it may run.")
@click.option("--allow", metavar="PATTERN", multiple=True, help="Classes that may run as well, as shop.jobs.*")
@click.option(
    "-d", "--workdir", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path), default=".",
    help="Where to work; also where what is kept lies.",
)  # fmt: skip
@click.option("-n", "--name", metavar="NAME", help="What it is called. Left out: as its queues.")
@click.option("--host", metavar="HOST", help="The server, or its whole URL. Left out: $RRQ_REDIS_DSN, then localhost.")
@click.option("--port", metavar="PORT", type=click.IntRange(1, 65_535), help="Its port, 6379.")
@click.option(
    "-i", "--interval", metavar="SECONDS", type=click.FloatRange(0.1, 3600), default=60.0,
    help="How often to look though nothing woke it.",
)  # fmt: skip
@click.option("-r", "--resume", is_flag=True, help="As always: what a run that died had in hand goes back first.")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.IntRange(1, MAX_SECONDS),
    default=DAY_SECONDS,
    help="Longest run of a job.",
)
@click.option("--http", metavar="ADDRESS", default="off", help="Metrics, health and dashboard; off.")
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
def reqless_worker(**given: Any) -> int:
    """Run job classes of reqless in supervised processes, by reqless-py-worker's flags.

    What the flags mean is written to DIR/reqless-workers/NAME/rrq.toml, so every other command works with it:
    rrqd --config reqless-workers/NAME/rrq.toml status. TERM or Ctrl-C ends it when its jobs are done.
    """
    import tomli_w

    flags = Flags(**given)
    file = flags.folder / "rrq.toml"
    write(file, tomli_w.dumps(settings_of(flags)))
    if flags.host is not None or flags.port is not None:
        os.environ.pop(DSN_VARIABLE, None)  # what is said here counts more
    try:
        return run_daemon(Invocation(config_path=str(file)))
    except ConfigError as fault:
        raise ConfigError(f"reqless-worker: {in_flags(str(fault).removeprefix(f'{file}:'))}") from None


def write(file: Path, text: str) -> None:
    """For this user's eyes only: the server's URL may have a password in it."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text(text, encoding="utf-8")
    draft.replace(file)
