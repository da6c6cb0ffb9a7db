"""The kinds of value a key can have.

Each kind is an annotated type: pydantic checks the plain type, the function here checks the meaning and
says in one sentence what would be right. Every function is pure: text in, the normalised text out, or
`ValueError`. No message repeats a password.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from rrqd.config.shapes import cpu_numbers, split_address
from rrqd.dsn import Endpoint
from rrqd.model.cron import read_schedule, read_zone
from rrqd.redact import redact as redact

QUEUE_PREFIX = "rrq:queue:"
DLQ_PREFIX = "rrq:dlq:"

_POOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_.:-]*(\{[A-Za-z0-9_.:-]+\})?[A-Za-z0-9_.:-]*")
_IDENTIFIERS = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_HANDLERS = re.compile(rf"{_IDENTIFIERS}(?::{_IDENTIFIERS})?")
_PATTERNS = re.compile(r"\s*[\w.*?]+(\s*,\s*[\w.*?]+)*\s*")


class Table(BaseModel):
    """A table of the file: frozen, no unknown keys, no silent conversions (`"4"` is not 4), no nan or inf."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


def _without_prefix(name: str, prefix: str, what: str) -> str:
    short = name.removeprefix(prefix)
    if not short.strip():
        raise ValueError(f"a {what} name can't be empty")
    if short != short.strip() or any(ord(letter) < 32 or ord(letter) == 127 for letter in short):
        raise ValueError(f"a {what} name can't begin or end with a space or hold control characters")
    return short


def short_queue_name(name: str) -> str:
    """`rrq:queue:mail` and `mail` are the same queue: answers `mail`. Raises ValueError on an empty name."""
    return _without_prefix(name, QUEUE_PREFIX, "queue")


def short_dlq_name(name: str) -> str:
    """`rrq:dlq:mail` and `mail` are the same dead-letter queue: answers `mail`."""
    return _without_prefix(name, DLQ_PREFIX, "dead-letter queue")


def check_dsn(dsn: str) -> str:
    """A DSN that a client could use, as far as that can be told without asking anybody."""
    Endpoint.parse(dsn)
    return dsn


def check_address(address: str) -> str:
    """Any `host:port`."""
    split_address(address)
    return address


def check_http(address: str) -> str:
    """`host:port`, or `off` or nothing for no HTTP at all."""
    if address in ("", "off"):
        return address
    return check_address(address)


def check_handlers(spec: str) -> str:
    """`package.module:object`, RRQ's dotted `package.module.object`, or `dotted:` and patterns of functions' names."""
    if spec.startswith("dotted:"):
        if not _PATTERNS.fullmatch(spec.removeprefix("dotted:")):
            raise ValueError('must have patterns of names behind "dotted:", for example "dotted:myapp.jobs.*"')
        return spec
    if not _HANDLERS.fullmatch(spec) or not (":" in spec or "." in spec):
        raise ValueError('must be "module:object", for example "myapp.jobs:registry"')
    return spec


def check_module(name: str) -> str:
    """The dotted name of a module."""
    if not re.fullmatch(_IDENTIFIERS, name):
        raise ValueError('must be the name of a module, for example "pandas"')
    return name


def check_pool_name(name: str) -> str:
    """Pool names become part of worker ids, process titles and metric labels."""
    if not _POOL_NAME.fullmatch(name):
        raise ValueError("a pool's name is 1 to 32 letters, digits, _ or -")
    return name


def check_namespace(namespace: str) -> str:
    """Letters, digits, `_ . : -`, and at most one `{hash tag}`; empty is where RRQ's own clients are."""
    if not _NAMESPACE.fullmatch(namespace):
        raise ValueError("a namespace is letters, digits, _ . : - and at most one {hash tag}")
    return namespace


def check_variable_name(name: str) -> str:
    """The name of an environment variable."""
    if not name or "=" in name or "\0" in name:
        raise ValueError("the name of an environment variable can't be empty or hold = or a NUL")
    return name


def check_variable_value(value: str) -> str:
    """The value of an environment variable."""
    if "\0" in value:
        raise ValueError("the value of an environment variable can't hold a NUL")
    return value


def check_cpus(text: str) -> str:
    """`all`, `spread`, or numbers and ranges as taskset writes them: `0-3,5`."""
    if text not in ("all", "spread"):
        cpu_numbers(text)
    return text


def check_umask(text: str) -> str:
    """Three octal digits, perhaps with a leading 0."""
    if not re.fullmatch("0?[0-7]{3}", text):
        raise ValueError('must be three octal digits, for example "027"')
    return text


def auto_processes(value: object) -> object:
    """`auto` -> the number of processors this process may use."""
    return len(os.sched_getaffinity(0)) if value == "auto" else value


def unlimited(value: object) -> object:
    """`unlimited` -> -1, as setrlimit has it."""
    return -1 if value == "unlimited" else value


def check_glob(pattern: str) -> str:
    """A file pattern whose brackets and braces close."""
    if not pattern:
        raise ValueError("a pattern can't be empty")
    for opening, closing in ("[]", "{}"):
        if pattern.count(opening) != pattern.count(closing):
            raise ValueError(f'the pattern "{pattern}" has an unclosed {opening}')
    return pattern


def check_schedule(schedule: str) -> str:
    """RRQ's 6 or 7 fields with seconds first, cron's 5, or one of the @ words."""
    read_schedule(schedule)
    return schedule


def check_zone(name: str) -> str:
    """The name of a time zone."""
    read_zone(name)
    return name


def check_cron_name(name: str) -> str:
    """Names of cron entries become part of keys, job ids and metric labels."""
    if not name.isprintable() or not name.strip() or len(name.encode()) > 128:
        raise ValueError("a cron entry's name is 1 to 128 bytes of text that can be printed")
    return name


QueueName = Annotated[str, AfterValidator(short_queue_name)]
DlqName = Annotated[str, AfterValidator(short_dlq_name)]
Dsn = Annotated[str, AfterValidator(check_dsn)]
Address = Annotated[str, AfterValidator(check_address)]
HttpAddress = Annotated[str, AfterValidator(check_http)]
HandlerSpec = Annotated[str, AfterValidator(check_handlers)]
ModuleName = Annotated[str, AfterValidator(check_module)]
PoolName = Annotated[str, AfterValidator(check_pool_name)]
Namespace = Annotated[str, AfterValidator(check_namespace)]
VariableName = Annotated[str, AfterValidator(check_variable_name)]
VariableValue = Annotated[str, AfterValidator(check_variable_value)]
Glob = Annotated[str, AfterValidator(check_glob)]
TimeZone = Annotated[str, AfterValidator(check_zone)]
CronName = Annotated[str, AfterValidator(check_cron_name)]
Schedule = Annotated[str, AfterValidator(check_schedule)]
Weight = Annotated[int, Field(ge=1, le=100)]
FilePath = Annotated[Path, Field(strict=False)]
Cpus = Annotated[str, AfterValidator(check_cpus)]
Umask = Annotated[str, AfterValidator(check_umask)]
Processes = Annotated[
    int, BeforeValidator(auto_processes, json_schema_input_type=int | Literal["auto"]), Field(ge=1, le=1024)
]
ResourceLimit = Annotated[
    int, BeforeValidator(unlimited, json_schema_input_type=int | Literal["unlimited"]), Field(ge=-1)
]
