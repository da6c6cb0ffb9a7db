"""Which jobs are meant: a filter as people write it, ``state=failed&queue=mail``, and whether a job passes. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlencode

import msgspec

from rrqd.job import JobStatus
from rrqd.model.job import Job, short_queue_name
from rrqd.model.signature import signature_of

#: What a filter may say, and what each word means.
WORDS = {
    "state": "one or more of pending, active, retrying, completed, failed, cancelled, with commas between them",
    "queue": "jobs of this queue",
    "function": "jobs of this function",
    "tag": "jobs with this tag",
    "tenant": "jobs of this tenant",
    "worker": "jobs that this worker runs, or was the last to run",
    "error": "jobs whose last error contains this",
    "signature": "buried jobs of this group of failures",
    "since": "enqueued at this time or later: RFC 3339, or 90s, 15m, 2h, 7d ago",
    "until": "enqueued before this time",
}
STATES = [one.value.lower() for one in JobStatus if one is not JobStatus.UNKNOWN]
ENDED = frozenset({JobStatus.COMPLETED, JobStatus.CANCELLED})
"""States whose jobs are in no list of the server's."""
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """All that is given must hold. ``states``: empty means any. ``since``, ``until``: of the enqueueing."""

    states: frozenset[JobStatus] = frozenset()
    queue: str | None = None
    function: str | None = None
    tag: str | None = None
    tenant: str | None = None
    worker: str | None = None
    error: str | None = None
    signature: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @classmethod
    def read(cls, said: Mapping[str, str], now: datetime) -> Wanted:
        """From words and their values; an empty value says nothing, other words are passed over. Raises ValueError with
        a sentence."""
        given = {word: value.strip() for word, value in said.items() if word in WORDS and value.strip()}
        states = [word.strip().lower() for word in given.pop("state", "").split(",") if word.strip()]
        for word in states:
            if word not in STATES:
                raise ValueError(f"there is no state {word[:40]!r}; there are {', '.join(STATES)}")
        since, until = given.get("since"), given.get("until")
        queue = given.get("queue")
        return cls(
            states=frozenset(JobStatus(word.upper()) for word in states),
            queue=short_queue_name(queue) if queue else None,
            function=given.get("function"), tag=given.get("tag"),
            tenant=given.get("tenant"), worker=given.get("worker"),
            error=given.get("error"), signature=given.get("signature"),
            since=moment("since", since, now) if since else None,
            until=moment("until", until, now) if until else None,
        )  # fmt: skip

    def may_be(self, *states: JobStatus) -> bool:
        """Whether jobs in one of these states can be meant."""
        if self.signature is not None and JobStatus.FAILED not in states:
            return False
        return not self.states or not self.states.isdisjoint(states)

    def wants(self, job: Job) -> bool:
        """Whether the job passes."""
        return (
            (not self.states or job.status in self.states)
            and (self.queue is None or job.queue == self.queue)
            and (self.function is None or job.function == self.function)
            and (self.tag is None or self.tag in job.tags)
            and (self.tenant is None or job.tenant == self.tenant)
            and (self.worker is None or job.fields.get("worker_id") == self.worker)
            and (self.error is None or self.error in (job.last_error or ""))
            and (self.signature is None or (job.status is JobStatus.FAILED and signature_of(job) == self.signature))
            and self._is_of_that_time(job)
        )

    def fields(self) -> tuple[str, ...]:
        """What of a job's record decides that."""
        needed = {
            "status": self.states or self.signature, "queue_name": self.queue, "rrqd_tags": self.tag,
            "function_name": self.function or self.signature, "rrqd_tenant": self.tenant, "worker_id": self.worker,
            "last_error": self.error or self.signature, "rrqd_error": self.signature,
            "enqueue_time": self.since or self.until,
        }  # fmt: skip
        return tuple(field for field, said in needed.items() if said)

    def _is_of_that_time(self, job: Job) -> bool:
        if self.since is None and self.until is None:
            return True
        at = job.moment("enqueue_time")
        return at is not None and (self.since is None or at >= self.since) and (self.until is None or at < self.until)


def moment(word: str, text: str, now: datetime) -> datetime:
    """``2026-01-31T12:00Z``, ``2026-01-31``, or ``15m`` for a quarter of an hour ago. Raises ValueError."""
    ago = re.fullmatch(r"(\d{1,9})([smhd])", text)
    try:
        if ago:
            return datetime.fromtimestamp(now.timestamp() - int(ago[1]) * UNITS[ago[2]], UTC)
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"{word} is no time: {text[:40]!r}; write 2026-01-31T12:00Z, or 15m for so long ago") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def as_query(said: Mapping[str, str]) -> str:
    """A filter in one line, as it stands in an address: only its words, in a fixed order, without empty ones."""
    return urlencode({word: said[word].strip() for word in WORDS if said.get(word, "").strip()})
