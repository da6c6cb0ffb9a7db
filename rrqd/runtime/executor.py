"""One job, step by step: resolve, lay the rules over each other, run, end.

Rule 1: a run ends once, with one Outcome, whatever the handler does; then ``ended`` is called on the loop.
Rule 2: nothing here speaks to the store. The worker settles.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from rrqd import clock, tracing
from rrqd.deadlines import Deadlines
from rrqd.handlers import LoadedHandlers
from rrqd.model.job import ClaimedJob
from rrqd.model.policy import RunPolicy, lay
from rrqd.model.queue_config import QueueRules
from rrqd.model.verdict import Diverted, Failed, Outcome, TimedOut, WasCancelled
from rrqd.registry import Registered
from rrqd.runner import ExecutionRequest
from rrqd.runtime import outcomes
from rrqd.runtime.lane import Lane, Turn
from rrqd.runtime.offspring import Offspring
from rrqd.runtime.reports import Reports
from rrqd.runtime.request import Aid, build_request
from rrqd.runtime.rules import NO_RULES, Rules
from rrqd.runtime.sandbox import Indoors, Sandboxes

if TYPE_CHECKING:
    from rrqd.config.pool_table import PoolSettings
    from rrqd.config.settings import Settings
from rrqd.config.shapes import homes

Ended = Callable[["Run", Outcome], None]

#: The task of a job is named ``job:<id>``; dumps and the watchdog read it.
TASK_PREFIX = "job:"
MOST_PLANS = 1000
"""A runner is asked for whatever name a job has."""


class Run:
    """One job being run."""

    __slots__ = (
        "aid", "began_ns", "grace", "handed_back", "job", "over", "policy", "request", "row", "rules", "task",
        "timed_out", "timeout_seconds", "trace", "turn",
    )  # fmt: skip

    def __init__(
        self, job: ClaimedJob, policy: RunPolicy, timeout_seconds: float, aid: Aid, rules: QueueRules = NO_RULES
    ) -> None:
        self.job = job
        self.policy = policy
        self.rules = rules
        self.timeout_seconds = timeout_seconds
        self.aid = aid
        self.request: ExecutionRequest | None = None
        self.began_ns = clock.monotonic_ns()
        self.row = -1
        self.task: asyncio.Task[None] | None = None
        self.trace: tracing.RunTrace | None = None
        self.turn: Turn | None = None  # its place in the lane, while it waits for a thread
        self.grace: asyncio.TimerHandle | None = None
        self.timed_out = False
        self.handed_back = False
        self.over = False

    @property
    def deadline_ns(self) -> int:
        """When its time is over, by the monotonic clock."""
        return self.began_ns + int(self.timeout_seconds * 1e9)

    @property
    def alarm_ns(self) -> int:
        """When to look at it: then, or earlier, when the heartbeat is due that its queue asks for."""
        silence = self.rules.heartbeat_seconds
        if silence is None:
            return self.deadline_ns
        return min(self.deadline_ns, max(self.began_ns, self.aid.beat_ns) + int(silence * 1e9))


class Plan(NamedTuple):
    """A function's name without its runner, its handler (or the reason why there is none), and its usual rules.
    ``elsewhere``: the queue of the runner that it names and that is not here."""

    name: str
    entry: Registered | None
    refusal: str
    elsewhere: str
    timeout_seconds: float
    policy: RunPolicy


class Executor:
    """Runs jobs of one pool in this process's loop and thread lane."""

    def __init__(
        self,
        settings: Settings,
        pool: PoolSettings,
        handlers: LoadedHandlers,
        worker_id: str,
        sandboxes: Sandboxes | None,
        *,
        reports: Reports,
        rules: Rules,
        began: Callable[[Run], None],
        ended: Ended,
        overdue: Callable[[Run], None],
        own_process: bool = False,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._registry = handlers.registry
        self._middlewares = handlers.middlewares
        self._worker_id = worker_id
        self._sandboxes = sandboxes
        self._reports = reports
        self._rules = rules
        self._began = began
        self._ended = ended
        self._overdue = overdue
        self._loop = asyncio.get_running_loop()
        self._longest = settings.rrqd.max_job_timeout_seconds
        self._homes = homes(settings.rrqd.pools, settings.rrq.default_runner_name)
        runners = {one.runner for one in settings.rrqd.pools.values() if one.runner is not None}
        own = {"python", settings.rrq.default_runner_name} - runners
        self._names = own if pool.runner is None else {pool.runner}
        self._plans: dict[str, Plan] = {}
        self._deadlines = Deadlines[Run](self._loop.call_later, self._late)
        alone = pool.isolation == "process"
        self._indoors = Indoors() if alone and sandboxes is not None else None
        self._offspring = Offspring() if alone and own_process else None
        self.lane = Lane(1 if alone else pool.thread_count)

    # Step 1: which handler, under which rules.

    def start(self, job: ClaimedJob) -> Run:
        """Begin a run. Its end comes through ``ended``, never before this returns."""
        plan = self._plans.get(job.function) or self._plan(job.function)
        wanted = plan.timeout_seconds if job.timeout_seconds is None else job.timeout_seconds
        aid = Aid(job, self._sandboxes, self._reports, self.limit)
        rules = self._rules.of(job.queue)
        run = Run(job, self._policy(job, plan, rules), min(wanted, self._longest), aid, rules)
        if tracing.watcher is not None:
            runner = self._pool.runner or "python"
            run.trace = tracing.watcher.running(job, self._worker_id, runner, run.timeout_seconds)
        entry, refusal = plan.entry, plan.refusal
        if not refusal and wanted > self._longest:
            refusal = f"job_timeout_seconds is {wanted:g}; max_job_timeout_seconds is {self._longest:g}."
        if plan.elsewhere:
            self._loop.call_soon(self._end, run, Diverted(plan.elsewhere))
            return run
        if refusal or entry is None:
            kind = "handler_not_found" if entry is None else "invalid_job"
            self._loop.call_soon(self._end, run, Failed(message=refusal, type=kind, fatal=True))
            return run
        if not self._enter(run):
            return run
        run.request = request = build_request(job, plan.name, self._worker_id, run.timeout_seconds, run.aid)
        if run.trace is None:
            self._launch(run, entry, request)
        else:
            request.context.trace_context = run.trace.carrier
            run.trace.context.run(self._launch, run, entry, request)
        return run

    def _launch(self, run: Run, entry: Registered, request: ExecutionRequest) -> None:
        """Task and thread take over the context in which they are made."""
        if entry.is_async:
            self._clock(run)
            run.task = self._loop.create_task(self._run(run, entry.handler, request), name=TASK_PREFIX + run.job.id)
        else:
            handler = entry.handler
            run.turn = self.lane.submit(
                lambda: handler(request),
                lambda value, fault: self._returned(run, value, fault),
                began=lambda: self._got_thread(run),
            )

    def _enter(self, run: Run) -> bool:
        """A job that has the process to itself runs in its sandbox. False when none is to be had (a full disk)."""
        if self._offspring is not None:
            self._offspring.begin()
        if self._indoors is not None:
            try:
                self._indoors.enter(run.aid.sandbox())
            except OSError as fault:
                self._loop.call_soon(self._end, run, Failed(message=f"no sandbox: {fault}", type="no_sandbox"))
                return False
        return True

    def _got_thread(self, run: Run) -> None:
        """A plain handler begins now, and with it its time: waiting for a thread has used up none."""
        run.turn = None
        self._clock(run)
        self._began(run)

    def _clock(self, run: Run) -> None:
        run.began_ns = clock.monotonic_ns()
        self._deadlines.set(run, run.alarm_ns)

    def _plan(self, function: str) -> Plan:
        """What is the same for all jobs of a function. Only our own names are remembered: of others there is no end."""
        name, entry, refusal = self._resolve(function)
        elsewhere = "" if entry is not None or refusal else self._homes[function.partition("#")[0]]
        handler = entry.policy if entry is not None else None
        own = handler.timeout_seconds if handler is not None else None
        usual = (own, self._pool.timeout_seconds, self._settings.rrq.default_job_timeout_seconds)
        timeout_seconds = next(float(seconds) for seconds in usual if seconds is not None)
        plan = Plan(name, entry, refusal, elsewhere, timeout_seconds, lay(self._settings, self._pool, handler))
        if not refusal and len(self._plans) < MOST_PLANS:
            self._plans[function] = plan
        return plan

    def _resolve(self, function: str) -> tuple[str, Registered | None, str]:
        """(name without prefix, its entry, why not). RRQ's rule: ``runner#handler`` names a runner. Neither entry nor
        reason: the runner is another pool's."""
        runner, mark, name = function.partition("#")
        if not mark or not runner:
            name = name if mark else function
        elif not name:
            return function, None, "Handler name is missing"
        elif runner not in self._names:
            return function, None, "" if runner in self._homes else f"No runner configured for '{runner}'."
        entry = self._registry.get(name)
        if entry is None:
            return name, None, f"No handler registered for function '{name}'"
        return name, entry.within(self._middlewares), ""

    def _policy(self, job: ClaimedJob, plan: Plan, rules: QueueRules) -> RunPolicy:
        kept = job.result_ttl_seconds if job.result_ttl_seconds is not None else rules.history_seconds
        if job.max_retries is None and kept is None and job.policy is None:
            return plan.policy
        return lay(
            self._settings, self._pool, plan.entry.policy if plan.entry is not None else None,
            own=job.policy, max_retries=job.max_retries, result_ttl_seconds=kept,
        )  # fmt: skip

    # Step 2: run.

    async def _run(self, run: Run, call: Callable[[Any], Awaitable[Any]], argument: Any) -> None:
        """The body of an async handler's task. The call itself may raise, too."""
        try:
            value = await call(argument)
        except asyncio.CancelledError as fault:
            self._end(run, self._why_stopped(run) or outcomes.from_exception(fault, self._max_error_bytes))
        except BaseException as fault:  # SystemExit from a handler must not end the worker
            self._end(run, self._why_stopped(run) or outcomes.from_exception(fault, self._max_error_bytes))
        else:
            self._end(
                run, self._why_stopped(run) or outcomes.from_value(value, self._max_result_bytes, self._max_error_bytes)
            )

    def _returned(self, run: Run, value: Any, fault: BaseException | None) -> None:
        """A plain handler has come back from its thread."""
        stopped = self._why_stopped(run)
        if fault is None and inspect.isawaitable(value) and not run.over:
            if stopped is not None and inspect.iscoroutine(value):
                value.close()  # it has not begun, and need not
                self._end(run, stopped)
                return
            context = run.trace.context if run.trace is not None else None
            work = self._run(run, _await, value)
            run.task = self._loop.create_task(work, name=TASK_PREFIX + run.job.id, context=context)
            return
        outcome = stopped
        if outcome is None:
            outcome = (
                outcomes.from_exception(fault, self._max_error_bytes)
                if fault is not None
                else outcomes.from_value(value, self._max_result_bytes, self._max_error_bytes)
            )
        self._end(run, outcome)

    def _why_stopped(self, run: Run) -> Outcome | None:
        """What a stop that was asked for means, if one was asked for."""
        if run.timed_out:
            if run.alarm_ns < run.deadline_ns:
                return TimedOut(f"Job gave no heartbeat for {run.rules.heartbeat_seconds:g}s.")
            return TimedOut(f"Job timed out after {run.timeout_seconds:g}s.")
        if run.aid.is_cancelled:
            return WasCancelled()
        return None

    # Step 3: the limits.

    def limit(self, token: int, seconds: float) -> None:
        """Give a run at most so long from now. From any thread."""
        self._loop.call_soon_threadsafe(self._shorten, token, seconds)

    def _shorten(self, token: int, seconds: float) -> None:
        for run in self._deadlines.running():
            if run.job.token == token:
                left = (run.deadline_ns - clock.monotonic_ns()) / 1e9
                if seconds < left:
                    run.timeout_seconds = round(run.timeout_seconds - left + seconds, 3)
                    self._deadlines.set(run, run.alarm_ns)
                return

    def _late(self, run: Run) -> None:
        if run.alarm_ns > clock.monotonic_ns():  # it has given a heartbeat meanwhile
            self._deadlines.set(run, run.alarm_ns)
            return
        run.timed_out = True
        self._stop(run)

    def cancel(self, run: Run) -> None:
        """Somebody does not want this job any more: an async handler is cancelled, a plain one may look."""
        if not run.over and not run.aid.is_cancelled:
            run.aid.stop("cancel")
            if self._withdrawn(run):
                self._end(run, WasCancelled())
            elif run.task is not None:
                self._stop(run)

    def hand_back(self, run: Run) -> None:
        """Stop a run whose job goes back to the queue; it has no outcome. It is ``over`` once it has really stopped."""
        run.handed_back = True
        run.aid.stop("drain")
        if self._withdrawn(run):
            self._end(run, WasCancelled())
        elif run.task is not None and not run.over:
            self._cancel_task(run.task)

    def _withdrawn(self, run: Run) -> bool:
        """Whether the run was still waiting for a thread, and now never gets one."""
        return run.turn is not None and self.lane.withdraw(run.turn)

    def _stop(self, run: Run) -> None:
        if run.task is None and not run.aid.is_cancelled:
            run.aid.stop("timeout")
        if run.task is not None:
            self._cancel_task(run.task)
        if run.grace is None:
            own = run.rules.grace_seconds
            grace = self._settings.rrqd.timeout_grace_seconds if own is None else own
            run.grace = self._loop.call_later(grace, self._does_not_let_go, run)

    def _cancel_task(self, task: asyncio.Task[None]) -> None:
        """Not before its first step, which is in the queue by now: a task that is cancelled before it has begun never
        enters its body, and the run would never end."""
        self._loop.call_soon(task.cancel)

    def _does_not_let_go(self, run: Run) -> None:
        if not run.over:
            self._overdue(run)

    # Step 4: the end.

    def _end(self, run: Run, outcome: Outcome) -> None:
        if run.over:
            return
        run.over = True
        self._deadlines.drop(run)
        if run.grace is not None:
            run.grace.cancel()
        if self._offspring is not None:
            self._offspring.end()
        if self._indoors is not None:
            self._indoors.leave()
        if run.aid.path is not None and self._sandboxes is not None:
            sandboxes, path = self._sandboxes, run.aid.path
            self.lane.submit(lambda: sandboxes.remove(path), lambda _value, _fault: None)
        self._ended(run, outcome)

    @property
    def _max_error_bytes(self) -> int:
        return self._settings.rrqd.max_error_bytes

    @property
    def _max_result_bytes(self) -> int:
        return self._settings.rrqd.max_result_bytes


async def _await(value: Any) -> Any:
    return await value
