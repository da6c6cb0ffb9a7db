"""What follows from settings by plain reckoning, and how a few of their texts are read: pure, and free of pydantic.

The models of the file (`settings`, `pool_table`) and the plain objects that children are handed (`given`) both
inherit these properties, so that a rule stands once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from rrqd.model.queue_patterns import plain_names

MOST_THREADS = 64


def split_address(address: str) -> tuple[str, int]:
    """`127.0.0.1:9464` or `[::1]:9464` -> (host, port); port 0 means any free one. Raises ValueError."""
    host, separator, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError('an IPv6 host stands in brackets: "[::1]:9464"')
    if not separator or not host or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise ValueError('must be "host:port" with a port from 0 to 65535, for example "127.0.0.1:9464"')
    return host, int(port)


def cpu_numbers(text: str) -> set[int]:
    """`0-3,5` -> {0, 1, 2, 3, 5}. Raises ValueError."""
    numbers: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not (first.isdecimal() and (last or first).isdecimal()) or int(last or first) > 4095:
            raise ValueError('must be "all", "spread", or processors like "0-3,5"')
        numbers.update(range(int(first), int(last or first) + 1))
    if not numbers:
        raise ValueError(f'"{text}" names no processor')
    return numbers


def inherits_socket(choice: str, cmd: Sequence[str]) -> bool:
    """Whether a runner gets a connected socket from its worker: only a runner of ours knows what to do with one.

    `choice` is the pool's `runner_socket`, `cmd` the runner's program and arguments.
    """
    if choice != "auto":
        return choice == "inherited"
    words = [PurePath(word).name for word in cmd[:4]]
    return words[:2] == ["rrqd", "runner"] or words[1:] == ["-m", "rrqd", "runner"]


def bound_queue(runner: str) -> str:
    """Where jobs wait that name this runner and came by another queue than its own: of `node#resize`, `node#`."""
    return f"{runner}#"


def homes(pools: Mapping[str, PoolShape], default_runner: str) -> dict[str, str]:
    """Runner, as jobs name it -> the queue where its pool will find them. Handlers answer to the name of the default
    runner, and to `python`, where no runner has that name."""
    found = {pool.runner: bound_queue(pool.runner) for pool in pools.values() if pool.runner is not None}
    for name in ("python", default_runner):
        if any(pool.runner is None and bound_queue(name) in pool.queues for pool in pools.values()):
            found.setdefault(name, bound_queue(name))
    return found


class DaemonShape:
    """Of the `[rrqd]` table."""

    if TYPE_CHECKING:  # else they would count as the model's fields, and come first
        http: str

    @property
    def http_address(self) -> tuple[str, int] | None:
        """(host, port) to listen on, or None when HTTP is off."""
        return None if self.http in ("", "off") else split_address(self.http)


class PoolShape:
    """Of a `[rrqd.pools.<name>]` table."""

    if TYPE_CHECKING:
        threads: int | None
        concurrency: int
        processes: int
        min_processes: int | None
        max_processes: int | None
        runner: str | None
        queues: list[str]

    @property
    def named_queues(self) -> list[str]:
        """Its queues without the patterns."""
        return plain_names(self.queues)

    @property
    def thread_count(self) -> int:
        """Size of the thread lane for handlers that are not async."""
        return self.threads if self.threads is not None else min(self.concurrency, MOST_THREADS)

    @property
    def process_count(self) -> int:
        """How many workers the pool starts with."""
        if self.max_processes is None:
            return self.processes
        return min(max(self.processes, self.min_processes or 1), self.max_processes)
