"""A configuration that is an object of a program instead of a file: ``--settings app.settings``, of RRQ's first API.

It is named by a path like any other: ``<folder>/settings:app.settings``, or ``…@4`` for a daemon with four workers. So
whoever reads the configuration again (a reload, an upgrade) needs to know nothing of it.

Rule: the object is made in a process of its own, which says what it holds in TOML. Nothing of the program is imported
here; the daemon's master never does that.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from rrqd.exc import ConfigError

PREFIX = "settings:"
VARIABLE = "RRQ_SETTINGS"
DESCRIBER = "rrqd.classic.describe"
TIMEOUT_SECONDS = 30.0


def name_of(spec: str, processes: int | None = None) -> str:
    """The name of the configuration for an object; ``processes``: workers of a daemon, else one a processor."""
    return f"{PREFIX}{spec}" + (f"@{processes}" if processes is not None else "")


def is_object(file: Path) -> bool:
    """Whether a path names an object."""
    return file.name.startswith(PREFIX)


def read_object(file: Path, environ: Mapping[str, str]) -> str:
    """What the object says, as TOML. Raises ConfigError with the reason in one line."""
    spec, _, processes = file.name.removeprefix(PREFIX).partition("@")
    try:
        done = subprocess.run(
            [sys.executable, "-m", DESCRIBER, spec, processes or "auto"],
            cwd=file.parent, env=dict(environ), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            timeout=TIMEOUT_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ConfigError(f"--settings {spec}: importing it took more than {TIMEOUT_SECONDS:g} s") from None
    said = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise ConfigError(said.strip() or f"--settings {spec}: importing it ended the process ({done.returncode})")
    return said
