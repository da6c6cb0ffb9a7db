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
from typing import TYPE_CHECKING, Any

import structlog

from rrqd import clock, tracing
from rrqd.events import Event
from rrqd.exc import StoreError
from rrqd.flight import Counter, FlightPage, FlightState
from rrqd.handlers import LoadedHandlers
from rrqd.model.job import ClaimedJob
from rrqd.model.verdict import Outcome, judge
from rrqd.runtime.executor import Executor, Run
from rrqd.runtime.fetcher import Fetcher
from rrqd.runtime.order import rounds_of
from rrqd.runtime.outage import Outage
from rrqd.runtime.outbox import Outbox
from rrqd.runtime.reports import Reports
from rrqd.runtime.roster import Roster
from rrqd.runtime.rules import Rules, Served
from rrqd.runtime.sandbox import Sandboxes
from rrqd.runtime.watchdog import Watchdog
from rrqd.store import Claim, ClaimRequest, ClaimState, Settlement, Store
from rrqd.store.connection import ServerSaid
from rrqd.store.jobs import CLAIM_BATCH

if TYPE_CHECKING:
    from rrqd.config.pool_table import PoolSettings
    from rrqd.config.settings import Settings

LAPSED_RETRY_SECONDS = 0.3
#: When its time is over: how long cancelled handlers get to clean up, and the store to hear the last words.
LAST_MOMENT_SECONDS = 0.5
LAST_WORDS_SECONDS = 1.0


class Worker:
    """One worker of a pool.

    The node's lease is somebody else's: the daemon's steward, or the keeper of a worker that runs alone.
    ``on_overdue(job_id, token)``: this job holds the process and does not let go. ``horizon_seconds``: leave once
    nothing runs and nothing comes due within so many seconds; ``None``: stay until told to leave.
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
        horizon_seconds: float | None = None,
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
        self._horizon_seconds = horizon_seconds
        self._loop = asyncio.get_running_loop()
        self._sandboxes = Sandboxes(sandbox_root, worker_id) if sandbox_root is not None and pool.sandbox else None
        self.log = structlog.get_logger().bind(worker=worker_id)
        self._outage = Outage(self.log)
        self._rules = Rules(store)
        self._served = Served(store, pool.queues, self._rules, self._serve, bucketed=pool.queue_order == "buckets")
        self._rounds = rounds_of(pool, self._served.queues, [])
        self.reports = Reports(store, worker_id, settings.rrqd.figures_retention_seconds, self._outage)
        self._executor = Executor(
            settings, pool, handlers, worker_id, self._sandboxes,
            reports=self.reports, rules=self._rules,
            began=lambda run: self._runs.began(run), ended=self._ended, overdue=self._overdue,
            # With the master's page comes a process of its own. In an application's, other threads start programs too.
            own_process=page is not None,
        )  # fmt: skip
        self._slots = 1 if pool.isolation == "process" else pool.concurrency
        self._fetcher = Fetcher(
            self._slots, wake_fd, settings.rrqd.idle_poll_seconds, self._stir, lambda: self._count(Counter.WAKEUPS)
        )
        self._runs = Roster(page, self.log, self.reports)
        self._outbox = Outbox(self.log)
        self._stirred = asyncio.Event()
        self._cancelled_early: set[str | int] = set()  # ids, and tokens of what was taken
        self._turn = 1
        self._unanswered: ClaimRequest | None = None
        self._quiet_done: Callable[[], None] | None = None
        self._drain_at: float | None = None
        self._lease_lost = False
        self._dry = False
        self._untouched: list[tuple[str, int]] = []  # claimed when there was nothing left to run them
        self.broken = ""

    # The life of a worker.

    async def run(self) -> str:
        """Work until drained (``"drained"``), out of work (``"dry"``, with a horizon), full of age (``"recycle"``) or
        disowned (``"lease-lost"``)."""
        watchdog = Watchdog(self._page) if self._page is not None else None
        if watchdog is not None:
            watchdog.start()
        self.watchdog = watchdog
        duties = [
            asyncio.create_task(self.reports.keep_sending(), name="reports"),
            asyncio.create_task(self._rules.keep_reading(), name="rules"),
        ]
        self._rules.when_changed = self._served.read
        if self._served.open:
            duties.append(asyncio.create_task(self._served.keep_reading(), name="queues"))
        try:
            if self._handlers.on_bind is not None:
                self._handlers.on_bind(self.settings.rrq.redis_dsn, self.settings.rrqd.namespace)
            await _call_hook(self._handlers.on_startup)
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
        if self._lease_lost:
            return "lease-lost"
        return "drained" if self._drain_at is not None else "dry" if self._dry else "recycle"

    def drain(self, deadline_seconds: float) -> None:
        """No new claims; finish what runs, at most until the deadline. A later call can only bring it nearer."""
        at = self._loop.time() + max(0.0, deadline_seconds)
        self._drain_at = at if self._drain_at is None else min(at, self._drain_at)
        self._fetcher.close()
        self._set_state(FlightState.DRAINING)
        self._loop.call_at(self._drain_at, self._stir)
        self._stir()

    def quieten(self, quiet: bool, done: Callable[[], None] | None = None, *, whose_wish: str = "operator") -> None:
        """Take no new jobs for now, or take some again; what runs goes on. Quiet while anybody wishes it.

        `done` is called when no claim is under way any more: at once, or after the one that is.
        """
        self._fetcher.quieten(quiet, whose_wish)
        if whose_wish == "operator":
            self._quiet_done = done if quiet else None
        self._say_quiet()

    def give_up(self, why: str) -> None:
        """What the handlers live in is gone: settle what has ended, and leave everything else to those who look after
        the jobs of a worker that crashed."""
        if not self.broken:
            self.broken = why
            self.log.error("worker.gives_up", why=why, running=len(self._runs))
            self._fetcher.close()
            self._stir()

    def _say_quiet(self) -> None:
        if self._quiet_done is not None and self._unanswered is None:
            done, self._quiet_done = self._quiet_done, None
            done()

    def cancel(self, job_id: str) -> None:
        """Somebody cancelled a job; if it runs here, stop it."""
        run = self._runs.find(job_id)
        if run is None and self._unanswered is not None:
            self._cancelled_early.add(job_id)  # it may be in the answer that is under way
        if run is not None:
            self._count(Counter.CANCELS)
            self._executor.cancel(run)

    def taken(self, token: int) -> None:
        """A job was taken away by hand; if this run of it goes on here, stop it. It settles nothing."""
        run = self._runs.under(token)
        if run is None and self._unanswered is not None:
            self._cancelled_early.add(token)
        if run is not None:
            run.handed_back = True
            self._executor.cancel(run)

    def hear(self, said: bytes) -> None:
        """What is told on a worker's own channel: ``cancel <job id>``, ``taken <token> <job id>``, ``config``."""
        word, _, about = said.decode(errors="replace").partition(" ")
        if word == "cancel":
            self.cancel(about)
        elif word == "taken":
            self.taken(int(about.partition(" ")[0]))
        elif word == "config":
            self._rules.changed()

    def wake(self) -> None:
        """Somebody says that there may be work."""
        self._fetcher.wake()

    def is_stuck(self) -> bool:
        """Whether a plain handler's thread still runs: nothing can stop it but the end of the process. May be called
        in other threads."""
        return self._executor.lane.is_alive()

    async def _open(self) -> bool:
        """Register in the store; false when the worker is to leave before it could."""
        while self._drain_at is None:
            try:
                if await self.store.open_worker(self.worker_id, self.node_id):
                    await self._rules.read()
                    if self._served.open:
                        await self._served.read()
                    self._outage.over()
                    return True
                await asyncio.sleep(LAPSED_RETRY_SECONDS / 3)
            except StoreError as fault:
                await self._unreached(fault)
        return False

    def _serve(self, queues: list[str]) -> None:
        """The patterns of the pool come to other queues than before, or these have another order."""
        self.log.info("worker.queues", queues=queues[:20], count=len(queues))
        self._rounds = rounds_of(self.pool, queues, self._served.buckets)
        self._fetcher.wake()

    # Turns.

    async def _take_turns(self) -> None:
        while not self._is_over():
            room = min(self._fetcher.room(len(self._runs)), CLAIM_BATCH)
            if self._unanswered is None and (room or self._fetcher.is_deaf()):
                self._fetcher.ask()
                plan = self._rounds.plan(self._turn, room)
                self._unanswered = ClaimRequest(
                    worker_id=self.worker_id, node_id=self.node_id, turn=self._turn,
                    queues=[one.queue for one in plan], shares=[one.share for one in plan],
                    limit=room, running=len(self._runs),
                )  # fmt: skip
            if self._outbox or self._unanswered is not None:
                await self._take_turn()
            elif self._is_dry():
                self._dry = True
            else:
                await self._idle()

    async def _take_turn(self) -> None:
        settling = self._outbox.next()
        self._count(Counter.SCRIPT_CALLS, bool(settling) + (self._unanswered is not None))
        began_ns = clock.monotonic_ns()
        try:
            answers, claim = await self.store.turn(self.worker_id, settling, self._unanswered)
        except StoreError as fault:
            if isinstance(fault, ServerSaid) and settling:
                self._outbox.refused(fault)
            await self._unreached(fault)
            return
        self._outage.over()
        self._count(Counter.STALE_SETTLES, self._outbox.heard(settling, answers))
        if tracing.watcher is not None and claim is not None and claim.jobs:
            seconds = (clock.monotonic_ns() - began_ns) / 1e9
            tracing.watcher.claimed(self.worker_id, claim.jobs, len(settling), seconds)
        if claim is not None and self._unanswered is not None:
            asked, self._unanswered = self._unanswered.limit, None
            self._turn += 1
            self._take_in(claim, asked)
            self._cancelled_early.clear()
            self._say_quiet()
        if settling and self._horizon_seconds is not None:
            self._fetcher.wake()  # it may have put jobs back, after the claim (a script that the server did not know)

    def _take_in(self, claim: Claim, asked: int) -> None:
        if claim.state is ClaimState.CLOSED:
            self._lease_lost = True
            self.log.error(
                Event.LEASE_LOST, running=len(self._runs), what_now="its jobs run elsewhere; this worker ends"
            )
            return
        for job_id in claim.cancels:
            self.cancel(job_id)
        for token in claim.taken:
            self.taken(token)
        if claim.state is ClaimState.LAPSED:
            self._fetcher.look_again_in(LAPSED_RETRY_SECONDS)
            return
        self._fetcher.learn(self._rounds.learn(claim) if asked else claim, asked)
        self._count(Counter.CLAIMS if claim.jobs else Counter.EMPTY_CLAIMS)
        self._count(Counter.JOBS_CLAIMED, len(claim.jobs))
        for job_id, why in claim.aside:
            self.log.error(Event.JOB_SET_ASIDE, job_id=job_id, why=why)
        for job_id, token, why in claim.spoiled:
            self._spoiled(job_id, token, why)
        if self.broken:
            self._untouched += [(job.id, job.token) for job in claim.jobs]
            return
        for job in claim.jobs:
            try:
                self._begin(job)
            except Exception as fault:  # whatever is odd about this one, the others run
                self._spoiled(job.id, job.token, f"The job cannot be started: {fault!r}")
            if job.id in self._cancelled_early:
                self.cancel(job.id)
            if job.token in self._cancelled_early:
                self.taken(job.token)

    async def _idle(self) -> None:
        """Wait for something to do."""
        self._fetcher.listen(len(self._runs))
        if not self._outbox and not self._is_over() and not self._fetcher.room(len(self._runs)):
            deaf = self._loop.call_later(self.settings.rrqd.idle_poll_seconds, self._stir)
            await self._stirred.wait()
            deaf.cancel()
        self._stirred.clear()

    def _stir(self) -> None:
        self._stirred.set()

    def _is_dry(self) -> bool:
        return self._horizon_seconds is not None and not self._runs and self._fetcher.is_dry(self._horizon_seconds)

    def _is_over(self) -> bool:
        if self._lease_lost or self._dry or self.broken:
            return True
        full_of_age = self.pool.max_jobs is not None and self._runs.ended >= self.pool.max_jobs
        if full_of_age:
            self._fetcher.close()
        if self._drain_at is None and not full_of_age:
            return False
        idle = not self._runs and not self._outbox and self._unanswered is None
        return idle or (self._drain_at is not None and self._loop.time() >= self._drain_at)

    # One job.

    def _begin(self, job: ClaimedJob) -> None:
        self._runs.enter(self._executor.start(job))

    def _ended(self, run: Run, outcome: Outcome) -> None:
        job = run.job
        self.reports.ended(job)
        verdict = None
        if not run.handed_back and not self._lease_lost and not self.broken:
            verdict = judge(outcome, run.policy, job.attempt, random.random())
            rules = run.rules
            self._outbox.add(Settlement(job.id, job.token, verdict, rules.job_history_count, rules.history_count))
            self._runs.account(run, verdict)
        if run.trace is not None:
            run.trace.ended(outcome, verdict, (clock.monotonic_ns() - run.began_ns) / 1e9)
        self._runs.leave(run)
        if len(self._outbox) == 1 or not self._runs:
            self._stir()

    def _spoiled(self, job_id: str, token: int, why: str) -> None:
        self._outbox.bury(job_id, token, why, self.store.policy.dlq_retention_seconds)
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

    async def _unreached(self, fault: StoreError) -> None:
        """Wait a little before the server is asked again, or until a drain is over."""
        self._count(Counter.STORE_ERRORS)
        pause = self._outage.failed(fault, len(self._runs))
        self._stirred.clear()
        try:
            async with asyncio.timeout(pause):
                while self._drain_at is None or self._loop.time() < self._drain_at:
                    await self._stirred.wait()
                    self._stirred.clear()
        except TimeoutError:
            pass

    # The end.

    async def _leave(self) -> None:
        """Stop what still runs, settle what has ended, and hand back what has really stopped.

        A plain handler in its thread can't be stopped. Its job stays ours until this process is gone; then the steward
        puts it back. So nobody starts it anew while it still runs here.
        """
        self._set_state(FlightState.DRAINING)
        left = [] if self.broken else self._runs.all()
        for run in left:
            self._executor.hand_back(run)
        tasks = [run.task for run in left if run.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=LAST_MOMENT_SECONDS)
        if not self._lease_lost:
            try:
                async with asyncio.timeout(LAST_WORDS_SECONDS):
                    stopped = [(run.job.id, run.job.token) for run in left if run.over]
                    await self._last_words(self._untouched + stopped)
            except (TimeoutError, StoreError) as fault:
                self.log.warning("worker.last_words_unheard", error=str(fault) or "no answer in time")
        self._set_state(FlightState.GONE)

    async def _last_words(self, held: list[tuple[str, int]]) -> None:
        if self._outbox:
            await self.store.settle(self.worker_id, self._outbox.all())
        await self.reports.send()
        if held:
            released = await self.store.release(self.worker_id, held, "its worker stopped")
            self._count(Counter.JOBS_RELEASED, len(released.queued))
            self.log.warning(Event.JOB_RELEASED, jobs=released.queued[:20], count=len(released.queued))

    def _set_state(self, state: FlightState) -> None:
        if self._page is not None:
            self._page.set_state(state)

    def _count(self, counter: Counter, n: int = 1) -> None:
        if self._page is not None and n:
            self._page.add(counter, n)

    def running(self) -> list[dict[str, Any]]:
        """What runs now; see :meth:`Roster.describe`."""
        return self._runs.describe()


async def _call_hook(hook: Callable[[], Any] | None) -> None:
    if hook is not None:
        answer = hook()
        if inspect.isawaitable(answer):
            await answer
