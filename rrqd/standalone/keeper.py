"""The keeper: what a steward does for a node, done for one worker, in a thread of its own.

It renews the lease, hears of new work, puts back the jobs of nodes that died, trims DLQs, writes RRQ's health record
and, where there is one, keeps the timetable. In a thread, because the worker's loop belongs to handlers, and some of
them block it.

Rule 1: it never touches the worker except through what it was given: ``wake``, ``status``, ``is_stuck``.
Rule 2: while the server is away it waits and goes on by itself; the worker says so, once.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import structlog

from rrqd import clock
from rrqd.config.settings import Settings
from rrqd.events import Event
from rrqd.exc import StoreError
from rrqd.model.queue_patterns import Reach
from rrqd.store import Charge, Lease, LeaseWas, Store, policy_of
from rrqd.store.connection import Endpoint
from rrqd.store.listening import Ear
from rrqd.upkeep.adoption import Adoption
from rrqd.upkeep.chore import Chore, Rota
from rrqd.upkeep.crontab import Crontab
from rrqd.upkeep.health import Status, health_seconds, report_of
from rrqd.upkeep.insist import insist, listen
from rrqd.upkeep.kin import Kin
from rrqd.upkeep.reaper import Reaper
from rrqd.upkeep.retention import Retention

STUCK_LOOK_SECONDS = 0.1
GOODBYE_SECONDS = 2.0


class Keeper:
    """One node of one worker. ``wake`` and ``status`` are called in the keeper's thread."""

    def __init__(
        self,
        settings: Settings,
        node_id: str,
        queues: list[str],
        *,
        wake: Callable[[], None],
        status: Callable[[], Status | None],
    ) -> None:
        self.settings = settings
        self.node_id = node_id
        self._reach = Reach(queues)
        self._wake = wake
        self._status = status
        self._log = structlog.get_logger().bind(node=node_id)
        self._stuck: Callable[[], bool] = lambda: False
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="rrqd-keeper", daemon=True)
        self._reachable = False

    def start(self) -> None:
        """Begin; the lease is live soon, when the server answers."""
        self._thread.start()
        self._begun.wait()

    def finish(self, is_stuck: Callable[[], bool], *, linger: bool) -> None:
        """Close the worker and give the lease up. Blocks for about two seconds at most.

        ``is_stuck``: whether a handler still runs that nothing can stop. With ``linger`` its job is kept until it has
        ended (this returns all the same); without, the process is about to end, and so is the handler.
        """
        self._stuck = is_stuck if linger else self._stuck
        self._loop.call_soon_threadsafe(self._leaving.set)
        if not (linger and is_stuck()):
            self._thread.join(GOODBYE_SECONDS + 1.0)

    def _serve(self) -> None:
        asyncio.run(self._live())

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._leaving = asyncio.Event()
        self._begun.set()
        self._store = Store(
            Endpoint.parse(self.settings.rrq.redis_dsn),
            policy_of(self.settings),
            client_name=f"rrqd:keeper:{self.node_id}",
        )
        self._reaper = Reaper(self._store, self.node_id, self.settings.rrqd.lease_seconds, self._log)
        chores: list[Chore] = [
            self._reaper, Adoption(self._store, self._log), Kin(self._store), Retention(self._store, self._log),
            _Health(self._store, self.settings, self._status),
        ]  # fmt: skip
        lease = asyncio.create_task(self._keep_lease(), name="lease")
        others = [
            asyncio.create_task(self._listen(), name="listen"),
            asyncio.create_task(Rota(chores, self._log, self._unreachable).run(), name="chores"),
        ]
        if self.settings.rrq.cron_jobs:
            crontab = Crontab(self._store, self.node_id, self.settings, self._log, self._unreachable)
            others.append(asyncio.create_task(crontab.run(), name="cron"))
        await self._leaving.wait()
        for task in others:
            task.cancel()
        while self._stuck():  # noqa: ASYNC110 -- a thread that ends rings no bell
            await asyncio.sleep(STUCK_LOOK_SECONDS)
        lease.cancel()
        await asyncio.gather(lease, *others, return_exceptions=True)
        await self._say_goodbye()

    async def _keep_lease(self) -> None:
        lease_ms = int(self.settings.rrqd.lease_seconds * 1000)

        async def renew() -> Lease:
            return await self._store.renew(self.node_id, lease_ms)

        while True:
            lease = await insist(renew, lost=self._unreachable, reached=self._reached)
            if lease.was is not LeaseWas.LIVE:
                self._reaper.connected(clock.monotonic())  # if ours was late, everybody's may be
            await asyncio.sleep(lease_ms / 3000)

    async def _listen(self) -> None:
        ear = Ear(self._store.finder, self._store.keys, f"rrqd:ear:{self.node_id}", self._heard, self._wake)
        await listen(ear, self._wake, self._log)

    def _heard(self, names: set[str]) -> None:
        if self._reach.touches(names):
            self._wake()

    def _reached(self) -> None:
        if not self._reachable:
            self._reachable = True
            self._reaper.connected(clock.monotonic())

    def _unreachable(self, fault: StoreError) -> None:
        self._reachable = False
        self._log.debug(Event.STORE_LOST, error=str(fault))

    async def _say_goodbye(self) -> None:
        """A server that does not answer is not waited for: the lease ends by itself."""
        try:
            async with asyncio.timeout(GOODBYE_SECONDS):
                for worker_id in await self._store.workers_of(self.node_id):
                    await self._store.close_worker(worker_id, reason="planned: stopped", charge=Charge.NOBODY)
                    await self._store.drop_health([worker_id])
                await self._store.leave(self.node_id)
        except (TimeoutError, StoreError) as fault:
            self._log.warning("keeper.goodbye_unheard", error=str(fault) or "no answer in time")
        await self._store.close()


class _Health:
    """RRQ's health record of the one worker."""

    name = "health"

    def __init__(self, store: Store, settings: Settings, status: Callable[[], Status | None]) -> None:
        self._store = store
        self._status = status
        interval, self._ttl_seconds = health_seconds(settings)
        self.interval_seconds = min(interval, 2.0)
        self._every_seconds = interval
        self._written: tuple[str, float] = ("", 0.0)

    async def run_once(self, now: float) -> None:
        """Write it when it is due, or when the worker is a new one."""
        status: Any = self._status()
        if status is None:
            return
        worker_id, at = self._written
        if status.worker_id != worker_id or now - at >= self._every_seconds:
            await self._store.write_health([(status.worker_id, report_of(status))], self._ttl_seconds)
            self._written = status.worker_id, now
