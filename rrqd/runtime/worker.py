"""A worker: claims jobs, runs them, settles them, in turns.

A *turn* is one round trip: settle what has ended, claim what fits. While one is under way everything that ends is
collected for the next, so a busy worker's batches grow by themselves and an idle one's answer is immediate.

Rule 1: what has ended is settled under its token, and asked again until the server has answered.
Rule 2: a worker that was closed (its node had lapsed) stops what it runs and settles nothing: others have its jobs.
Rule 3: a drain ends by its deadline; what still runs then goes back to its old place, uncharged.
"""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from rrqd import clock
from rrqd.config.pool_table import PoolSettings
from rrqd.config.settings import Settings
from rrqd.events import Event
from rrqd.exc import StoreError, StoreUnavailable
from rrqd.flight import Counter, FlightPage, FlightState
from rrqd.handlers import LoadedHandlers
from rrqd.model.job import ClaimedJob
from rrqd.model.lifecycle import End
from rrqd.model.verdict import Outcome, Verdict, judge
from rrqd.runtime.executor import Executor, Run
from rrqd.runtime.fetcher import Fetcher
from rrqd.runtime.sandbox import Sandboxes
from rrqd.runtime.watchdog import Watchdog
from rrqd.store import Charge, Claim, ClaimRequest, ClaimState, Settled, Settlement, Store
from rrqd.store.connection import ServerSaid
from rrqd.store.jobs import MOVE_BATCH, fits

RETRY_SECONDS = (0.05, 2.0)
LAPSED_RETRY_SECONDS = 0.3
PROGRESS_SECONDS = 0.25
#: When its time is over: how long cancelled handlers get to clean up, and the store to hear the last words.
LAST_MOMENT_SECONDS = 0.5
LAST_WORDS_SECONDS = 1.0


class Worker:
    """One worker of a pool.

    With a daemon around it the node's lease is the steward's. ``standalone``: it renews its own lease and closes
    itself at the end. ``on_overdue(job_id, token)``: this job holds the process and does not let go.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        pool_name: str,
        pool: PoolSettings,
        worker_id: str,
        node_id: str,
        handlers: LoadedHandlers,
        store: Store,
        page: FlightPage | None = None,
        wake_fd: int = -1,
        on_ready: Callable[[], None] | None = None,
        on_overdue: Callable[[str, int], None] | None = None,
        sandbox_root: Path | None = None,
        standalone: bool = False,
    ) -> None:
        self.settings = settings
        self.pool_name = pool_name
        self.pool = pool
        self.worker_id = worker_id
        self.node_id = node_id
        self.store = store
        self._handlers = handlers
        self._page = page
        self._on_ready = on_ready
        self._on_overdue = on_overdue
        self._standalone = standalone
        self._loop = asyncio.get_running_loop()
        self._sandboxes = Sandboxes(sandbox_root, worker_id) if sandbox_root is not None and pool.sandbox else None
        self._executor = Executor(
            settings, pool, handlers.registry, worker_id, self._sandboxes,
            note=self._note, began=self._began, ended=self._ended, overdue=self._overdue,
        )  # fmt: skip
        self._slots = 1 if pool.isolation == "process" else pool.concurrency
        self._fetcher = Fetcher(
            self._slots, wake_fd, settings.rrqd.idle_poll_seconds, self._stir, lambda: self._count(Counter.WAKEUPS)
        )
        self.log = structlog.get_logger().bind(worker=worker_id)
        self._runs: dict[int, Run] = {}  # by token: a job's id can come back while its last run is still ending
        self._by_id: dict[str, Run] = {}
        self._finished: list[Settlement] = []
        self._notes: dict[int, tuple[str, int, bytes]] = {}
        self._stirred = asyncio.Event()
        self._settle_most = MOVE_BATCH
        self._cancelled_early: set[str] = set()
        self._turn = 1
        self._unanswered: ClaimRequest | None = None
        self._away = False
        self._pause = RETRY_SECONDS[0]
        self._drain_at: float | None = None
        self._lease_lost = False
        self._done = 0

    # The life of a worker.

    async def run(self) -> str:
        """Work until drained (``"drained"``), full of age (``"recycle"``) or disowned (``"lease-lost"``)."""
        watchdog = Watchdog(self._page) if self._page is not None else None
        if watchdog is not None:
            watchdog.start()
        self.watchdog = watchdog
        duties = [asyncio.create_task(self._send_notes(), name="progress")]
        try:
            await _call_hook(self._handlers.on_startup)
            if self._standalone:
                duties.append(asyncio.create_task(self._keep_own_lease(), name="lease"))
            if await self._open():
                self._set_state(FlightState.READY)
                if self._on_ready is not None:
                    self._on_ready()
                await self._take_turns()
            await self._leave()
            await _call_hook(self._handlers.on_shutdown)
        finally:
            for duty in duties:
                duty.cancel()
            self._fetcher.close()
            self._executor.lane.close()
            if watchdog is not None:
                watchdog.stop()
            if self._sandboxes is not None:
                self._sandboxes.close()
        return "lease-lost" if self._lease_lost else "recycle" if self._drain_at is None else "drained"

    def drain(self, deadline_seconds: float) -> None:
        """No new claims; finish what runs, at most until the deadline. A later call can only bring it nearer."""
        at = self._loop.time() + max(0.0, deadline_seconds)
        self._drain_at = at if self._drain_at is None else min(at, self._drain_at)
        self._fetcher.close()
        self._set_state(FlightState.DRAINING)
        self._loop.call_at(self._drain_at, self._stir)
        self._stir()

    def quieten(self, quiet: bool) -> None:
        """Take no new jobs for now, or take some again; what runs goes on."""
        self._fetcher.quieten(quiet)

    def cancel(self, job_id: str) -> None:
        """Somebody cancelled a job; if it runs here, stop it."""
        run = self._by_id.get(job_id)
        if run is None and self._unanswered is not None:
            self._cancelled_early.add(job_id)  # it may be in the answer that is under way
        if run is not None:
            self._count(Counter.CANCELS)
            self._executor.cancel(run)

    async def _open(self) -> bool:
        """Register in the store; false when the worker is to leave before it could."""
        while self._drain_at is None:
            try:
                if await self.store.open_worker(self.worker_id, self.node_id):
                    self._reached()
                    return True
                await asyncio.sleep(LAPSED_RETRY_SECONDS / 3)
            except StoreError as fault:
                await self._unreached(fault)
        return False

    # Turns.

    async def _take_turns(self) -> None:
        while not self._is_over():
            room = self._fetcher.room(len(self._runs))
            if self._unanswered is None and (room or self._fetcher.is_deaf()):
                self._fetcher.ask()
                self._unanswered = ClaimRequest(
                    worker_id=self.worker_id, node_id=self.node_id, turn=self._turn, queues=self.pool.queues,
                    limit=room, running=len(self._runs),
                )  # fmt: skip
            if self._finished or self._unanswered is not None:
                await self._take_turn()
            else:
                await self._idle()

    async def _take_turn(self) -> None:
        most = min(self._settle_most, fits(self._finished))
        settling, self._finished = self._finished[:most], self._finished[most:]
        self._count(Counter.SCRIPT_CALLS, bool(settling) + (self._unanswered is not None))
        try:
            answers, claim = await self.store.turn(self.worker_id, settling, self._unanswered)
        except StoreError as fault:
            self._finished = settling + self._finished
            if isinstance(fault, ServerSaid) and settling:
                self._narrow_down(fault)
            await self._unreached(fault)
            return
        self._reached()
        self._settle_most = MOVE_BATCH
        for settlement, answer in zip(settling, answers, strict=True):
            if answer is not Settled.OK:
                self._count(Counter.STALE_SETTLES)
                self.log.warning(Event.SETTLE_STALE, job_id=settlement.job_id, answer=answer.value)
        if claim is not None and self._unanswered is not None:
            asked, self._unanswered = self._unanswered.limit, None
            self._turn += 1
            self._take_in(claim, asked)
            self._cancelled_early.clear()

    def _narrow_down(self, fault: ServerSaid) -> None:
        """The server can't carry out what was asked, and it is not the server's state. One settlement at a time then;
        the one that can't be made alone is given up, or it would keep all others from ever being heard."""
        if self._settle_most > 1:
            self._settle_most = 1
        else:
            refused = self._finished.pop(0)
            self.log.error("settle.refused", job_id=refused.job_id, error=str(fault), what_now="it stays held")

    def _take_in(self, claim: Claim, asked: int) -> None:
        if claim.state is ClaimState.CLOSED:
            self._lease_lost = True
            self.log.error(
                Event.LEASE_LOST, running=len(self._runs), what_now="its jobs run elsewhere; this worker ends"
            )
            return
        for job_id in claim.cancels:
            self.cancel(job_id)
        if claim.state is ClaimState.LAPSED:
            self._fetcher.look_again_in(LAPSED_RETRY_SECONDS)
            return
        self._fetcher.learn(claim, asked)
        self._count(Counter.CLAIMS if claim.jobs else Counter.EMPTY_CLAIMS)
        self._count(Counter.JOBS_CLAIMED, len(claim.jobs))
        for job_id, why in claim.aside:
            self.log.error(Event.JOB_SET_ASIDE, job_id=job_id, why=why)
        for job_id, token, why in claim.spoiled:
            self._spoiled(job_id, token, why)
        for job in claim.jobs:
            try:
                self._begin(job)
            except Exception as fault:  # whatever is odd about this one, the others run
                self._spoiled(job.id, job.token, f"The job cannot be started: {fault!r}")
            if job.id in self._cancelled_early:
                self.cancel(job.id)

    async def _idle(self) -> None:
        """Wait for something to do."""
        self._fetcher.listen(len(self._runs))
        if not self._finished and not self._is_over() and not self._fetcher.room(len(self._runs)):
            deaf = self._loop.call_later(self.settings.rrqd.idle_poll_seconds, self._stir)
            await self._stirred.wait()
            deaf.cancel()
        self._stirred.clear()

    def _stir(self) -> None:
        self._stirred.set()

    def _is_over(self) -> bool:
        if self._lease_lost:
            return True
        full_of_age = self.pool.max_jobs is not None and self._done >= self.pool.max_jobs
        if full_of_age:
            self._fetcher.close()
        if self._drain_at is None and not full_of_age:
            return False
        idle = not self._runs and not self._finished and self._unanswered is None
        return idle or (self._drain_at is not None and self._loop.time() >= self._drain_at)

    # One job.

    def _begin(self, job: ClaimedJob) -> None:
        run = self._executor.start(job)
        self._runs[job.token] = run
        self._by_id[job.id] = run
        page = self._page
        if page is not None:
            run.row = page.start(job.id, job.token, job.function, job.queue, run.deadline_ns)
            page.add(Counter.JOBS_STARTED)
            page.set_running(len(self._runs))

    def _began(self, run: Run) -> None:
        """A plain handler has got its thread: its time begins now."""
        if self._page is not None:
            self._page.set_deadline(run.row, run.deadline_ns)

    def _ended(self, run: Run, outcome: Outcome) -> None:
        job = run.job
        self._runs.pop(job.token, None)
        if self._by_id.get(job.id) is run:
            del self._by_id[job.id]
        self._notes.pop(job.token, None)
        self._done += 1
        if not run.handed_back and not self._lease_lost:
            verdict = judge(outcome, run.policy, job.attempt, random.random())
            self._finished.append(Settlement(job.id, job.token, verdict))
            self._account(run, verdict)
        if self._page is not None:
            self._page.finish(run.row)
            self._page.set_running(len(self._runs))
        if len(self._finished) == 1 or not self._runs:
            self._stir()

    def _account(self, run: Run, verdict: Verdict) -> None:
        job = run.job
        seconds = (clock.monotonic_ns() - run.began_ns) / 1e9
        if self._page is not None:
            known = run.request is not None
            wait = max(0.0, (job.claimed_ms - job.due_ms) / 1000)
            self._page.tally(job.queue, job.function if known else "unknown", verdict.label, wait, seconds)
            self._page.add(Counter.JOBS_DONE)
        if verdict.end is not End.COMPLETE:
            event, level = _WORDS[verdict.end]
            log = getattr(self.log, level)
            log(
                event, job_id=job.id, function=job.function, queue=job.queue, attempt=job.attempt, why=verdict.error,
                seconds=round(seconds, 3), delay_ms=verdict.delay_ms or None,
            )  # fmt: skip

    def _spoiled(self, job_id: str, token: int, why: str) -> None:
        """A job that can't be run as it is stored: to the DLQ, with the reason."""
        self.log.error(Event.JOB_BURIED, job_id=job_id, why=why)
        retention = self.store.policy.dlq_retention_seconds
        self._finished.append(
            Settlement(job_id, token, Verdict(end=End.BURY, error=why, ttl_seconds=retention, label="invalid"))
        )
        if self._page is not None:
            self._page.tally("unknown", "unknown", "invalid", 0.0, 0.0)

    def _overdue(self, run: Run) -> None:
        """The job ignores its timeout (or its cancellation), and only the end of this process can stop it."""
        self._count(Counter.OVERDUE)
        self.log.error(
            Event.JOB_OVERDUE, job_id=run.job.id, function=run.job.function, timeout_seconds=run.timeout_seconds
        )
        if self._on_overdue is not None:
            self._on_overdue(run.job.id, run.job.token)

    def _note(self, job: ClaimedJob, note: bytes) -> None:
        """Progress, from the loop or a thread: kept for the next sending, the newest one wins."""
        self._notes[job.token] = (job.id, job.token, note)

    async def _send_notes(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            if self._notes and not self._away:
                notes, self._notes = self._notes, {}
                try:
                    await self.store.progress(list(notes.values()))
                except StoreError:
                    self._notes = {**notes, **self._notes}

    # The server comes and goes.

    async def _unreached(self, fault: StoreError) -> None:
        self._count(Counter.STORE_ERRORS)
        if not self._away:
            self._away = True
            self.log.error(Event.STORE_LOST, error=str(fault), running=len(self._runs))
        elif not isinstance(fault, StoreUnavailable):
            self.log.error("store.refused", error=str(fault))
        self._stirred.clear()
        try:
            async with asyncio.timeout(self._pause * random.uniform(0.5, 1.5)):
                while self._drain_at is None or self._loop.time() < self._drain_at:
                    await self._stirred.wait()
                    self._stirred.clear()
        except TimeoutError:
            pass
        self._pause = min(self._pause * 2, RETRY_SECONDS[1])

    def _reached(self) -> None:
        if self._away:
            self._away = False
            self.log.warning(Event.STORE_BACK)
        self._pause = RETRY_SECONDS[0]

    async def _keep_own_lease(self) -> None:
        lease_ms = int(self.settings.rrqd.lease_seconds * 1000)
        while True:
            try:
                await self.store.renew(self.node_id, lease_ms)
                await asyncio.sleep(lease_ms / 3000)
            except StoreError:
                await asyncio.sleep(0.2)

    # The end.

    async def _leave(self) -> None:
        """Stop what still runs, settle what has ended, and hand back what has really stopped.

        A plain handler in its thread can't be stopped. Its job stays ours until this process is gone; then the steward
        puts it back. So nobody starts it anew while it still runs here.
        """
        self._set_state(FlightState.DRAINING)
        left = list(self._runs.values())
        for run in left:
            self._executor.hand_back(run)
        tasks = [run.task for run in left if run.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=LAST_MOMENT_SECONDS)
        if not self._lease_lost:
            try:
                async with asyncio.timeout(LAST_WORDS_SECONDS):
                    await self._last_words([(run.job.id, run.job.token) for run in left if run.over])
            except (TimeoutError, StoreError) as fault:
                self.log.warning("worker.last_words_unheard", error=str(fault) or "no answer in time")
        self._set_state(FlightState.GONE)

    async def _last_words(self, held: list[tuple[str, int]]) -> None:
        if self._finished:
            await self.store.settle(self.worker_id, self._finished)
            self._finished = []
        if held:
            released = await self.store.release(self.worker_id, held, "its worker stopped")
            self._count(Counter.JOBS_RELEASED, len(released.queued))
            self.log.warning(Event.JOB_RELEASED, jobs=released.queued[:20], count=len(released.queued))
        if self._standalone:
            await self.store.close_worker(self.worker_id, reason="planned: stopped", charge=Charge.NOBODY)
            await self.store.leave(self.node_id)

    def _set_state(self, state: FlightState) -> None:
        if self._page is not None:
            self._page.set_state(state)

    def _count(self, counter: Counter, n: int = 1) -> None:
        if self._page is not None and n:
            self._page.add(counter, n)

    # Looking inside.

    def running(self) -> list[dict[str, Any]]:
        """What runs now, for dumps and the debugger. ``seconds_left`` is None while a plain handler waits for a
        thread: its time has not begun. Also called in other threads."""
        now_ns = clock.monotonic_ns()
        return [
            {
                "job_id": run.job.id, "function": run.job.function, "queue": run.job.queue,
                "attempt": run.job.attempt, "running_seconds": round((now_ns - run.began_ns) / 1e9, 3),
                "seconds_left": None if run.turn is not None else round((run.deadline_ns - now_ns) / 1e9, 3),
            }
            for run in list(self._runs.values())
        ]  # fmt: skip


_WORDS = {
    End.RETRY: (Event.JOB_RETRYING, "warning"),
    End.SNOOZE: (Event.JOB_SNOOZED, "debug"),
    End.BURY: (Event.JOB_BURIED, "error"),
    End.CANCEL: (Event.JOB_CANCELLED, "info"),
}


async def _call_hook(hook: Callable[[], Any] | None) -> None:
    if hook is not None:
        answer = hook()
        if inspect.isawaitable(answer):
            await answer
