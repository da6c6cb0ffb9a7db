"""What runs in a worker, by token and by id, and what the flight page, the figures and the log are told of each run.

Rule: a job's id can come back while its last run is still ending; the token never does, so runs are kept by token.
"""

from __future__ import annotations

from typing import Any

from rrqd import clock
from rrqd.events import Event
from rrqd.flight import Counter, FlightPage
from rrqd.model.lifecycle import End
from rrqd.model.verdict import Verdict
from rrqd.runtime.executor import Run
from rrqd.runtime.reports import Reports

_WORDS = {
    End.ADVANCE: (Event.JOB_ADVANCED, "debug"),
    End.RETRY: (Event.JOB_RETRYING, "warning"),
    End.SNOOZE: (Event.JOB_SNOOZED, "debug"),
    End.BURY: (Event.JOB_BURIED, "error"),
    End.CANCEL: (Event.JOB_CANCELLED, "info"),
    End.DIVERT: (Event.JOB_DIVERTED, "debug"),
}


class Roster:
    """The runs of one worker. Changed on its loop; ``describe`` may be called in other threads."""

    def __init__(self, page: FlightPage | None, log: Any, reports: Reports) -> None:
        self._page = page
        self._log = log
        self._reports = reports
        self._runs: dict[int, Run] = {}
        self._by_id: dict[str, Run] = {}
        self.ended = 0

    def __len__(self) -> int:
        return len(self._runs)

    def all(self) -> list[Run]:
        """The runs, oldest first."""
        return list(self._runs.values())

    def find(self, job_id: str) -> Run | None:
        """The newest run of a job."""
        return self._by_id.get(job_id)

    def under(self, token: int) -> Run | None:
        """The run that has this token."""
        return self._runs.get(token)

    def enter(self, run: Run) -> None:
        """A run begins."""
        job = run.job
        self._runs[job.token] = run
        self._by_id[job.id] = run
        page = self._page
        if page is not None:
            run.row = page.start(job.id, job.token, job.function, job.queue, run.deadline_ns)
            page.add(Counter.JOBS_STARTED)
            page.set_running(len(self._runs))

    def began(self, run: Run) -> None:
        """A plain handler has got its thread: its time begins now."""
        if self._page is not None:
            self._page.set_deadline(run.row, run.deadline_ns)

    def leave(self, run: Run) -> None:
        """A run is over."""
        job = run.job
        self._runs.pop(job.token, None)
        if self._by_id.get(job.id) is run:
            del self._by_id[job.id]
        self.ended += 1
        if self._page is not None:
            self._page.finish(run.row)
            self._page.set_running(len(self._runs))

    def account(self, run: Run, verdict: Verdict) -> None:
        """Count an end, and say it where it is not the usual one."""
        job = run.job
        seconds = (clock.monotonic_ns() - run.began_ns) / 1e9
        wait = max(0.0, (job.claimed_ms - job.due_ms) / 1000)
        function = job.function if run.request is not None else "unknown"
        self._reports.tally(job.queue, function, verdict.end, wait, seconds)
        if self._page is not None:
            self._page.tally(job.queue, function, verdict.label, wait, seconds)
            self._page.add(Counter.JOBS_DONE)
        if verdict.end is not End.COMPLETE:
            event, level = _WORDS[verdict.end]
            log = getattr(self._log, level)
            log(
                event, job_id=job.id, function=job.function, queue=job.queue, attempt=job.attempt, why=verdict.error,
                seconds=round(seconds, 3), delay_ms=verdict.delay_ms or None,
            )  # fmt: skip

    def describe(self) -> list[dict[str, Any]]:
        """What runs now, for dumps and the debugger. ``seconds_left`` is None while a plain handler waits for a
        thread: its time has not begun."""
        now_ns = clock.monotonic_ns()
        return [
            {
                "job_id": run.job.id, "function": run.job.function, "queue": run.job.queue,
                "attempt": run.job.attempt, "running_seconds": round((now_ns - run.began_ns) / 1e9, 3),
                "seconds_left": None if run.turn is not None else round((run.deadline_ns - now_ns) / 1e9, 3),
            }
            for run in self.all()
        ]  # fmt: skip
