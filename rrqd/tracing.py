"""The places where a tracer may watch: around an enqueue, and around the run of a job. Off, they cost one look each.

The core knows these shapes and no telemetry library; ``rrqd.integrations.otel`` is one that fits them. A watcher never
raises: what goes wrong in it is its own business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextvars import Context
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from rrqd.job import EnqueueReport
    from rrqd.model.job import ClaimedJob
    from rrqd.model.verdict import Outcome, Verdict
    from rrqd.runner import ExecutionRequest

#: A job as it is asked for: function name and options.
Wish = tuple[str, Mapping[str, Any] | None]


class Asking:
    """Around one enqueue of one or many jobs; this one watches nothing. ``jobs`` are to be written instead of those
    given: a watcher adds its trace context to them."""

    def __init__(self, jobs: Iterable[Wish]) -> None:
        self.jobs = jobs

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def answered(self, reports: Sequence[EnqueueReport]) -> None:
        """What became of them, in their order."""


class RunTrace(Protocol):
    """One run of one job. ``context``: what the handler runs in, its own and nobody else's. ``carrier``: the trace
    context that is given on to the handler, and to a runner in another process."""

    context: Context
    carrier: dict[str, str]

    def ended(self, outcome: Outcome, verdict: Verdict | None, seconds: float) -> None:
        """The run is over; no verdict when its job was handed back or taken away."""


class ServeTrace(Protocol):
    """One request that a runner serves; ``context`` and ``carrier`` as above."""

    context: Context
    carrier: dict[str, str]

    def answered(self, outcome: str, error_type: str | None, error: str | None, seconds: float) -> None:
        """It has its answer; ``outcome`` is the protocol's word, or ``cancelled``."""


class Watcher(Protocol):
    """What can be installed."""

    def asking(self, jobs: Iterable[Wish], usual_queue: str) -> Asking:
        """An enqueue begins; ``usual_queue`` is that of jobs that name none."""

    def claimed(self, worker_id: str, jobs: Sequence[ClaimedJob], settled: int, seconds: float) -> None:
        """A worker's round trip brought these jobs, and settled so many."""

    def running(self, job: ClaimedJob, worker_id: str, runner: str, timeout_seconds: float) -> RunTrace:
        """A run begins."""

    def serving(self, request: ExecutionRequest) -> ServeTrace:
        """A runner begins to serve a request."""

    def flush(self, seconds: float) -> None:
        """The process ends soon: send what is collected, within that time."""


watcher: Watcher | None = None


def install(new: Watcher | None) -> None:
    """From now on ``new`` watches; ``None``: nobody."""
    global watcher
    watcher = new


def asking(jobs: Iterable[Wish], usual_queue: str) -> Asking:
    """Around one enqueue."""
    return Asking(jobs) if watcher is None else watcher.asking(jobs, usual_queue)
