"""Running a function by its dotted name, in any worker: what ``handlers = "dotted:myapp.*"`` means.

Rule 1: what can't be run here is refused with the reason, and its job is kept (in the DLQ), never lost or tried again.
Rule 2: the function is imported and called in the handler's thread; an ``async def`` one then runs on the loop.
Rule 3: a plain function that is to stop (cancelled, or out of time) is interrupted in its thread, at its next step of
        Python code, or before its first.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from datetime import timedelta
from typing import Any

from rrqd import clock
from rrqd.exc import JobExists, SnoozeJob
from rrqd.handlers import LoadedHandlers
from rrqd.registry import NO_POLICY, Registered, Registry
from rrqd.rq import record
from rrqd.rq.codec import Allow, CodecError
from rrqd.rq.connection import Connection
from rrqd.rq.current import current
from rrqd.rq.job import Job
from rrqd.rq.made import CALLBACKS, CallbackWish
from rrqd.rq.reference import CLASS, MAIN, PREFIX, NameUnknown, allow_all, allow_only, find, script, split
from rrqd.rq.stopping import Interruptible, JobStopped, JobTimeoutException, time_limit
from rrqd.runner import ExecutionError, ExecutionOutcome, ExecutionRequest

#: How long a job of another script is left alone before somebody looks at it again.
OTHER_SCRIPT_SECONDS = 2.0
NEVER_AGAIN = "handler_not_found"


class DottedRegistry(Registry):
    """Finds functions by name. ``allow`` judges names. ``own_script``: those of ``__main__`` are this process's own."""

    def __init__(
        self,
        allow: Allow,
        *,
        own_script: bool = False,
        place: Connection | None = None,
        exception_handlers: Sequence[Callable[..., Any]] = (),
    ) -> None:
        super().__init__()
        self.exception_handlers = exception_handlers
        self.allow = allow
        self.own_script = own_script
        self.ran = 0
        """How many functions were called."""
        self.on_run: Callable[[], None] = lambda: None
        """Called before each, in its thread; ``ran`` counts it already."""
        self._place = place

    @property
    def place(self) -> Connection:
        """Where the jobs lie, for callbacks and current jobs."""
        if self._place is None:
            raise RuntimeError("this worker has not said where its jobs lie")
        return self._place

    def bind(self, dsn: str, namespace: str) -> None:
        """Told by the worker before its first job: where its jobs lie."""
        if self._place is None:
            self._place = Connection(dsn, namespace=namespace)

    def get(self, name: str) -> Registered | None:
        """An entry for any dotted name; whether it may and can be run is found out in its thread."""
        for prefix, start in ((PREFIX, _start), (CLASS, _start_class)):
            if name.startswith(prefix):
                return Registered(name, functools.partial(start, self, name.removeprefix(prefix)), False, NO_POLICY)
        return super().get(name)


def load(patterns: str) -> LoadedHandlers:
    """What a pool with ``handlers = "dotted:<patterns>"`` runs. Patterns are parted by commas."""
    registry = DottedRegistry(allow_only(tuple(one.strip() for one in patterns.split(",") if one.strip())))
    return LoadedHandlers(registry, on_bind=registry.bind)


class _Run:
    """One call of a function for one job."""

    def __init__(self, registry: DottedRegistry, path: str, request: ExecutionRequest) -> None:
        self.registry = registry
        self.path = path
        self.request = request
        self.params = request.params
        wishes = request.params.get("rq")
        self.wishes: dict[str, Any] = wishes if isinstance(wishes, dict) else {}
        self.subject = f"{request.job_id} {PREFIX}{path}"

    def key(self) -> bytes:
        return self.registry.place.signing_key

    def job(self) -> Job:
        """As it is stored now."""
        return Job.fetch(self.request.job_id, self.registry.place)

    def prepare(self) -> tuple[Callable[..., Any], record.Call]:
        """The function and its arguments. Raises NameUnknown, CodecError, SnoozeJob."""
        if split(self.path)[0] == MAIN and self.registry.own_script and self.wishes.get("script") != script():
            raise SnoozeJob(OTHER_SCRIPT_SECONDS, f"it belongs to the script {self.wishes.get('script')}")
        self.registry.allow(self.path)
        call = record.read_call(self.params, self.subject, self.registry.allow, self.key)
        function = find(self.path)
        if not callable(function):
            raise NameUnknown(f"{self.path} is a {type(function).__qualname__} and can't be called")
        return function, call

    def is_too_late(self) -> bool:
        """Whether the job waited longer than its ``ttl``."""
        ttl = self.wishes.get("ttl")
        if not isinstance(ttl, int) or ttl < 0:
            return False
        return clock.wall() > self.request.context.enqueue_time + timedelta(seconds=ttl)

    def ended(self, value: Any) -> Any:
        """What is stored of a result. One that can't be stored, or a callback that fails, is a failure."""
        try:
            return self.succeeded(value)
        except Exception as fault:
            self.failed(fault)
            raise

    def succeeded(self, value: Any) -> Any:
        """What is stored of a result, after the callback and the next repetition."""
        stored = record.write_result(value, "pickle" in self.params, self.subject, self.key)
        self.call_back("on_success", value)
        self.repeat()
        return stored

    def failed(self, fault: BaseException) -> None:
        """The callback of a failure; the wait before the next attempt goes with the exception."""
        intervals = self.wishes.get("retry")
        if isinstance(intervals, list) and intervals and not hasattr(fault, "retry_after_seconds"):
            nth = min(self.request.context.attempt, len(intervals)) - 1
            fault.retry_after_seconds = float(intervals[nth])  # type: ignore[attr-defined]
        self.call_back("on_failure", type(fault), fault, fault.__traceback__)
        for handle in self.registry.exception_handlers:
            if handle(self.job(), type(fault), fault, fault.__traceback__) is False:
                break

    def call_back(self, name: str, *args: Any) -> None:
        wish = CallbackWish.read(self.wishes.get(name))
        if wish is not None:
            self.registry.allow(wish.path)
            call = find(wish.path)
            with time_limit(wish.timeout):
                call(self.job(), self.registry.place, *args)

    @property
    def has_more_to_do(self) -> bool:
        """Whether there is something to call or to enqueue after the function."""
        return bool(self.registry.exception_handlers) or not self.wishes.keys().isdisjoint((*CALLBACKS, "repeat"))

    def repeat(self) -> None:
        """Enqueue the next repetition. Its id is fixed, so that a run that is repeated itself makes no second one."""
        wish = self.wishes.get("repeat")
        if not wish:
            return
        left, intervals = wish
        first, _, nth = self.request.job_id.partition(":repeat:")
        done = int(nth or 0)
        job = self.job()
        job.id = f"{first}:repeat:{done + 1}"
        rest = {name: value for name, value in self.wishes.items() if name != "repeat"}
        if left > 1:
            rest["repeat"] = [left - 1, intervals]
        stored = job.stored
        options = {
            "params": record.write_call(record.Call(job.args, job.kwargs), rest, job.serializer, job.subject, self.key),
            "job_id": job.id,
            "queue_name": job.origin,
            "defer_by_seconds": intervals[min(done, len(intervals) - 1)],
            "max_retries": stored.number("max_retries"),
            "job_timeout_seconds": stored.number("job_timeout_seconds"),
            "result_ttl_seconds": stored.number("result_ttl_seconds"),
        }
        try:
            self.registry.place.enqueue([(PREFIX + self.path, options)])
        except JobExists:
            pass


def _start(registry: DottedRegistry, path: str, request: ExecutionRequest) -> Any:
    """In the handler's thread: import, read the arguments, call; or give back what is to be awaited on the loop."""
    run = _Run(registry, path, request)
    try:
        function, call = run.prepare()
    except (NameUnknown, CodecError) as why:
        return _refusal(str(why))
    if run.is_too_late():
        return _refusal(f"it waited longer than its ttl of {run.wishes['ttl']} s")
    registry.ran += 1
    registry.on_run()
    stopper = Interruptible()
    if request.aid is not None:
        request.aid.when_stopped(stopper.stop)
    try:
        with current(run.job), stopper:
            value = function(*call.args, **call.kwargs)
    except JobStopped:
        if stopper.reason == "cancel":  # else it runs again elsewhere
            run.call_back("on_stopped")
        raise
    except BaseException as fault:  # sys.exit() in a function is a failure like any other
        run.failed(fault)
        raise
    return _Rest(_finish(run, value, stopper)) if inspect.isawaitable(value) else run.ended(value)


def _start_class(registry: DottedRegistry, path: str, request: ExecutionRequest) -> Any:
    """A job class: the other face's affair, and loaded with its first job."""
    from rrqd.reqless.running import start

    return start(registry, path, request)


class _Rest:
    """What is to be awaited. A coroutine would be dropped when its run was stopped before it began; this one is awaited
    all the same, and has its callback called."""

    def __init__(self, rest: Coroutine[Any, Any, Any]) -> None:
        self._rest = rest

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._rest.__await__()


async def _finish(run: _Run, awaitable: Awaitable[Any], stopper: Interruptible) -> Any:
    """On the loop: an async function. Its callbacks are plain functions, and go to a thread."""
    try:
        if stopper.reason is not None:
            if inspect.iscoroutine(awaitable):
                awaitable.close()  # it has not begun, and need not
            raise asyncio.CancelledError
        with current(run.job):
            value = await awaitable
    except asyncio.CancelledError:
        if stopper.reason == "cancel":
            await asyncio.to_thread(run.call_back, "on_stopped")
        elif stopper.reason is None:  # nobody asked for it: its time is over
            await asyncio.to_thread(run.failed, JobTimeoutException())
        raise
    except BaseException as fault:
        await asyncio.to_thread(run.failed, fault)
        raise
    return await asyncio.to_thread(run.ended, value) if run.has_more_to_do else run.ended(value)


def _refusal(why: str) -> ExecutionOutcome:
    """To the DLQ at once, whatever retries there are: the next attempt would find the same."""
    return ExecutionOutcome(status="error", error=ExecutionError(message=why, type=NEVER_AGAIN))


def own_functions(place: Connection, exception_handlers: Sequence[Callable[..., Any]] = ()) -> DottedRegistry:
    """For a worker in a process of the user's own: any importable function, those of its script too."""
    return DottedRegistry(allow_all, own_script=True, place=place, exception_handlers=exception_handlers)
