"""RRQ's runners as pools: `[rrq.runners.node]` is a pool of worker processes that have a runner in place of handlers.

A runner gets a pool of its own name, unless a pool names it (`runner = "node"`) and so decides its queues and limits.
It serves the queues that `runner_routes` give it; the default runner also serves the default queue, unless a pool with
handlers does. Where such a pool leaves the default runner nothing to serve, it is not started: the handlers run in it.

Pure: tables in, pools and problems out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from ipaddress import ip_address

from rrqd.config.fields import check_pool_name
from rrqd.config.pool_table import BRIDGE, MOST_IN_FLIGHT, PoolSettings
from rrqd.config.rrq_table import RRQSettings, RunnerSettings
from rrqd.config.shapes import bound_queue
from rrqd.model.queue_patterns import may_serve

Path = tuple[str | int, ...]
Pools = Mapping[str, PoolSettings]


def implied(rrq: RRQSettings, pools: Pools) -> dict[str, PoolSettings]:
    """The pools that the runners' tables ask for and `[rrqd.pools]` do not name."""
    named = {pool.runner for pool in pools.values()}
    return {
        name: PoolSettings.model_validate({"runner": name})
        for name in rrq.runners
        if name not in named and name not in pools and (name != rrq.default_runner_name or served(rrq, pools, name))
    }


def served(rrq: RRQSettings, pools: Pools, name: str) -> list[str]:
    """The queues of a runner."""
    queues = [queue for queue, runner in rrq.runner_routes.items() if runner == name]
    default = rrq.default_queue_name
    if name == rrq.default_runner_name and default not in rrq.runner_routes and not _has_handlers(pools, default, rrq):
        queues.append(default)
    return sorted(queues)


def _has_handlers(pools: Pools, queue: str, rrq: RRQSettings) -> bool:
    return any(pool.runner is None and may_serve(_queues(pool, rrq), queue) for pool in pools.values())


def _queues(pool: PoolSettings, rrq: RRQSettings) -> list[str]:
    return pool.queues if "queues" in pool.model_fields_set else [rrq.default_queue_name]


def filled(rrq: RRQSettings, pools: Pools, pool: PoolSettings) -> dict[str, object]:
    """What the runner's table says of its pool, where the pool's own does not."""
    name = pool.runner or ""
    table = rrq.runners[name]
    one_each = len(os.sched_getaffinity(0)) if table.pool_size is None else table.pool_size
    queues = pool.queues if "queues" in pool.model_fields_set else served(rrq, pools, name)
    own = bound_queue(name)
    usual: dict[str, object] = {
        "processes": 1 if rrq.runner_management_mode == "external" else one_each,
        "concurrency": table.max_in_flight,
        "sandbox": False,
    }
    left_out = {key: value for key, value in usual.items() if key not in pool.model_fields_set}
    return {**left_out, "queues": queues if own in queues else [*queues, own]}


def answering(rrq: RRQSettings, pools: Pools) -> dict[str, list[str]]:
    """The queues of handlers beside runners: one pool also takes what names no runner's name but theirs, and was put
    into a runner's queue."""
    runners = {pool.runner for pool in pools.values() if pool.runner is not None}
    names = [name for name in dict.fromkeys(("python", rrq.default_runner_name)) if name not in runners]
    first = next((name for name, pool in pools.items() if pool.runner is None), None)
    if not runners or first is None:
        return {}
    there = {queue for pool in pools.values() if pool.runner is None for queue in pool.queues}
    more = [bound_queue(name) for name in names if bound_queue(name) not in there]
    return {first: [*pools[first].queues, *more]} if more else {}


def problems(rrq: RRQSettings, pools: Pools) -> Iterator[tuple[Path, str]]:
    """What can't be true of runners and their pools at the same time."""
    yield from _of_tables(rrq, pools)
    for name, pool in pools.items():
        path = ("rrqd", "pools", name)
        if pool.runner is None:
            yield from _of_handlers(rrq, pools, path, pool)
            continue
        if pool.runner not in rrq.runners:
            there = ", ".join(rrq.runners) or "none"
            yield (*path, "runner"), f"there is no [rrq.runners.{pool.runner}]; there are: {there}"
        if pool.handlers != BRIDGE:
            yield (*path, "handlers"), "a pool has handlers or a runner, not both"
        if pool.isolation == "process":
            yield (*path, "isolation"), "is for handlers; a runner is a process of its own"
        if "concurrency" in pool.model_fields_set and pool.concurrency > MOST_IN_FLIGHT:
            yield (*path, "concurrency"), f"must be at most {MOST_IN_FLIGHT}: a runner takes no more on one connection"


def _of_tables(rrq: RRQSettings, pools: Pools) -> Iterator[tuple[Path, str]]:
    in_house = ("python", rrq.default_runner_name)
    for queue, name in rrq.runner_routes.items():
        if rrq.runners and name not in rrq.runners and name not in in_house:
            yield (
                ("rrq", "runner_routes", queue),
                f"there is no [rrq.runners.{name}]; there are: {', '.join(rrq.runners)}",
            )
    for name, table in rrq.runners.items():
        path = ("rrq", "runners", name)
        if table.cmd is None and rrq.runner_management_mode == "managed":
            yield (*path, "cmd"), 'missing; needed unless runner_management_mode = "external"'
        if table.tcp_port + (table.pool_size or 1) - 1 > 65535:
            yield (*path, "tcp_port"), "is too high: with pool_size the last process would be above 65535"
        if rrq.runner_management_mode == "external" and not _may_be_on(table):
            yield (*path, "tcp_host"), f'is not loopback; to allow it: allowed_hosts = ["{table.tcp_host}"]'
        if name in implied(rrq, pools):
            try:
                check_pool_name(name)
            except ValueError as fault:
                yield path, f'{fault}; give it one: [rrqd.pools.<name>] with runner = "{name}"'


def _may_be_on(table: RunnerSettings) -> bool:
    host = table.tcp_host
    if host is None or host == "localhost" or host in (table.allowed_hosts or ()):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _of_handlers(rrq: RRQSettings, pools: Pools, path: Path, pool: PoolSettings) -> Iterator[tuple[Path, str]]:
    name = str(path[-1])
    if name in rrq.runners and name != rrq.default_runner_name and all(one.runner != name for one in pools.values()):
        yield path, f'is the name of a runner, too; write runner = "{name}" in place of handlers, or rename one of them'
    for queue in _queues(pool, rrq):
        runner = rrq.runner_routes.get(queue)
        if runner in rrq.runners and runner is not None:
            yield (*path, "queues"), f'"{queue}" belongs to the runner "{runner}" (rrq.runner_routes)'
