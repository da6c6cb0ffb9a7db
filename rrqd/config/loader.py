"""From a file and the environment to `Loaded`, or to one `ConfigError` that lists every mistake.

Where the file is looked for (RRQ's rule): the path given, else `RRQ_CONFIG`, else `rrq.toml` in the current
folder. Before that last one, `RRQ_SETTINGS` may name an object of a program (RRQ's first API; `config/objects.py`).
A `.env` file in that folder or a parent is read first and never replaces a variable that is set.

What of the file counts (RRQ's rule): `[rrq]` if it exists, else the whole file but `[rrqd]`; and `[rrqd]`.

What the environment may replace: `RRQ_REDIS_DSN`, `RRQ_LOG_LEVEL`, `RRQ_CAPTURE_RUNNER_OUTPUT`. Where neither names a
server, a credential of the service manager may: the file `redis_dsn` in `CREDENTIALS_DIRECTORY`.
Everything here is a function of its arguments; only `load` reads the disk.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rrqd.config.explain import explain
from rrqd.config.locate import locate
from rrqd.config.objects import VARIABLE as SETTINGS_VARIABLE
from rrqd.config.objects import is_object, name_of, read_object
from rrqd.config.pool_table import PoolSettings
from rrqd.config.rrq_table import RunnerSettings
from rrqd.config.settings import Problem, Settings
from rrqd.exc import ConfigError

CONFIG_VARIABLE = "RRQ_CONFIG"
DEFAULT_FILE = "rrq.toml"
CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
DSN_CREDENTIAL = "redis_dsn"

# RRQ's older names for keys of [rrq]; the older one wins when both stand there, as in RRQ.
OLDER_NAMES = {"routing": "runner_routes", "cron": "cron_jobs"}
IGNORED = ("worker_concurrency",)

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, the file they are from (absolute), and for each key where its value comes from.

    `origins` maps a dotted key (`rrqd.pools.default.processes`) to `default`, `<file>:<line>`,
    `env <VARIABLE>` or `credential <name>`; keys of tables and of free-form mappings are listed down to the leaf.
    """

    settings: Settings
    path: Path
    origins: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The file's folder: importable for handlers, and what relative paths in the file start from."""
        return self.path.parent


@dataclass(slots=True)
class _Source:
    """The raw tables of one file, and where each key of them stands."""

    label: str
    tables: dict[str, Any]
    lines: dict[KeyPath, int]
    prefix: KeyPath  # what stands before a key of RRQ's in the file: ("rrq",), or () when the root is RRQ's
    older: dict[str, str] = field(default_factory=dict)
    outside: dict[KeyPath, str] = field(default_factory=dict)  # what the file did not decide, and who did

    def line(self, path: KeyPath) -> int | None:
        """The line of the key, or None when the file does not name it."""
        return self.lines.get(self.in_file(path))

    def place(self, path: KeyPath) -> str:
        """`file:line` of the key, or of the nearest table around it; the variable or credential it came from."""
        if path in self.outside:
            return self.outside[path]
        for length in range(len(path), 0, -1):
            line = self.line(path[:length])
            if line is not None:
                return f"{self.label}:{line}"
        return self.label

    def in_file(self, path: KeyPath) -> KeyPath:
        """The path under the names that the file uses: RRQ's root or table, older names of keys."""
        if not path or path[0] != "rrq":
            return path
        rest = path[1:]
        if rest and rest[0] in self.older:
            rest = (self.older[str(rest[0])], *rest[1:])
        return (*self.prefix, *rest)


def load(path: str | os.PathLike[str] | None = None, environ: Mapping[str, str] = os.environ) -> Loaded:
    """Find, read and check the configuration.

    Raises `ConfigError` when there is no file, it can't be read, it is not TOML, or anything in it is wrong;
    the text holds one problem a line.
    """
    environ = {**read_dotenv(Path.cwd()), **environ}
    file = find(path, environ)
    if is_object(file):
        return parse(read_object(file, environ), file, environ, read_credential(environ))
    try:
        text = file.read_bytes().decode()
    except OSError as error:
        raise ConfigError(f"{file}: can't be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: is not UTF-8 text (byte {error.start})") from error
    return parse(text, file, environ, read_credential(environ))


def find(path: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> Path:
    """The file to read, by RRQ's order of places. Raises `ConfigError` when it is not there."""
    if path is not None:
        chosen, why = Path(path), ""
    elif environ.get(CONFIG_VARIABLE):
        chosen, why = Path(environ[CONFIG_VARIABLE]), f" (named by {CONFIG_VARIABLE})"
    elif environ.get(SETTINGS_VARIABLE):
        chosen, why = Path(name_of(environ[SETTINGS_VARIABLE])), f" (named by {SETTINGS_VARIABLE})"
    else:
        chosen, why = Path(DEFAULT_FILE), ""
        if not chosen.exists():
            raise ConfigError(
                f"no {DEFAULT_FILE} in {Path.cwd()}; make one with `rrqd init`, "
                f"or name one with --config or {CONFIG_VARIABLE}"
            )
    if is_object(chosen):
        return chosen.absolute()
    if chosen.is_dir():
        raise ConfigError(f"{chosen}{why}: is a folder, not a file")
    if not chosen.exists():
        raise ConfigError(f"{chosen}{why}: no such file")
    return chosen


def parse(text: str, file: Path, environ: Mapping[str, str], credential: str = "") -> Loaded:
    """The settings in `text`. `file` is for messages, and its folder for relative paths; it is not read.

    `credential`: the DSN that the service manager keeps for us, for a file that names none.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_syntax(str(error), file, text)) from error
    source = _tables(document, locate(text), str(file))
    _overlay(source, environ)
    if credential and "redis_dsn" not in source.tables["rrq"]:
        source.tables["rrq"]["redis_dsn"] = credential
        source.outside["rrq", "redis_dsn"] = f"credential {DSN_CREDENTIAL}"
    settings = _validate(source)
    origins = _origins(settings, source)
    return Loaded(_anchored(settings, file.absolute().parent), file.absolute(), origins)


def embedded_wanted(loaded: Loaded) -> bool:
    """Whether the daemon starts a server of its own; `auto` does when nobody said where Redis is."""
    choice = loaded.settings.rrqd.embedded
    if choice == "auto":
        return loaded.origins.get("rrq.redis_dsn", "default") == "default"
    return choice == "always"


def read_credential(environ: Mapping[str, str]) -> str:
    """The DSN that systemd (`LoadCredential=`) or a container's runtime has laid down for this process; "" for none."""
    folder = environ.get(CREDENTIALS_VARIABLE)
    if not folder:
        return ""
    file = Path(folder, DSN_CREDENTIAL)
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise ConfigError(f"{file}: can't be read: {error.strerror or error}") from error


def read_dotenv(folder: Path) -> dict[str, str]:
    """The variables of the nearest `.env` in `folder` or above it; an unreadable one counts as none."""
    for place in (folder, *folder.parents):
        file = place / ".env"
        if file.is_file():
            try:
                return parse_dotenv(file.read_text(encoding="utf-8", errors="replace"))
            except OSError:
                return {}
    return {}


_DOTENV_LINE = re.compile(
    r"""[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_]\w*)[ \t]*=[ \t]*
        (?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>[^']*)'|(?P<bare>[^\n]*?))[ \t]*(?:[ \t]\#[^\n]*)?$""",
    re.VERBOSE | re.MULTILINE,
)


def parse_dotenv(text: str) -> dict[str, str]:
    """`NAME=value` lines, with optional `export`, quotes and comments; other lines are passed over."""
    found = {}
    for match in _DOTENV_LINE.finditer(text):
        if match["double"] is not None:
            value = re.sub(r"\\(.)", _unescaped, match["double"], flags=re.DOTALL)
        else:
            value = match["single"] if match["single"] is not None else match["bare"]
        found[match["name"]] = value
    return found


def _unescaped(sign: re.Match[str]) -> str:
    return {"n": "\n", "t": "\t", "r": "\r"}.get(sign[1], sign[1])


def _syntax(message: str, file: Path, text: str) -> str:
    """tomllib names the place at the end of its sentence; people and editors look for it at the start."""
    place = re.search(r" \(at line (\d+), column (\d+)\)$", message)
    if place is None:
        return f"{file}:{text.count(chr(10)) + 1}: not valid TOML: {message.removesuffix(' (at end of document)')}"
    return f"{file}:{place[1]}: not valid TOML: {message[: place.start()]} (column {place[2]})"


def _tables(document: dict[str, Any], lines: dict[KeyPath, int], label: str) -> _Source:
    """Split the document into RRQ's table and ours, under the names the models know."""
    problems: list[str] = []
    for name in ("rrq", "rrqd"):
        if not isinstance(document.get(name, {}), dict):
            problems.append(f"{label}:{lines.get((name,), 1)}: {name}: must be a table: [{name}]")
    prefix: KeyPath = ("rrq",) if "rrq" in document else ()
    if prefix:
        # Everything beside the two tables is other programs' business, but not a slip of the pen.
        for name in document:
            if name not in ("rrq", "rrqd") and difflib.get_close_matches(name, ["rrqd"], cutoff=0.75):
                problems.append(f'{label}:{lines.get((name,), 1)}: [{name}]: unknown table; did you mean "rrqd"?')
    if problems:
        raise ConfigError("\n".join(problems))
    outside = {name: value for name, value in document.items() if name != "rrqd"}
    table = dict(document["rrq"] if prefix else outside)
    if {"cron", "cron_jobs"} <= table.keys():  # RRQ knows the newer name only; jobs of the other would never come
        line, name = lines.get((*prefix, "cron"), 1), "rrq.cron" if prefix else "cron"
        raise ConfigError(f"{label}:{line}: [[{name}]]: has entries, and cron_jobs has; write all as [[{name}_jobs]]")
    source = _Source(label, {"rrq": table, "rrqd": document.get("rrqd", {})}, lines, prefix)
    for name in IGNORED:
        table.pop(name, None)
    for old, new in OLDER_NAMES.items():
        if old in table:
            table[new] = table.pop(old)
            source.older[new] = old
    return source


def _overlay(source: _Source, environ: Mapping[str, str]) -> None:
    """Lay the three variables over the tables. An empty one counts as not set."""
    ours = dict(source.tables["rrqd"])
    source.tables["rrqd"] = ours
    for variable, table, key in (
        ("RRQ_REDIS_DSN", "rrq", "redis_dsn"),
        ("RRQ_CAPTURE_RUNNER_OUTPUT", "rrq", "capture_runner_output"),
        ("RRQ_LOG_LEVEL", "rrqd", "log_level"),
    ):
        text = environ.get(variable, "").strip()
        if not text:
            continue
        value: str | bool = text
        if key == "capture_runner_output":
            value = text.lower() in ("1", "true", "yes")
        elif key == "log_level":
            value = {"warn": "warning"}.get(text.lower(), text.lower())
        source.tables[table][key] = value
        source.outside[(table, key)] = f"env {variable}"


def _validate(source: _Source) -> Settings:
    try:
        return Settings.model_validate(source.tables)
    except ValidationError as error:
        problems = explain(error, source.tables)
    raise ConfigError("\n".join(_line_of_text(source, one) for one in _in_order(source, problems)))


def _in_order(source: _Source, problems: list[Problem]) -> list[Problem]:
    """As they stand in the file; what comes from elsewhere last."""

    def position(problem: Problem) -> float:
        if problem.path in source.outside:
            return float("inf")
        path = problem.path
        while path and source.line(path) is None:
            path = path[:-1]
        return source.line(path) or 0

    return sorted(dict.fromkeys(problems), key=position)


def _line_of_text(source: _Source, problem: Problem) -> str:
    """`rrq.toml:12: [rrqd.pools.default] proceses: unknown key; …`, with the names the file uses."""
    names: list[str] = []
    for name in source.in_file(problem.path):
        if isinstance(name, int) and names:
            names[-1] += f"[{name}]"
        else:
            names.append(str(name))
    *table, key = names
    header = f"[{'.'.join(table)}] " if table else ""
    return f"{source.place(problem.path)}: {header}{key}: {problem.message}"


def _origins(settings: Settings, source: _Source) -> dict[str, str]:
    origins: dict[str, str] = {}

    def note(value: Any, path: KeyPath) -> None:
        if isinstance(value, dict) and value:
            for name, inner in value.items():
                note(inner, (*path, name))
            return
        given = path in source.outside or source.line(path) is not None
        origins[".".join(map(str, path))] = source.place(path) if given else "default"

    note(settings.model_dump(mode="json"), ())
    return origins


def _anchored(settings: Settings, folder: Path) -> Settings:
    """Relative folders mean: relative to the file, wherever the daemon was started."""

    def anchored_pool(pool: PoolSettings) -> PoolSettings:
        if pool.cwd is None:
            return pool
        return pool.model_copy(update={"cwd": str(folder / Path(pool.cwd).expanduser())})

    def anchored_runner(runner: RunnerSettings) -> RunnerSettings:
        if runner.cwd is None:
            return runner
        return runner.model_copy(update={"cwd": str(folder / Path(runner.cwd).expanduser())})

    ours = settings.rrqd
    update: dict[str, Any] = {"pools": {name: anchored_pool(pool) for name, pool in ours.pools.items()}}
    if ours.state_dir is not None:
        update["state_dir"] = folder / ours.state_dir.expanduser()
    theirs = settings.rrq
    runners = {name: anchored_runner(runner) for name, runner in theirs.runners.items()}
    return settings.model_copy(
        update={"rrqd": ours.model_copy(update=update), "rrq": theirs.model_copy(update={"runners": runners})}
    )


def client_dsn(loaded: Loaded) -> str:
    """Where a client that reads this file finds the server: the DSN of the file or the environment, else the
    embedded server's address."""
    if embedded_wanted(loaded):
        return f"redis://{loaded.settings.rrqd.embedded_address}/0"
    return loaded.settings.rrq.redis_dsn
