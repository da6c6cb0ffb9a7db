"""What has ended and is not settled yet.

Rule: a settlement leaves it only when the server has answered for it, or has refused it alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rrqd.events import Event
from rrqd.model.lifecycle import End
from rrqd.model.verdict import Verdict
from rrqd.store import Settled, Settlement
from rrqd.store.connection import ServerSaid
from rrqd.store.jobs import MOVE_BATCH, fits


class Outbox:
    """The settlements of one worker, in the order in which its runs ended."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._waiting: list[Settlement] = []
        self._most = MOVE_BATCH

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, settlement: Settlement) -> None:
        """A run has ended."""
        self._waiting.append(settlement)

    def bury(self, job_id: str, token: int, why: str, retention_seconds: int) -> None:
        """A job that can't be run as it is stored: to the DLQ, with the reason."""
        self._log.error(Event.JOB_BURIED, job_id=job_id, why=why)
        verdict = Verdict(end=End.BURY, error=why, ttl_seconds=retention_seconds, label="invalid")
        self.add(Settlement(job_id, token, verdict))

    def all(self) -> list[Settlement]:
        """Everything, for a last word."""
        return self._waiting

    def next(self) -> list[Settlement]:
        """As many as one call takes. They stay here until `heard`, or are given up by `refused`."""
        return self._waiting[: min(self._most, fits(self._waiting))]

    def heard(self, settling: Sequence[Settlement], answers: Sequence[Settled]) -> int:
        """The server has answered for the first of those, mostly for all. Answers how many of them were no longer the
        worker's."""
        del self._waiting[: len(answers)]
        self._most = MOVE_BATCH
        stale = [(one, answer) for one, answer in zip(settling, answers, strict=False) if answer is not Settled.OK]
        for one, answer in stale:
            self._log.warning(Event.SETTLE_STALE, job_id=one.job_id, answer=answer.value)
        return len(stale)

    def refused(self, fault: ServerSaid) -> None:
        """The server can't carry out what was asked, and it is not the server's state. One settlement at a time then;
        the one that can't be made alone is given up, or it would keep all others from ever being heard."""
        if self._most > 1:
            self._most = 1
        else:
            one = self._waiting.pop(0)
            self._log.error("settle.refused", job_id=one.job_id, error=str(fault), what_now="it stays held")
