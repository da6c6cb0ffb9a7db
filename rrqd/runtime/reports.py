"""What a worker tells beside settling: progress, lines for jobs' logs, figures. Gathered here and sent in bulk.

Rule 1: nothing here may hold up a job or cost the server a command a job.
Rule 2: while the server is away progress and lines are kept (the newest of them), figures go on adding up.
"""

from __future__ import annotations

import asyncio
from collections import deque

from rrqd.exc import StoreError
from rrqd.flight import OTHER
from rrqd.model.figures import Tallied
from rrqd.model.job import ClaimedJob
from rrqd.model.lifecycle import End
from rrqd.runtime.outage import Outage
from rrqd.store import Store

SEND_SECONDS = 0.25
#: Figures go out at most this often. A worker that is killed loses as much of them.
FIGURES_SECONDS = 5.0
#: Lines that wait to be sent; of more the oldest are lost.
LINES_MOST = 2000
#: Functions in queues that are told apart between two reports; runs of more are counted as ``other``.
SUBJECTS_MOST = 500
#: Of these in one report: each may be a hundred commands.
REPORT_MOST = 10


class Reports:
    """One worker's. Its methods are called in the loop, or (``note``, ``line``) in the thread of a handler."""

    def __init__(self, store: Store, worker_id: str, figures_kept_seconds: float, outage: Outage) -> None:
        self._store = store
        self._worker_id = worker_id
        self._kept_seconds = max(1, round(figures_kept_seconds))
        self._notes: dict[int, tuple[str, int, bytes]] = {}
        self._lines: deque[tuple[str, int, bytes]] = deque(maxlen=LINES_MOST)
        self._tallied: dict[tuple[str, str], Tallied] = {}
        self._unheard: dict[tuple[str, str], Tallied] = {}
        self._number = 0
        self._outage = outage

    def note(self, job: ClaimedJob, note: bytes) -> None:
        """Progress; the newest one wins."""
        self._notes[job.token] = (job.id, job.token, note)

    def line(self, job: ClaimedJob, line: bytes) -> None:
        """A line for the job's log."""
        self._lines.append((job.id, job.token, line))

    def ended(self, job: ClaimedJob) -> None:
        """Its progress is of no more interest; its last lines still are."""
        self._notes.pop(job.token, None)

    def tally(self, queue: str, function: str, end: End, wait_seconds: float, run_seconds: float) -> None:
        """A run has ended."""
        one = self._tallied.get((queue, function))
        if one is None:
            if len(self._tallied) >= SUBJECTS_MOST:
                function = OTHER
            one = self._tallied.setdefault((queue, function), Tallied())
        one.add(end, wait_seconds, run_seconds)

    async def keep_sending(self) -> None:
        """For ever; errors are the server's state, and the next turn's business."""
        turns = 0
        while True:
            await asyncio.sleep(SEND_SECONDS)
            turns += 1
            if not self._outage.lasts:
                try:
                    await self.send(figures=turns % round(FIGURES_SECONDS / SEND_SECONDS) == 0)
                except StoreError:
                    pass

    async def send(self, *, figures: bool = True) -> None:
        """What there is, now. Raises StoreError; what was not heard is kept for the next time."""
        if self._notes:
            notes, self._notes = self._notes, {}
            try:
                await self._store.progress(list(notes.values()))
            except StoreError:
                self._notes = {**notes, **self._notes}
                raise
        if self._lines:
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            try:
                await self._store.add_log_lines(lines)
            except StoreError:
                self._lines.extendleft(reversed(lines[-(LINES_MOST - len(self._lines)) :]))
                raise
        if figures:
            await self._send_figures()

    async def _send_figures(self) -> None:
        """A report whose reply was lost is sent again under its number, before the next one."""
        while self._unheard or self._tallied:
            if not self._unheard:
                some = list(self._tallied)[:REPORT_MOST]
                self._unheard = {subject: self._tallied.pop(subject) for subject in some}
                self._number += 1
            await self._store.add_figures(self._worker_id, self._number, self._unheard, self._kept_seconds)
            self._unheard = {}
