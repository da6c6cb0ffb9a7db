"""``Worker``: runs the jobs of its queues in this process, one at a time, earlier queues first.

Rule 1: it claims a job only when it can start it, so what waits can be taken by any other worker.
Rule 2: stopped, it finishes what runs; killed, its jobs run elsewhere when its lease has ended.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from rrqd.logs import keep_off_stdout
from rrqd.rq.connection import Connection, connect
from rrqd.rq.current import in_a_job
from rrqd.rq.queue import Queue
from rrqd.rq.values import LONGEST_SECONDS

if TYPE_CHECKING:
    from rrqd.standalone import Attendant, Background


class Worker:
    """``Worker([high, low]).work(burst=True)``. Queues are Queues or names; ``name`` is shown in lists and logs.

    ``exception_handlers``: called with ``(job, type, exception, traceback)`` of each failed attempt, until one answers
    False. ``concurrency``: how many jobs run at once (one, as in RQ, so that the order of queues is always kept).
    """

    def __init__(
        self,
        queues: Queue | str | Iterable[Queue | str],
        name: str | None = None,
        connection: Any = None,
        *,
        concurrency: int = 1,
        exception_handlers: Callable[..., Any] | Sequence[Callable[..., Any]] | None = None,
        **unused: Any,
    ) -> None:
        del unused  # RQ has many settings for what is the engine's affair here
        listed = [queues] if isinstance(queues, Queue | str) else list(queues)
        if not listed:
            raise ValueError("a Worker needs at least one queue")
        first = next((one for one in listed if isinstance(one, Queue)), None)
        place = first.connection if first is not None and connection is None else connect(connection)
        self.queues = [one if isinstance(one, Queue) else Queue(one, place) for one in listed]
        self.connection: Connection = self.queues[0].connection
        if any(queue.connection is not self.connection for queue in self.queues):
            raise ValueError("the queues of a Worker must lie in one place; start a Worker for each")
        self.name = name or f"{socket.gethostname()}-{os.getpid()}"
        self.concurrency = concurrency
        self._exception_handlers = (
            [exception_handlers] if callable(exception_handlers) else list(exception_handlers or ())
        )
        self._background: Background | None = None
        self._ran: Callable[[], int] = lambda: 0

    def __repr__(self) -> str:
        return f"<Worker {self.name} of {', '.join(queue.name for queue in self.queues)}>"

    def queue_names(self) -> list[str]:
        """In the order in which they are served."""
        return [queue.name for queue in self.queues]

    def work(self, burst: bool = False, *, max_jobs: int | None = None, **unused: Any) -> bool:
        """Run jobs until stopped; with ``burst``, until no job waits that could start; with ``max_jobs``, until so many
        functions were called. True if any was.

        In the main thread INT and TERM stop it, if the program has no handlers of its own for them: what runs is
        finished. A second one stops that, too, and puts its job back.
        """
        del unused
        if max_jobs is not None and (isinstance(max_jobs, bool) or not isinstance(max_jobs, int) or max_jobs < 1):
            raise ValueError(f"max_jobs must be a whole number above 0, not {max_jobs!r}")
        with self._obeying_signals():
            self._start(burst, max_jobs)
            assert self._background is not None
            self._background.join()
        return self._ran() > 0

    def start(self, burst: bool = False) -> None:
        """The same in a background thread; returns when it takes jobs. A running one is left as it is."""
        self._start(burst, None)

    def _start(self, burst: bool, max_jobs: int | None) -> None:
        _ = self.connection.client  # a server that can't be had is told here, not in a thread
        keep_off_stdout()
        from rrqd.standalone import Background  # the engine is loaded by those who run jobs, not by those who enqueue

        if self._background is not None and self._background.is_alive:
            return
        self._background = Background(lambda: self._attendant(max_jobs))
        self._background.start(horizon_seconds=0.0 if burst else None)

    def stop(self) -> None:
        """End, and wait until what runs is finished. A job that stops its own worker does not wait. May be called by a
        signal handler, again, and after the end."""
        if self._background is not None:
            self._background.stop(LONGEST_SECONDS, wait=not in_a_job())

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end. Raises what went wrong."""
        if self._background is not None:
            self._background.join(timeout)

    @property
    def is_running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._background is not None and self._background.is_alive

    def _attendant(self, max_jobs: int | None) -> Attendant:
        from rrqd.config.pool_table import PoolSettings
        from rrqd.config.settings import Settings
        from rrqd.handlers import LoadedHandlers
        from rrqd.rq.running import own_functions
        from rrqd.standalone import Attendant

        place = self.connection
        functions = own_functions(place, self._exception_handlers)
        self._ran = lambda: functions.ran
        settings = Settings.model_validate(
            {
                "rrq": {"redis_dsn": place.dsn, "default_result_ttl_seconds": 500},
                "rrqd": {"namespace": place.namespace, "lease_seconds": 5.0},
            }
        )
        pool = PoolSettings(
            handlers="rrqd.rq:functions", queues=self.queue_names(), concurrency=self.concurrency,
            queue_order="strict", sandbox=False,
        )  # fmt: skip
        attendant = Attendant(settings, pool, LoadedHandlers(functions), pool_name=self.name, linger=True)

        def count() -> None:
            if functions.ran == max_jobs:  # this one is finished, and no other is begun
                attendant.stop(LONGEST_SECONDS)

        functions.on_run = count
        return attendant

    @contextmanager
    def _obeying_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        heard: list[int] = []

        def hear(number: int, _frame: FrameType | None) -> None:
            heard.append(number)
            if self._background is not None:
                self._background.stop(0.0 if len(heard) > 1 else LONGEST_SECONDS, wait=False)

        usual: dict[int, Any] = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
        ours = [number for number, handler in usual.items() if signal.getsignal(number) == handler]
        for number in ours:
            signal.signal(number, hear)
        try:
            yield
        finally:
            for number in ours:
                signal.signal(number, usual[number])


#: RQ's workers differ in how they make a process for each job; here jobs run in threads, or in a pool of the daemon.
SimpleWorker = SpawnWorker = Worker
