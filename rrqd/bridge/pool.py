"""What a worker of a runner's pool is given in place of handlers: every name is a call to its runner.

The mold loads ``handlers`` of this module for each pool that has a ``runner``; in the worker, ``prepare`` makes of it
one runner process and its driver, started before the first job and ended after the last.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import structlog

from rrqd.bridge.driver import Driver
from rrqd.bridge.launch import Outside, Runner, Spec
from rrqd.config.shapes import inherits_socket
from rrqd.handlers import LoadedHandlers, WorkerDoor
from rrqd.registry import NO_POLICY, Handler, Registered, Registry

EXIT_NEWS_SECONDS = 0.05
"""The end of a connection is seen a moment before the end of the process, which explains it."""


class EveryName(Registry):
    """A registry that knows no names of its own: whether there is a handler, the runner says."""

    def __init__(self, call: Handler) -> None:
        super().__init__()
        self._call = call

    def get(self, name: str) -> Registered | None:
        """The runner, by whatever name."""
        return Registered(name, self._call, True, NO_POLICY)


class RunnerOfWorker:
    """One worker's runner, from start to end."""

    def __init__(self, door: WorkerDoor) -> None:
        rrq, pool = door.settings.rrq, door.pool
        self.name = pool.runner or door.pool_name
        self._table = rrq.runners[self.name]
        self._rrq = rrq
        self._title = f"{door.pool_name}/{door.slot}"
        self._inherits = inherits_socket(pool.runner_socket, self._table.cmd or [])
        self._capture = rrq.capture_runner_output
        self._door = door
        self._log: Any = structlog.get_logger().bind(runner=self.name)
        self._is_leaving = False
        self._runner: Runner | Outside | None = None
        self.driver = Driver(
            grace_seconds=door.settings.rrqd.timeout_grace_seconds,
            response_timeout_seconds=self._table.response_timeout_seconds,
            on_lost=self._lost,
            on_silent=door.quieten,
            log=self._log,
        )

    async def start(self) -> None:
        """Start the runner, or find it; ready when this returns. Raises ``RunnerFailed``."""
        table, connect_seconds = self._table, self._rrq.runner_connect_timeout_ms / 1000
        if self._rrq.runner_management_mode == "external":
            self._runner = Outside(self.name, table.tcp_host or "127.0.0.1", table.tcp_port, connect_seconds)
            await self._runner.connect(lambda: self.driver.line)
            self._log.info("runner.ready", address=f"{self._runner.host}:{self._runner.port}")
            return
        spec = Spec(
            name=self.name,
            cmd=table.cmd or [],
            environment=table.env or {},
            cwd=table.cwd,
            port=table.tcp_port + self._door.slot,
            inherits=self._inherits,
            connect_seconds=connect_seconds,
            term_grace_seconds=self._rrq.runner_shutdown_term_grace_seconds,
            own_group=self._door.is_alone,
        )
        self._runner = runner = Runner(spec, self._said, self.driver.lose, self._log)
        await runner.connect(lambda: self.driver.line)
        if self._inherits and not await self.driver.greet(runner.exited, connect_seconds):
            raise runner.failure("it has not answered on the socket given as --socket-fd")
        self._log.info("runner.ready", runner_pid=runner.process.pid, port=runner.port or None)

    async def stop(self) -> None:
        """End the runner; its worker has no jobs any more."""
        self._is_leaving = True
        self.driver.abandon()
        if self._runner is not None:
            await self._runner.stop()

    def abandon(self) -> None:
        """The worker ends without ceremony."""
        self._is_leaving = True
        self.driver.abandon()
        if self._runner is not None:
            self._runner.kill()

    def _lost(self, why: str) -> None:
        """At once: what is claimed from now on must not be begun. A runner that is wedged, or that has hung up, must
        not go on either: it may still be running jobs."""
        if self._is_leaving:
            return
        runner = self._runner
        if runner is not None:
            why = runner.end_within(EXIT_NEWS_SECONDS) or why
            runner.kill()
        self._log.error("runner.lost", why=why, running=self.driver.running)
        self._door.give_up(f"runner {self.name}: {why}")

    def _said(self, stream: str, line: str) -> None:
        if self._capture:
            self._log.info("runner.said", stream=stream, line=line)
        else:
            target = sys.stdout if stream == "stdout" else sys.stderr
            os.write(target.fileno(), f"[{self._title}] {line}\n".encode(errors="replace"))


def prepare(door: WorkerDoor) -> LoadedHandlers:
    """In the worker, after the fork: its runner in place of handlers."""
    runner = RunnerOfWorker(door)
    return LoadedHandlers(EveryName(runner.driver.call), runner.start, runner.stop, abandon=runner.abandon)


handlers = LoadedHandlers(Registry(), prepare=prepare)
