"""What a flight page tells, as values: states, counters, running jobs, tallies. The bytes are `flight`'s business."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum, auto


class FlightState(StrEnum):
    """What the process in a slot says of itself."""

    EMPTY = "empty"
    BOOTING = "booting"
    READY = "ready"
    DRAINING = "draining"
    PAUSED = "paused"
    GONE = "gone"


class Counter(IntEnum):
    """What is counted for each slot. New ones go to the end: the number is the place in the page."""

    CLAIMS = 0
    """Claims that brought at least one job."""
    EMPTY_CLAIMS = auto()
    SCRIPT_CALLS = auto()
    JOBS_CLAIMED = auto()
    JOBS_STARTED = auto()
    JOBS_DONE = auto()
    """Runs that ended, whatever the outcome."""
    JOBS_RELEASED = auto()
    STALE_SETTLES = auto()
    WAKEUPS = auto()
    STORE_ERRORS = auto()
    OVERDUE = auto()
    CANCELS = auto()
    LOOP_STALLS = auto()
    """Times the watchdog thread found the loop silent for too long."""
    RESULTS_TOO_LARGE = auto()

    @property
    def label(self) -> str:
        """The name in metrics and JSON: ``jobs_done``."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class RunningRow:
    """One job that is running now. Times are this machine's monotonic clock."""

    job_id: str
    token: int
    function: str
    queue: str
    started_ns: int
    deadline_ns: int
    """0 when the job has no time limit."""


@dataclass(frozen=True, slots=True)
class Tally:
    """All runs of one function from one queue with one outcome."""

    queue: str
    function: str
    outcome: str
    count: int
    wait_seconds_sum: float
    run_seconds_sum: float
    waits: tuple[int, ...]
    """Runs per bucket of `BUCKETS_SECONDS` and +Inf, not cumulative."""
    runs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PageSnapshot:
    """The header of a page, read at one moment."""

    index: int
    pid: int
    worker_id: str
    pool: str
    slot: int
    generation: int
    state: str
    running: int
    begun_ns: int
    beat_loop_ns: int
    beat_thread_ns: int
    incarnations: int
    """Processes that have lived in this page."""
    suspect: str
    """Job that blocks the loop, as far as the worker's watchdog thread knows; "" when none does."""
    counters: dict[str, int] = field(default_factory=dict)
