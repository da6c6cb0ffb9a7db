"""The steward: everything a node says to Redis apart from claim and settle.

It renews the node's lease (so a handler that blocks its loop does not lose its job), puts a dead worker's jobs back
the moment the master reports the death, hears of new work and wakes an idle worker, and does the chores of ``upkeep/``.

Rule 1: it decides nothing about processes; the master does.
Rule 2: if it dies, nothing is lost: the master starts another, which sweeps up whatever no living worker holds.
Rule 3: while the server is away it waits, says so once, and goes on by itself.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
import uvloop

from rrqd import __version__, clock, logs
from rrqd.boot import Message, StewardBoot
from rrqd.config.given import settings_from_json
from rrqd.events import Event
from rrqd.exc import StoreError, StoreUnavailable
from rrqd.flight import FlightPage
from rrqd.model.queue_patterns import Reach
from rrqd.reminder import Reminder
from rrqd.runtime.sandbox import delete, sweep
from rrqd.store import Charge, LeaseWas, Released, Store, policy_of
from rrqd.store.connection import Endpoint
from rrqd.store.listening import Ear
from rrqd.upkeep.adoption import Adoption
from rrqd.upkeep.backlog import Backlog
from rrqd.upkeep.chore import Chore, Occasion, OnOccasion, Rota
from rrqd.upkeep.crontab import Crontab
from rrqd.upkeep.departed import Departed, see_off
from rrqd.upkeep.flushing import Flushing
from rrqd.upkeep.health import Health
from rrqd.upkeep.insist import insist, listen
from rrqd.upkeep.kin import Kin
from rrqd.upkeep.reaper import Reaper
from rrqd.upkeep.recurrence import Recurrence
from rrqd.upkeep.retention import Census, Retention
from rrqd.upkeep.throttling import Throttling

if TYPE_CHECKING:
    from rrqd.config.settings import Settings

T = TypeVar("T")

PLANNED_BY_DEATH = "planned: the master is gone"


def run_steward(boot: StewardBoot) -> int:
    """The steward process, from the first line to the last. Answers its exit code."""
    logs.configure("steward", boot.settings.rrqd.log_format, boot.settings.rrqd.log_level, {"node": boot.node_id})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(Steward(boot).run())


class Steward:
    """One node's steward."""

    def __init__(self, boot: StewardBoot) -> None:
        self.boot = boot
        self.settings: Settings = boot.settings
        self.log = structlog.get_logger()
        self.store = Store(
            Endpoint.parse(self.settings.rrq.redis_dsn),
            policy_of(self.settings),
            client_name=f"rrqd:steward:{boot.node_id}",
        )
        self.queues = {pool: Reach(names) for pool, names in boot.queues.items()}
        #: Worker id -> pid, of workers that may hold jobs (pid 0: about to be forked).
        self.workers: dict[str, int] = {worker: boot.workers.get(worker, 0) for worker in boot.slots}
        self.reaper = Reaper(self.store, boot.node_id, self.settings.rrqd.lease_seconds, self.log)
        self.adoption = Adoption(self.store, self.log)
        self.health = Health(self.store, boot.deck, self.settings, self.workers)
        self.backlog = Backlog(self.store, self.settings, boot.control.send)
        self.recurrence = Recurrence(self.store, boot.node_id, self.settings, self.log)
        self.crontab = Crontab(self.store, boot.node_id, self.settings, self.log, self._unreachable)
        #: Worker id -> pool.
        self.pools = {page.worker_id: page.pool for page in map(FlightPage.snapshot, boot.deck.begun())}
        self._generation, self._version = boot.generation, __version__
        self._birth = birth_of(boot.master_pid)
        self._reachable: bool | None = None
        self._reminder = Reminder()
        self._leaving = asyncio.Event()
        self._master_gone = asyncio.Event()
        self._seeing_off: set[asyncio.Task[None]] = set()
        self._dying: set[str] = set()
        self._known_queues: set[str] = set()
        self._swept = False
        self.embedded_pid = boot.embedded_pid
        self._sandboxes = boot.state_dir / "sandboxes"

    async def run(self) -> int:
        """Serve until told to leave, or until the master and its workers are gone."""
        self.boot.control.attach(asyncio.get_running_loop(), self._told, self._master_gone.set)
        occasion = Occasion(self.store)
        chores: list[Chore] = [
            self.reaper, self.adoption, self.health, self.backlog, Retention(self.store, self.log), Census(self.store),
            OnOccasion(Kin(self.store), occasion),
            OnOccasion(Throttling(self.store, self.log), occasion),
            OnOccasion(self.recurrence, occasion),
            Flushing(self.boot.state_dir / "valkey"),
        ]  # fmt: skip
        duties = [
            asyncio.create_task(self._keep_lease(), name="lease"),
            asyncio.create_task(self._listen(), name="listen"),
            asyncio.create_task(self.crontab.run(), name="cron"),
            asyncio.create_task(Rota(chores, self.log, self._unreachable).run(), name="chores"),
        ]
        leaving = asyncio.create_task(self._leaving.wait())
        orphaned = asyncio.create_task(self._master_gone.wait())
        ended, _ = await asyncio.wait({leaving, orphaned, *duties}, return_when=asyncio.FIRST_COMPLETED)
        broken = [task for task in duties if task in ended]
        if orphaned in ended and leaving not in ended:
            await self._outlive_the_workers()
        for task in (*duties, leaving, orphaned):
            task.cancel()
        await asyncio.gather(*duties, leaving, orphaned, return_exceptions=True)
        if broken:
            self.log.error("steward.broken", duty=broken[0].get_name(), error=repr(broken[0].exception()))
            return 1
        await self._say_goodbye()
        return 0

    # What the master says.

    def _told(self, message: Message) -> None:
        match message["type"]:
            case "born":
                self.workers[message["worker_id"]] = int(message.get("pid") or 0)
                self.pools[message["worker_id"]] = message["pool"]
            case "dead":
                self._dying.add(message["worker_id"])
                self._spawn(self._see_off(message))
            case "reload":
                self._reload(settings_from_json(message["settings"]))
                self._generation = message["generation"]
                self._spawn(self._mark_deploy())
            case "upgraded":
                self._version = message["version"]
                self._spawn(self._mark_deploy("upgrade"))
            case "leave":
                self._leaving.set()
            case "embedded":
                self.embedded_pid = message["pid"]
            case "dump":
                self._spawn(self._dump())

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._seeing_off.add(task)
        task.add_done_callback(self._seeing_off.discard)

    def _reload(self, settings: Settings) -> None:
        """Queues, limits and retentions are new at once; another server or lease length needs a restart."""
        self.settings = settings
        self.store.policy = policy_of(settings)
        self.health.settings = settings
        self.backlog.settings = settings
        self.crontab.reload(settings)
        self.recurrence.reload(settings)
        self.queues = {name: Reach(pool.queues) for name, pool in settings.rrqd.pools.items()}

    async def _dump(self) -> None:
        from rrqd import stacks

        loop = asyncio.get_running_loop()
        self.boot.control.send({"type": "dump", "threads": stacks.threads(), "tasks": stacks.tasks(loop)})

    async def _see_off(self, message: Message) -> None:
        """Put a dead worker's jobs back; asks as long as it takes."""
        worker_id = message["worker_id"]
        gone = Departed(
            worker_id=worker_id,
            pool=self.pools.get(worker_id, ""),
            reason=message.get("reason") or "unknown",
            culprit=message.get("culprit"),
            culprit_kind=message.get("culprit_kind"),
            story=json.dumps(message["story"]).encode() if message.get("story") else b"",
        )
        released: Released = await self._insist(lambda: self._close(gone))
        self.workers.pop(worker_id, None)
        self.pools.pop(worker_id, None)
        await self._insist(lambda: self.store.drop_health([worker_id]))
        self._dying.discard(worker_id)
        await asyncio.to_thread(delete, self._sandboxes / worker_id)
        for job_id in released.buried:
            self.log.error(Event.JOB_BURIED, job=job_id, worker=worker_id, reason="poison")
        moved = len(released.queued)
        if moved or released.cancelled:
            self.log.warning(Event.JOB_RELEASED, worker=worker_id, reason=gone.reason, jobs=released.queued[:20])
            self._wake(self.queues)
        self.boot.control.send({"type": "released", "worker_id": worker_id, "jobs": moved})

    async def _close(self, gone: Departed) -> Released:
        try:
            return await see_off(self.store, self.settings, gone)
        except StoreUnavailable:
            raise
        except Exception as fault:  # whatever is odd about the one job it is blamed for, all of them go back
            self.log.error("see_off.failed", worker=gone.worker_id, error=repr(fault))
            return await self.store.close_worker(gone.worker_id, reason=gone.reason, charge=Charge.NOBODY)

    # The lease.

    async def _keep_lease(self) -> None:
        lease_ms = int(self.settings.rrqd.lease_seconds * 1000)
        ready = False
        while True:
            lease = await self._insist(lambda: self.store.renew(self.boot.node_id, lease_ms))
            if lease.was is not LeaseWas.LIVE:
                self.reaper.connected(clock.monotonic())  # if ours was late, everybody's may be
            if lease.was is LeaseWas.UNKNOWN and ready:
                self.log.error(Event.LEASE_LOST, node=self.boot.node_id, why="another node reaped this one")
            if not self._swept:
                await self._insist(self._sweep)
                self._swept = True
            if not ready:
                ready = True
                self.boot.control.send({"type": "ready"})
                self._spawn(self._mark_deploy())
            await asyncio.sleep(lease_ms / 1000 / 3)

    async def _mark_deploy(self, kind: str | None = None) -> None:
        """Leave a mark for the charts: one for each generation of each master, whichever of its stewards is told."""
        kind = kind or ("start" if self._generation == 1 else "reload")
        try:
            await self.store.note_deploy(kind, self.boot.node_id, self._birth, self._generation, self._version)
        except StoreError as fault:  # a full server, say: charts lack a mark, and all else goes on
            self.log.warning("deploy.unmarked", kind=kind, error=str(fault))

    async def _sweep(self) -> None:
        """Release sets that no living worker has: of this node, whose last steward died before it could, and of the
        node that it was before, if that died."""
        await self.reaper.resume(self.boot.predecessor)
        for worker_id in await self.store.workers_of(self.boot.node_id):
            if worker_id not in self.workers and worker_id not in self._dying:
                await self.store.close_worker(worker_id, reason="its worker is gone", charge=Charge.NOBODY)
        await asyncio.to_thread(sweep, self._sandboxes, lambda: {*self.workers, *self._dying})

    # Work has come.

    async def _listen(self) -> None:
        name = f"rrqd:ear:{self.boot.node_id}"

        def on_any() -> None:
            self._wake(self.queues)  # a queue was resumed, perhaps

        await listen(
            Ear(self.store.finder, self.store.keys, name, self._heard, on_any, self.adoption.heard), on_any, self.log
        )

    def _heard(self, names: set[str]) -> None:
        fresh = names - self._known_queues
        if fresh:
            self._known_queues |= fresh
            self._spawn(self._insist(lambda: self.store.note_queues(fresh)))
        self._wake(pool for pool, reach in self.queues.items() if reach.touches(names))

    def _wake(self, pools: Iterable[str]) -> None:
        for pool in pools:
            fd = self.boot.wake_fds.get(pool, -1)
            if fd >= 0:
                try:
                    os.eventfd_write(fd, 1)
                except BlockingIOError:
                    pass  # as awake as can be

    # The server comes and goes.

    async def _insist(self, call: Callable[[], Awaitable[T]]) -> T:
        return await insist(call, lost=self._unreachable, reached=self._reached)

    def _reached(self) -> None:
        if self._reachable is not True:
            if self._reachable is False:
                self.log.warning(Event.STORE_BACK, server=self.store.endpoint.shown)
                self._reminder.over()
            self._reachable = True
            self.reaper.connected(clock.monotonic())
            self.boot.control.send({"type": "store", "ok": True, "message": ""})

    def _unreachable(self, fault: StoreError) -> None:
        now = clock.monotonic()
        if self._reminder.due(now, str(fault)):
            seconds = self._reminder.lasting(now)
            self.log.error(Event.STORE_LOST, server=self.store.endpoint.shown, error=str(fault), seconds=seconds)
        if self._reachable is not False:
            self._reachable = False
            self.boot.control.send({"type": "store", "ok": False, "message": str(fault)})

    # The end.

    async def _outlive_the_workers(self) -> None:
        """The master is dead. Its workers drain by themselves and need the lease (and the embedded server) until the
        last of them is gone; what they leave behind is put back."""
        self.log.error("master.gone", workers=len(self.workers), what_now="the workers drain; then the steward leaves")
        rrqd = self.settings.rrqd
        try:
            async with asyncio.timeout(rrqd.stop_timeout_seconds + rrqd.lease_seconds):
                for worker_id, pid in list(self.workers.items()):
                    await gone(pid)
                    await self._see_off({"type": "dead", "worker_id": worker_id, "reason": PLANNED_BY_DEATH})
        except TimeoutError:
            self.log.warning("steward.leaves", why="its workers or its server take too long; the lease ends by itself")

    async def _say_goodbye(self) -> None:
        """Give the lease up. A server that does not answer is not waited for: the lease ends by itself."""
        try:
            async with asyncio.timeout(2.0):
                if self._seeing_off:
                    await asyncio.gather(*self._seeing_off, return_exceptions=True)
                for worker_id in await self.store.workers_of(self.boot.node_id):
                    await self.store.close_worker(worker_id, reason="planned: rrqd stopped", charge=Charge.NOBODY)
                    await self.store.drop_health([worker_id])
                await self.store.leave(self.boot.node_id)
                if self._master_gone.is_set() and await self._is_ours():
                    await self.store.shut_down_server()  # nobody else is left to do it
        except (TimeoutError, StoreError) as fault:
            self.log.warning("steward.goodbye_unheard", error=str(fault) or "no answer in 2 s")
        await self.store.close()

    async def _is_ours(self) -> bool:
        """Whether the server that answers is the one our master started, and not the next rrqd's."""
        return bool(self.embedded_pid) and int((await self.store.info())["process_id"]) == self.embedded_pid


def birth_of(pid: int) -> str:
    """What tells this process from every other one of its number: when it was started, in ticks of the kernel."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has just left
        return str(pid)
    return f"{pid}:{fields[19]}"


async def gone(pid: int) -> None:
    """Return once the process has ended. 0, or a pid that is not there, has."""
    if pid <= 0:
        return
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, ended.set_result, None)
    ended.add_done_callback(lambda _: loop.remove_reader(fd))
    try:
        await ended
    finally:
        os.close(fd)
