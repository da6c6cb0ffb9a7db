"""`rrqd init [DIR]`: a first rrq.toml and jobs.py, which run as they are."""

from __future__ import annotations

from pathlib import Path

import click

from rrqd.cli.invocation import json_option
from rrqd.cli.output import emit

CONFIG_TEXT = """\
# Configuration of rrqd. All keys with their defaults: docs/configuration.md, or `rrqd config show`.
# Editors complete and check this file with a schema: `rrqd config schema > rrq.schema.json`, and this as line 1:
#:schema ./rrq.schema.json

[rrq]
# The Redis or Valkey to use. While this is left out, rrqd starts a Valkey of its own on localhost:6379.
# redis_dsn = "redis://localhost:6379/0"

# Longest run of a job, and how often it is tried in all, unless the job says otherwise.
default_job_timeout_seconds = 300
default_max_retries = 5

[rrqd]
# Where sandboxes and the embedded server's data lie; relative to this file. Keep it out of version control.
state_dir = ".rrqd"

# Metrics, health and dashboard; "off" for none.
http = "127.0.0.1:9464"

[rrqd.pools.default]
# jobs.py beside this file, and the object `registry` in it.
handlers = "jobs:registry"
queues = ["default"]

# Worker processes, and jobs that each of them runs at the same time.
processes = 1
concurrency = 10
"""

JOBS_TEXT = '''\
"""The handlers of this application. `rrq.toml` names this module; rrqd imports it in every worker."""

import asyncio
import sys

from rrqd.registry import Registry

registry = Registry()


@registry.handler
async def hello(request):
    """A job. What it returns is the result; what it raises makes it run again later."""
    return f"Hello, {request.params.get('name', 'world')}!"


async def say_hello(name):
    """Enqueue one job and wait for its result: `python jobs.py Ada`, while rrqd is running."""
    from rrqd.client import RRQClient  # here, because a worker has no use for it

    client = RRQClient(config_path="rrq.toml")
    try:
        job_id = await client.enqueue("hello", {"params": {"name": name}})
        done = await client.wait_for_completion(job_id, timeout_seconds=10)
        print(done.result if done else f"job {job_id} is not done yet; is rrqd running?")
    finally:
        await client.close()


if __name__ == "__main__":
    asyncio.run(say_hello(sys.argv[1] if len(sys.argv) > 1 else "world"))
'''

FILES = {"rrq.toml": CONFIG_TEXT, "jobs.py": JOBS_TEXT}


@click.command()
@click.argument("directory", metavar="[DIR]", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Replace files that are there.")
@json_option
def init(directory: Path, force: bool, as_json: bool) -> None:
    """Write a first rrq.toml and jobs.py into DIR (default: here).

    They run as they are, with an embedded server. Files that exist are left alone unless --force is given.
    """
    present = [str(directory / name) for name in FILES if (directory / name).exists()]
    if present and not force:
        raise click.ClickException(f"{', '.join(present)} already there; nothing was written (--force replaces)")
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in FILES.items():
        (directory / name).write_text(text, encoding="utf-8")
    emit({"written": [str(directory / name) for name in FILES]}, as_json, lambda: _say_what_next(directory))


def _say_what_next(directory: Path) -> None:
    click.echo(f"Wrote {directory / 'rrq.toml'} and {directory / 'jobs.py'}.\n\nNext:")
    if directory != Path("."):
        click.echo(f"  cd {directory}")
    click.echo("  rrqd                  start the daemon; Ctrl-C ends it")
    click.echo("  python jobs.py Ada    in another terminal: enqueue a job and see its result")
