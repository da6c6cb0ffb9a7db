"""One worker with all it needs around it: a store, a keeper, a folder for sandboxes, a way to be told to stop.

Rule 1: whatever ends a run of the worker (a stop, a cancelled task, an error) it drains and closes what it opened.
Rule 2: who was taken for dead begins anew under another worker id; what it ran then runs elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import structlog

from rrqd.config.pool_table import PoolSettings
from rrqd.config.settings import Settings
from rrqd.exc import StoreError
from rrqd.handlers import LoadedHandlers, WorkerDoor
from rrqd.logs import keep_off_stdout
from rrqd.naming import new_node_id
from rrqd.runtime.worker import Worker
from rrqd.standalone.keeper import Keeper
from rrqd.store import Charge, Store, policy_of
from rrqd.store.connection import Endpoint
from rrqd.upkeep.departed import Departed, see_off
from rrqd.upkeep.health import Status

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Attendant:
    """Runs one worker once. ``linger``: when it ends while a plain handler's thread goes on, keep that job until the
    thread has ended; false where the process ends with the attendant, and its threads too.

    ``worker_id``: what the first incarnation is called; made up when left out. ``on_overdue``: called on the loop with
    the id of a job whose plain handler holds its thread past timeout and grace; see :meth:`give_up`.
    """

    def __init__(
        self,
        settings: Settings,
        pool: PoolSettings,
        handlers: LoadedHandlers,
        *,
        pool_name: str = "alone",
        worker_id: str | None = None,
        linger: bool = True,
        on_overdue: Callable[[str], None] | None = None,
    ) -> None:
        keep_off_stdout()
        self.settings = settings
        self.pool = pool
        self.pool_name = pool_name
        self.node_id = new_node_id()
        self.worker: Worker | None = None
        self._handlers = handlers
        self._worker_id = worker_id
        self._ready: list[Callable[[], None]] = []
        self._linger = linger
        self._on_overdue = on_overdue
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_seconds: float | None = None
        self._log = structlog.get_logger().bind(node=self.node_id)

    async def run(self, *, horizon_seconds: float | None = None, until: Awaitable[object] | None = None) -> str:
        """Work until stopped (``"drained"``). Answers why it ended; see :meth:`Worker.run`.

        ``horizon_seconds``: a burst, which ends (``"dry"``) once nothing runs and nothing comes due within so many
        seconds. ``until``: stop when this is done. Raises what ``on_startup`` of the handlers raises.
        """
        self._loop = asyncio.get_running_loop()
        keeper = Keeper(self.settings, self.node_id, self.pool.queues, wake=self._wake, status=self._status)
        ending = asyncio.create_task(_stop_after(until, self.stop)) if until is not None else None
        sandboxes = Path(tempfile.mkdtemp(prefix="rrqd-")) if self.pool.sandbox else None
        keeper.start()
        try:
            while True:
                reason = await self._run_worker(sandboxes, horizon_seconds)
                if reason == "drained" or reason == "dry" or self._stop_seconds is not None:
                    return reason
                self._log.warning("worker.again", why=reason)
        finally:
            if ending is not None:
                ending.cancel()
            worker = self.worker
            await asyncio.shield(
                asyncio.to_thread(keeper.finish, _never if worker is None else worker.is_stuck, linger=self._linger)
            )
            if sandboxes is not None:
                shutil.rmtree(sandboxes, ignore_errors=True)

    def on_ready(self, call: Callable[[], None]) -> None:
        """Call this, on the loop, when the worker is open and takes jobs."""
        self._ready.append(call)

    def stop(self, grace_seconds: float | None = None) -> None:
        """Take no new jobs; finish what runs, at most for ``grace_seconds`` (left out: ``stop_timeout_seconds``). From
        any thread, before the start and after the end as well; a later call can only bring the end nearer."""
        seconds = self.settings.rrqd.stop_timeout_seconds if grace_seconds is None else grace_seconds
        self._stop_seconds = seconds if self._stop_seconds is None else min(seconds, self._stop_seconds)
        self._on_loop(lambda: self.worker.drain(seconds) if self.worker is not None else None)

    async def give_up(self, job_id: str) -> None:
        """For a process that is about to end because it can't stop this job otherwise: the job gets the verdict of a
        timeout, all others go back, uncharged."""
        worker = self.worker
        if worker is not None:
            reason = "timeout: the job did not let go"
            gone = Departed(
                worker_id=worker.worker_id, pool=self.pool_name, reason=reason, culprit=job_id, culprit_kind="timeout"
            )
            await see_off(worker.store, self.settings, gone)
            await worker.store.drop_health([worker.worker_id])

    @contextlib.contextmanager
    def obeying_signals(self) -> Iterator[None]:
        """TERM and INT stop it, the second one at once. For the main thread of a program whose purpose this is, while
        its loop runs; in any other thread nothing happens."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        heard: list[int] = []

        def hear(number: int) -> None:
            heard.append(number)
            self._log.info("worker.stopping", signal=signal.Signals(number).name, at_once=len(heard) > 1)
            self.stop(0.0 if len(heard) > 1 else None)

        before = {number: signal.getsignal(number) for number in SIGNALS}
        for number in SIGNALS:
            loop.add_signal_handler(number, hear, number)
        try:
            yield
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)
                if before[number] is not None:
                    signal.signal(number, before[number])

    async def _run_worker(self, sandboxes: Path | None, horizon_seconds: float | None) -> str:
        worker_id = self._worker_id or f"rrqd_{self.node_id}_{self.pool_name}.0_{secrets.token_hex(3)}"
        self._worker_id = None
        store = Store(
            Endpoint.parse(self.settings.rrq.redis_dsn),
            policy_of(self.settings),
            client_name=f"rrqd:worker:{worker_id}",
            channel=worker_id,
            on_message=lambda said: worker.hear(said),
        )
        handlers = self._handlers.behind(self._door(lambda: worker))
        self.worker = worker = Worker(
            settings=self.settings, pool_name=self.pool_name, pool=self.pool, worker_id=worker_id,
            node_id=self.node_id, handlers=handlers, store=store, on_ready=self._is_ready,
            sandbox_root=sandboxes, horizon_seconds=horizon_seconds,
            on_overdue=self._overdue if handlers.abandon is None else lambda job_id, _token: worker.give_up(
                f"job {job_id} does not let go"
            ),
        )  # fmt: skip
        if self._stop_seconds is not None:
            worker.drain(self._stop_seconds)
        work = asyncio.create_task(worker.run(), name="worker")
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            worker.drain(0.0)  # the program does not want it any more; its jobs go back
            await asyncio.wait([work])
            raise
        finally:
            if handlers.abandon is not None:
                handlers.abandon()
            if worker.broken:
                await self._bury(store, worker)
            await store.close()

    async def _bury(self, store: Store, worker: Worker) -> None:
        """What the handlers lived in has crashed, and no steward looks after it. What it held goes back as after the
        death of a worker; unheard it does so when the lease has ended."""
        try:
            await store.close_worker(worker.worker_id, reason=worker.broken, charge=Charge.DEATH)
        except StoreError as fault:
            self._log.warning("worker.not_closed", worker=worker.worker_id, error=str(fault))

    def _door(self, worker: Callable[[], Worker]) -> WorkerDoor:
        return WorkerDoor(
            self.settings, self.pool_name, self.pool, 0, True,
            give_up=lambda why: worker().give_up(why),
            quieten=lambda flag: worker().quieten(flag, whose_wish="handlers"),
        )  # fmt: skip

    def _is_ready(self) -> None:
        pool, worker = self.pool, self.worker
        self._log.info(
            "worker.ready", worker=worker.worker_id if worker else "", queues=pool.queues, concurrency=pool.concurrency
        )
        for call in self._ready:
            call()

    def _overdue(self, job_id: str, _token: int) -> None:
        if self._on_overdue is not None:
            self._on_overdue(job_id)

    def _on_loop(self, call: Callable[[], None]) -> None:
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(call)
            except RuntimeError:
                pass  # the loop is closed: it has ended

    def _wake(self) -> None:
        self._on_loop(lambda: self.worker.wake() if self.worker is not None else None)

    def _status(self) -> Status | None:
        worker = self.worker
        if worker is None:
            return None
        return Status(
            worker_id=worker.worker_id,
            running=len(worker.running()),
            concurrency=self.pool.concurrency,
            queues=self.pool.queues,
            draining=self._stop_seconds is not None,
        )


async def _stop_after(until: Awaitable[object], stop: Callable[[], None]) -> None:
    await until
    stop()


def _never() -> bool:
    return False
