"""A whole process that is one worker: ``rrqd worker run``."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import setproctitle
import structlog
import uvloop

from rrqd import logs
from rrqd.config.pool_table import PoolSettings
from rrqd.config.settings import Settings
from rrqd.exc import ConfigError, RRQError, StoreError
from rrqd.handlers import import_module, load_handlers, load_middlewares, make_importable, warm_up
from rrqd.standalone.attendant import Attendant


@dataclass(frozen=True, kw_only=True)
class WorkOrder:
    """What one worker process is to do. ``settings.rrq.redis_dsn`` is where it goes; ``folder``: the configuration
    file's, importable; ``horizon_seconds``: ``None`` to stay until told to stop."""

    settings: Settings
    pool_name: str
    pool: PoolSettings
    folder: Path
    horizon_seconds: float | None = None


def run(order: WorkOrder) -> int:
    """Be the worker until it is stopped, or out of work. Answers the exit code: 0, or 1 when it could not start.

    Raises ConfigError for handlers that can't be imported.
    """
    rrqd = order.settings.rrqd
    logs.configure("worker", rrqd.log_format, rrqd.log_level)
    setproctitle.setproctitle(f"rrqd: worker {order.pool_name} alone")
    pool = order.pool
    os.environ.update(pool.environment)
    if pool.cwd is not None:
        try:
            os.chdir(pool.cwd)
        except OSError as fault:
            raise ConfigError(f'cwd = "{pool.cwd}": {fault.strerror}') from fault
    make_importable(order.folder)
    for name in pool.preload:
        import_module(name, f'preload = "{name}"')
    handlers = replace(load_handlers(pool.handlers), middlewares=load_middlewares(pool.middleware))
    for spec in pool.warmup:
        warm_up(spec)
    giving_up: list[asyncio.Task[None]] = []
    attendant = Attendant(
        order.settings, pool, handlers, pool_name=order.pool_name, linger=False,
        on_overdue=lambda job_id: giving_up.append(asyncio.create_task(_begin_anew(attendant, job_id))),
    )  # fmt: skip
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_work(attendant, order.horizon_seconds))


async def _begin_anew(attendant: Attendant, job_id: str) -> None:
    """Become a fresh process of the same command: that ends a thread which nothing else can end."""
    log = structlog.get_logger()
    try:
        await attendant.give_up(job_id)
    except StoreError as fault:
        log.warning("worker.last_words_unheard", error=str(fault), what_now="its jobs go back when the lease ends")
    log.warning("worker.begins_anew", why=f"job {job_id} did not let go after its timeout")
    logs.journal().flush()
    os.execv(sys.executable, [sys.executable, "-m", "rrqd", *sys.argv[1:]])


async def _work(attendant: Attendant, horizon_seconds: float | None) -> int:
    log = structlog.get_logger()
    try:
        with attendant.obeying_signals():
            reason = await attendant.run(horizon_seconds=horizon_seconds)
    except RRQError as fault:
        log.error("worker.failed", error=str(fault))
        return 1
    except Exception as fault:
        log.exception("worker.failed", error=str(fault))
        return 1
    log.info("worker.done", why=reason)
    return 0
