"""The engine of a test: a real server that is thrown away, a real worker in this process, and time at the test's word.

Rule 1: nothing is mocked. Jobs go through the store's scripts and the worker's executor; only time is not waited for.
Rule 2: jobs run when the test says so (``run_all``, ``advance``, or inside ``inline()``), one at a time, in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import ANY as ANY

from rrqd import clock
from rrqd.client import RRQClient
from rrqd.handlers import LoadedHandlers, load_handlers
from rrqd.logs import keep_off_stdout
from rrqd.model.job import Job as StoredJob
from rrqd.registry import Registry
from rrqd.rq.connection import DSN_VARIABLE, Connection, connect
from rrqd.rq.values import seconds_of
from rrqd.runner_settings import PythonRunnerSettings
from rrqd.store import Charge
from rrqd.store.rewinding import next_due_in_ms, rewind, wipe
from rrqd.store.short import ShortWay
from rrqd.supervisor.home import enter_throw_away
from rrqd.testing.faults import FAULTS, Fault
from rrqd.testing.record import Ran, Recorder, fits, name_of
from rrqd.testing.ticks import Ticks

#: A handlers object as a pool's ``handlers`` names it, or its ``module:object``.
Handlers = Registry | PythonRunnerSettings | str | None
MOST_JOBS = 1000
_PAGE = 1000
_IDLE_BURSTS = 3
_GOODBYE_SECONDS = 20.0
_FAR_MS = 1e13
#: Beyond a job's due time, so that no rounding leaves it a moment too early.
_HAIR_MS = 1.0


class Engine:
    """See the module. The pytest fixture ``rrqd`` is one, empty at the beginning of each test."""

    def __init__(self, handlers: Handlers = None) -> None:
        self._stay = enter_throw_away()
        self.dsn = self._stay.home.dsn
        self.place: Connection = connect(self.dsn)
        self._handlers = LoadedHandlers(Registry())
        self.runs: list[Ran] = []
        self._timetable = Ticks(None)
        self._ahead = timedelta()
        self._given_up: set[str] = set()
        self.use(handlers)

    def use(self, handlers: Handlers, config: str | Path | None = None) -> None:
        """The handlers for jobs that are enqueued by a registered name (dotted functions need none), and the file whose
        timetable ``advance`` follows. Raises ConfigError."""
        if isinstance(handlers, str):
            self._handlers = load_handlers(handlers)
        elif isinstance(handlers, PythonRunnerSettings):
            self._handlers = LoadedHandlers(handlers.registry, handlers.on_startup, handlers.on_shutdown)
        else:
            self._handlers = LoadedHandlers(handlers or Registry())
        self._timetable = Ticks(config)

    def clear(self) -> None:
        """Forget all jobs and runs; it is now again."""
        self.place.ask(wipe)
        self.runs = []
        self._ahead = timedelta()

    def close(self) -> None:
        """End the server; everything in it goes."""
        self.place.close()
        self._stay.end()

    @contextlib.contextmanager
    def in_charge(self) -> Iterator[None]:
        """Inside, clients and queues that name no server of their own use this one."""
        before = os.environ.get(DSN_VARIABLE)
        os.environ[DSN_VARIABLE] = self.dsn
        try:
            yield
        finally:
            if before is None:
                del os.environ[DSN_VARIABLE]
            else:
                os.environ[DSN_VARIABLE] = before

    # Running.

    def run_all(self, *, fault: Fault | str | None = None, max_jobs: int = MOST_JOBS) -> int:
        """Run all jobs that are due, and those they bring forth, until none is left. Answers how many runs there were.

        ``fault``: what befalls each job once (see :class:`Fault`). Raises AssertionError after ``max_jobs`` runs:
        something brings forth jobs without end.
        """
        recorder = Recorder(
            self._handlers.registry, self.place, self._kill, Fault(fault) if fault is not None else None, max_jobs
        )
        idle = 0
        while idle < _IDLE_BURSTS and (queues := self._due_queues()):
            before = len(recorder.ran_jobs)
            self._burst(recorder, queues)
            if recorder.overrun.is_set() and self._due_queues():
                self.runs += recorder.ran_jobs
                raise AssertionError(f"{max_jobs} runs and no end: {_shown(recorder.ran_jobs[-3:])} …")
            idle = idle + 1 if len(recorder.ran_jobs) == before else 0  # what is due can't be run: buried, or locked
        self.runs += recorder.ran_jobs
        self._given_up = set(self._due_queues())
        return len(recorder.ran_jobs)

    def advance(self, span: str | float | timedelta, *, max_jobs: int = MOST_JOBS) -> int:
        """Let time go on by ``span`` (``"90s"``, ``"5m"``, ``"1d"``, seconds, a timedelta), running all that becomes
        due, each at its time: delays, retries, the timetable's jobs, and what follows from them. Answers how many runs
        there were."""
        end = self.now + _span(span)
        ran = self.run_all(max_jobs=max_jobs)
        while True:
            due_in_ms = self._next_due_in_ms()
            now = self.now  # asked for after that: rather too late than too early
            due_at = now + timedelta(milliseconds=min(due_in_ms + _HAIR_MS, _FAR_MS))
            tick_at, ticking = self._timetable.next(now)
            at = min(due_at, tick_at)
            if at > end:
                break
            self._go_on_until(at)
            if at == tick_at:
                self.place.ask(lambda store, jobs=ticking: store.tick(jobs))  # type: ignore[misc]
            ran += self.run_all(max_jobs=max(1, max_jobs - ran))
        self._go_on_until(end)
        return ran + self.run_all(max_jobs=max(1, max_jobs - ran))

    @property
    def now(self) -> datetime:
        """What time it is in the test: the real time, and all that was advanced."""
        return clock.wall() + self._ahead

    def _go_on_until(self, at: datetime) -> None:
        step = max(timedelta(), at - self.now)
        self.place.ask(lambda store: rewind(store, step.total_seconds() * 1000))
        self._ahead += step

    @contextlib.contextmanager
    def inline(self) -> Iterator[None]:
        """Inside, an enqueue returns when its job, and all else that is due, has run."""
        original, run_all = RRQClient._write, self.run_all

        async def write(self: RRQClient, jobs: Any) -> Any:
            answer = await original(self, jobs)
            await asyncio.to_thread(run_all)
            return answer

        suits = ShortWay.suits
        ShortWay.suits = lambda self, jobs: False  # type: ignore[method-assign]
        RRQClient._write = write  # type: ignore[method-assign]
        try:
            yield
        finally:
            ShortWay.suits = suits  # type: ignore[method-assign]
            RRQClient._write = original  # type: ignore[method-assign]

    def _burst(self, recorder: Recorder, queues: list[str]) -> None:
        keep_off_stdout()
        from rrqd.config.pool_table import PoolSettings
        from rrqd.config.settings import Settings
        from rrqd.standalone import Attendant, Background

        settings = Settings.model_validate({"rrq": {"redis_dsn": self.dsn}})
        pool = PoolSettings(handlers="rrqd.testing:registry", queues=queues, concurrency=1)

        nodes: list[str] = []

        def attendant() -> Attendant:
            handlers = dataclasses.replace(self._handlers, registry=recorder)
            made = Attendant(settings, pool, handlers, pool_name="test")
            recorder.on_overrun = lambda: made.stop(0.0)
            nodes.append(made.node_id)
            return made

        background = Background(attendant)
        background.start(horizon_seconds=0.0)
        background.join()
        for node_id in nodes:
            self._wait_for_goodbye(node_id)

    def _kill(self, worker_id: str) -> None:
        """Take a worker's jobs away, as when its lease has ended."""
        self.place.ask(lambda store: store.close_worker(worker_id, reason="killed by a test", charge=Charge.NOBODY))

    def _due_queues(self) -> list[str]:
        names = self.place.ask(lambda store: store.queues())
        depths = self.place.ask(lambda store: store.queue_depths(names))
        return [depth.name for depth in depths if depth.due and not depth.paused]

    def _wait_for_goodbye(self, node_id: str) -> None:
        """A worker that has ended gives back what it held in a thread of its own; that may take a while."""
        deadline, never = clock.monotonic() + _GOODBYE_SECONDS, threading.Event()
        while self.place.ask(lambda store: store.workers_of(node_id)):
            if clock.monotonic() > deadline:
                raise TimeoutError(f"a worker is still there {_GOODBYE_SECONDS:g} s after its end")
            never.wait(0.01)

    def _next_due_in_ms(self) -> float:
        """0 when a job has become due just now; those that can't be run do not count."""
        if set(self._due_queues()) - self._given_up:
            return 0.0
        names = self.place.ask(lambda store: store.queues())
        return self.place.ask(lambda store: next_due_in_ms(store, names)) if names else math.inf

    # Asserting.

    def enqueued(self, what: Any = None, *args: Any, queue: str | None = None, **kwargs: Any) -> list[StoredJob]:
        """The jobs that wait: of this function (a callable, or a name), with these arguments, in this queue. Arguments
        that are not named may be anything; ``ANY`` stands for any value."""
        found: list[StoredJob] = []
        for name in [queue] if queue is not None else self.place.ask(lambda store: store.queues()):
            ids = self.place.ask(lambda store, name=name: store.queue_page(name, 0, _PAGE))  # type: ignore[misc]
            found += [job for job in self.place.ask(lambda store, ids=ids: store.jobs(ids)) if job is not None]  # type: ignore[misc]
        return [
            job
            for job in found
            if what is None or (name_of(job.function) == name_of(what) and fits(job.params, args, kwargs))
        ]

    def assert_enqueued(
        self,
        what: Any,
        *args: Any,
        queue: str | None = None,
        times: int | None = None,
        within: Any = None,
        **kwargs: Any,
    ) -> None:
        """At least one such job waits (``times``: exactly so many), due ``within`` that span if it is given."""
        found = self.enqueued(what, *args, queue=queue, **kwargs)
        if within is not None:
            limit_ms = self.place.ask(lambda store: store.look(""))[1] + (seconds_of(within, "within") or 0) * 1000
            found = [job for job in found if _due_ms(job) <= limit_ms]
        if len(found) != times if times is not None else not found:
            wanted = f"{_call(name_of(what), args, kwargs)}{f' in {queue}' if queue else ''}"
            there = _shown_jobs(self.enqueued()) or "nothing"
            raise AssertionError(f"expected {_often(times)} {wanted} to wait, found {len(found)}; what waits: {there}")

    def assert_not_enqueued(self, what: Any, *args: Any, queue: str | None = None, **kwargs: Any) -> None:
        """No such job waits."""
        self.assert_enqueued(what, *args, queue=queue, times=0, **kwargs)

    def ran(self, what: Any, *args: Any, **kwargs: Any) -> list[Ran]:
        """The runs of this function, with these arguments, each attempt."""
        return [run for run in self.runs if run.function == name_of(what) and fits(run.params, args, kwargs)]

    def assert_ran(self, what: Any, *args: Any, times: int | None = None, **kwargs: Any) -> None:
        """Such a job was run at least once (``times``: exactly so often, each attempt counted)."""
        found = self.ran(what, *args, **kwargs)
        if len(found) != times if times is not None else not found:
            wanted = _call(name_of(what), args, kwargs)
            raise AssertionError(
                f"expected {_often(times)} {wanted} to run, it ran {len(found)} times; what ran: "
                f"{_shown(self.runs) or 'nothing'}"
            )

    def assert_not_ran(self, what: Any, *args: Any, **kwargs: Any) -> None:
        """No such job was run."""
        self.assert_ran(what, *args, times=0, **kwargs)

    def assert_idempotent(
        self,
        enqueue: Callable[[], object],
        observe: Callable[[], object],
        *,
        reset: Callable[[], object] = lambda: None,
        faults: Sequence[Fault | str] = FAULTS,
    ) -> None:
        """What ``observe`` sees after the jobs of ``enqueue`` have run is the same whatever befalls them.

        ``reset`` brings the world back to the beginning before each try. Raises AssertionError, naming the fault.
        """
        seen: list[object] = []
        for fault in (None, *faults):
            reset()
            self.clear()
            enqueue()
            self.run_all(fault=fault)
            seen.append(observe())
            if seen[-1] != seen[0]:
                raise AssertionError(
                    f"not idempotent: without a fault {seen[0]!r} is seen, with {Fault(fault or '').value} {seen[-1]!r}"
                )


def _span(span: str | float | timedelta) -> timedelta:
    """Raises ValueError for what is no span, or goes back."""
    if not isinstance(span, timedelta):
        span = timedelta(seconds=span if isinstance(span, float) else seconds_of(span, "advance") or 0)
    if span < timedelta():
        raise ValueError("time goes forward only")
    return span


def _due_ms(job: StoredJob) -> float:
    due = job.moment("next_scheduled_run_time") or job.moment("enqueue_time")
    return due.timestamp() * 1000 if due is not None else 0.0


def _often(times: int | None) -> str:
    return "at least one" if times is None else str(times)


def _call(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    return f"{name}({', '.join([*map(repr, args), *(f'{key}={value!r}' for key, value in kwargs.items())])})"


def _shown(runs: Sequence[Ran]) -> str:
    return ", ".join(f"{run.function} {run.params}" for run in runs)


def _shown_jobs(jobs: Sequence[StoredJob]) -> str:
    return ", ".join(f"{name_of(job.function)} {job.params} in {job.queue}" for job in jobs)
