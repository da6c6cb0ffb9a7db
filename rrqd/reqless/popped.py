"""The hold on a job that a program has popped: each end is written down at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rrqd import clock
from rrqd.exc import ClientError
from rrqd.model.job import ClaimedJob
from rrqd.model.joblog import write_line
from rrqd.model.steps import read_step
from rrqd.model.verdict import AskedRetry, Failed, Outcome, Succeeded, judge
from rrqd.reqless.exceptions import ReqlessError
from rrqd.runner import NextStep

if TYPE_CHECKING:
    from rrqd.reqless.hand import Hand


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

    def retry(self, delay: float, message: str) -> None:
        self._end(AskedRetry(message, delay))

    def fail(self, group: str, message: str) -> None:
        self._end(Failed(message=message, group=group))

    def heartbeat(self) -> float:
        """Raises LostLockError when somebody cancelled the job or took it away."""
        self._hand.check(self._job)
        return self._hand.expires()

    def log(self, message: str, data: Mapping[str, Any]) -> None:
        line = write_line(clock.wall(), self.attempt, message, data)
        self._hand.place.ask(lambda store: store.add_log_lines([(self._job.id, self.token, line)]))

    def sandbox(self) -> str | None:
        return None

    def _end(self, outcome: Outcome) -> None:
        self._hand.settle(self._job, judge(outcome, self._hand.policy(self._job), self.attempt, 0.5))
