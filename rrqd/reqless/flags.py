"""The flags of ``reqless-py-worker`` in the daemon's words: a pool, and the settings around it.

Rule 1: classes are imported by name, so what may be run is said: the modules of ``--import``, what lies in the folders
        of ``--path`` when it starts, and what ``--allow`` adds. Nothing at all is no answer.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rrqd.exc import ConfigError
from rrqd.reqless.client import DEFAULT_URL
from rrqd.reqless.record import KEPT_SECONDS
from rrqd.rq.reference import PREFIX

FOLDER = "reqless-workers"
#: reqless has no limit of time for a job; ours is this long unless ``--timeout`` says otherwise.
DAY_SECONDS = 86_400
MOST_NAME = 32
#: What a key of the tables comes from.
FLAGS = {"queues": "--queue", "redis_dsn": "--host", "http": "--http", "handlers": "--allow", "preload": "--import"}


@dataclass(frozen=True, kw_only=True)
class Flags:
    """As they were given; times are seconds. ``greenlets`` 0: one job at a time, alone in its process."""

    queues: Sequence[str]
    workers: int = 0
    greenlets: int = 0
    interval: float = 60
    resume: bool = False  # rrqd always does
    imports: Sequence[str] = ()
    paths: Sequence[str] = ()
    allow: Sequence[str] = ()
    workdir: Path = Path(".")
    name: str | None = None
    host: str | None = None
    port: int | None = None
    http: str = "off"
    timeout: int = DAY_SECONDS
    verbose: bool = False

    @property
    def called(self) -> str:
        """What its pool and its folder are called: the name given, else its queues'."""
        queues = "-".join(self.queues).replace("*", "all").replace("!", "not-")
        plain = re.sub(r"[^A-Za-z0-9_-]+", "-", self.name or queues).strip("-")
        return plain[:MOST_NAME] or "worker"

    @property
    def folder(self) -> Path:
        """Where its configuration, its sandboxes and its control socket lie."""
        return self.workdir.absolute() / FOLDER / self.called

    @property
    def dsn(self) -> str:
        """The server: ``--host`` may be a whole URL, as in reqless, or a host."""
        host = self.host or ""
        if "://" in host:
            if self.port is not None:
                raise ConfigError(f"reqless-worker: --port {self.port} beside --host {host}: write it into the URL")
            return host
        return f"redis://{host or 'localhost'}:{self.port or 6379}" if host or self.port else DEFAULT_URL


def settings_of(flags: Flags) -> dict[str, Any]:
    """The tables of an rrq.toml. Raises ConfigError when no class at all may be run."""
    folders = [str(Path(one).absolute()) for one in flags.paths]
    allow = allowed(flags)
    for module in flags.imports:
        if not found(module, folders):
            raise ConfigError(
                f'reqless-worker: --import {module}: there is no module "{module.partition(".")[0]}" on the import '
                "path; name the folder in which it lies with --path"
            )
    alone = flags.greenlets == 0
    work = {"isolation": "process"} if alone else {"concurrency": flags.greenlets, "threads": flags.greenlets}
    pool: dict[str, Any] = {
        "queues": list(dict.fromkeys(flags.queues)),
        "queue_order": "buckets",
        "handlers": PREFIX + ",".join(allow),
        "processes": flags.workers or "auto",
        "preload": list(dict.fromkeys(flags.imports)),
        "cwd": str(flags.workdir.absolute()),
        **work,
    }
    if flags.paths:
        before = os.environ.get("PYTHONPATH")
        pool["environment"] = {"PYTHONPATH": os.pathsep.join([*folders, *([before] if before else [])])}
    return {
        "rrq": {
            "redis_dsn": flags.dsn,
            "default_job_timeout_seconds": flags.timeout,
            "default_result_ttl_seconds": KEPT_SECONDS,
        },
        "rrqd": {
            "state_dir": str(flags.folder / "state"),
            "embedded": "never",
            "http": flags.http,
            "idle_poll_seconds": flags.interval,
            "quit_drains": True,
            "log_level": "debug" if flags.verbose else "info",
            "pools": {flags.called: pool},
        },
    }


def in_flags(why: str) -> str:
    """What is wrong with those tables, in the words of who gave flags."""

    def name(found: re.Match[str]) -> str:
        return FLAGS.get(found[1], found[0])

    return re.sub(r"^\d+: \[[^]]+\] (\w+)[^:]*", name, why)


def allowed(flags: Flags) -> list[str]:
    """Patterns of the classes that may be run."""
    modules = [*flags.imports, *(name for folder in flags.paths for name in modules_in(Path(folder)))]
    patterns = [f"{name}.*" for name in dict.fromkeys(modules)]
    patterns += flags.allow
    if not patterns:
        raise ConfigError(
            "reqless-worker: no class may be run: name its module with --import, its folder with --path, or a pattern "
            "with --allow (reqless runs whatever a job names, which is --allow '*')"
        )
    return patterns


def found(module: str, folders: Sequence[str]) -> bool:
    """Whether there is such a module, or its package; nothing is imported."""
    top = module.partition(".")[0]
    return top.isidentifier() and bool(PathFinder.find_spec(top, folders) or find_spec(top))


def modules_in(folder: Path) -> list[str]:
    """Modules and packages that lie in a folder."""
    if not folder.is_dir():
        raise ConfigError(f"reqless-worker: --path {folder}: there is no such folder")
    names = [one.stem if one.suffix == ".py" else one.name for one in folder.iterdir() if _is_code(one)]
    return sorted(name for name in names if name.isidentifier())


def _is_code(path: Path) -> bool:
    return path.suffix == ".py" or (path.is_dir() and any(path.glob("*.py")))
