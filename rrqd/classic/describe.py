"""``python -m rrqd.classic.describe app.settings 4``: what a settings object says, as the daemon's TOML, on stdout.

Run by ``rrqd.config.objects`` in a process of its own. Whatever the program prints while it is imported goes to stderr.
"""

from __future__ import annotations

import os
import sys

import tomli_w

from rrqd.classic.running import pool_of, tables_of
from rrqd.classic.settings import RRQSettings
from rrqd.exc import ConfigError
from rrqd.handlers import find_object

EX_CONFIG = 78


def describe(spec: str, processes: int | str) -> str:
    """The TOML. Raises ConfigError when there is no such object, or it is of another kind or has no registry."""
    settings = find_object(spec, f"--settings {spec}", RRQSettings)
    if not isinstance(settings, RRQSettings):
        raise ConfigError(f"--settings {spec}: is a {type(settings).__name__}, not an RRQSettings of rrqd.classic")
    tables = tables_of(settings)
    if settings.job_registry is not None:
        pool = pool_of(settings)
        tables["rrqd"]["pools"] = {
            "default": {
                "handlers": spec,
                "queues": pool.queues,
                "processes": processes,
                "concurrency": pool.concurrency,
                "queue_order": pool.queue_order,
            }
        }
    return tomli_w.dumps(tables)


def main() -> int:
    """Say it; answers the exit code."""
    spec, processes = sys.argv[1:3]
    out = os.dup(1)
    os.dup2(2, 1)
    try:
        text, code = describe(spec, int(processes) if processes.isdecimal() else processes), 0
    except ConfigError as fault:
        text, code = str(fault), EX_CONFIG
    with os.fdopen(out, "w", encoding="utf-8") as stdout:
        stdout.write(text)
    return code


if __name__ == "__main__":
    sys.exit(main())
