"""Lists of names that a job carries, as a caller gives them. Pure; raises InvalidRequest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rrqd.exc import InvalidRequest
from rrqd.model import checks

#: Tags of one job. Each is an entry of its own in an index.
MAX_TAGS = 32
MAX_TAG_BYTES = 200
MAX_THROTTLES = 8
MAX_THROTTLE_BYTES = 200
MAX_GROUP_BYTES = 200
MAX_TENANT_BYTES = 200
#: What the name of a queue's own throttle begins with.
QUEUE_THROTTLE = "queue:"


def read_tags(value: Any) -> tuple[str, ...]:
    """The tags of a job, each once, in the order given."""
    return read_names(value, "tags", MAX_TAGS, MAX_TAG_BYTES)


def read_throttles(value: Any) -> tuple[str, ...]:
    """The throttles of a job, each once. A queue's own (``queue:…``) is not a job's to name."""
    names = read_names(value, "throttles", MAX_THROTTLES, MAX_THROTTLE_BYTES)
    for name in names:
        if name.startswith(QUEUE_THROTTLE):
            raise InvalidRequest(f"throttles entry {name!r} is a queue's own; the jobs of the queue have it already")
    return names


def read_group(value: Any) -> str:
    """The name of a group of failures."""
    return checks.name(value, "group", MAX_GROUP_BYTES)


def read_tenant(value: Any) -> str:
    """The name of a tenant."""
    return checks.name(value, "tenant", MAX_TENANT_BYTES)


def read_names(value: Any, what: str, most: int, most_bytes: int = checks.MAX_NAME_BYTES) -> tuple[str, ...]:
    """A list of at most ``most`` different names, in the order given."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise InvalidRequest(f"{what} must be a list of text, not {value!r}")
    names = tuple(dict.fromkeys(checks.name(item, f"{what} entry", most_bytes) for item in value))
    if len(names) > most:
        raise InvalidRequest(f"{what} has {len(names)} entries; a job can have {most}")
    return names
