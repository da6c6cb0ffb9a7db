"""The hold on a job that a program has popped: each end is written down at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from rrqd import clock
from rrqd.exc import ClientError
from rrqd.model.job import ClaimedJob
from rrqd.model.joblog import write_line
from rrqd.model.steps import read_step
from rrqd.model.verdict import AskedRetry, Failed, Outcome, Succeeded, judge
from rrqd.reqless.exceptions import LostLockError, ReqlessError
from rrqd.reqless.hand import Hand
from rrqd.runner import NextStep


class Popped:
    """One job in one program's hand."""

    def __init__(self, hand: Hand, job: ClaimedJob) -> None:
        self._hand = hand
        self._job = job
        self.token = job.token
        self.attempt = job.attempt

    def complete(self, step: NextStep | None) -> None:
        limit = self._hand.settings.rrqd.max_params_bytes
        try:
            going = read_step(step, limit) if step is not None else None
        except ClientError as fault:
            raise ReqlessError(str(fault)) from fault
        self._end(Succeeded(b"null", going))

    def retry(self, delay: float, group: str | None, message: str | None) -> None:
        if group is None or message is None:
            self._end(AskedRetry(message or f'Job exhausted retries in queue "{self._job.queue}"', delay))
        else:
            self._end(Failed(message=message, type="RetryJob", details=_details(group), delay_seconds=delay))

    def fail(self, group: str, message: str) -> None:
        self._end(Failed(message=message, type=group, details=_details(group), fatal=True))

    def heartbeat(self) -> float:
        """Raises LostLockError when somebody took the job away."""
        if not self._hand.holds(self._job):
            self._hand.lose(self._job)
            raise LostLockError(f"job {self._job.id} is not held by {self._hand.worker_id} any more")
        return self._hand.expires()

    def log(self, message: str, data: Mapping[str, Any]) -> None:
        line = write_line(clock.wall(), self.attempt, message, data)
        self._hand.place.ask(lambda store: store.add_log_lines([(self._job.id, self.token, line)]))

    def sandbox(self) -> str | None:
        return None

    def _end(self, outcome: Outcome) -> None:
        self._hand.settle(self._job, judge(outcome, self._hand.policy(self._job), self.attempt, 0.5))


def _details(group: str) -> bytes:
    return msgspec.json.encode({"group": group})
