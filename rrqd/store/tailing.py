"""Following all jobs, whoever moves them, at no cost while nobody follows.

Rule 1: nothing is written for a follower. The server tells which jobs' keys were touched (broadcast tracking), they are
looked at, and what differs from the last look has happened.
Rule 2: a look comes at most ten times a second and is bounded. What was enqueued, started and ended between two looks
is told as its end; what is too much to look at is counted.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from rrqd import clock
from rrqd.exc import StoreUnavailable
from rrqd.job import JobStatus
from rrqd.model.job import Job
from rrqd.model.wanted import Wanted
from rrqd.store.connection import Link
from rrqd.store.search import briefs
from rrqd.store.store import Store

LOOK_SECONDS = 0.1
LOOK_MOST = 500
HEARD_MOST = 5000
REMEMBERED_MOST = 20_000
PING_SECONDS = 10.0
RETRY_SECONDS = 0.5
WORDS = {
    JobStatus.ACTIVE: "started", JobStatus.COMPLETED: "completed", JobStatus.RETRYING: "retrying",
    JobStatus.FAILED: "buried", JobStatus.CANCELLED: "cancelled",
}  # fmt: skip


class Move(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something happened to a job. ``event``: ``enqueued``, ``started``, ``completed``, ``retrying``, ``buried``,
    ``cancelled``, or ``waiting`` (again: it was released, snoozed, revived or moved). ``at``: RFC 3339. ``attempts``:
    failed ones. ``seconds``: how long the run took that has ended. ``next_run``: when it comes again."""

    event: str
    job_id: str
    at: str
    function: str
    queue: str
    attempts: int = 0
    worker: str | None = None
    seconds: float | None = None
    error: str | None = None
    next_run: str | None = None


class Tail:
    """``async for moves, missed in tail``: what has happened to jobs that pass ``wanted``, and how many jobs were
    touched that there was no time to look at. Without end; a lost connection is made anew. Raises ServerSaid or
    StoreRefused when the server does not allow tracking. ``ready``: it hears."""

    def __init__(self, store: Store, wanted: Wanted) -> None:
        self._store = store
        self._wanted = wanted
        self._prefix = store.keys.job("")
        self._heard: dict[str, None] = {}
        self._missed = 0
        self._bell = asyncio.Event()
        self._known: OrderedDict[str, tuple[str | None, ...]] = OrderedDict()
        self.ready = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[tuple[list[Move], int]]:
        while True:
            try:
                link = await self._store.finder.open(name="rrqd:tail", on_push=self._pushed)
                try:
                    await link.call("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", self._prefix)
                    self.ready.set()
                    async for news in self._listen(link):
                        yield news
                finally:
                    link.close()
            except StoreUnavailable:
                self.ready.clear()
                await asyncio.sleep(RETRY_SECONDS)

    async def _listen(self, link: Link) -> AsyncIterator[tuple[list[Move], int]]:
        while link.lost is None:
            try:
                async with asyncio.timeout(PING_SECONDS):
                    await self._bell.wait()
            except TimeoutError:
                await link.call("EXISTS", self._store.keys.token)  # tells a quiet night from a dead path
                continue
            self._bell.clear()
            ids, missed = list(self._heard)[:LOOK_MOST], self._missed + max(0, len(self._heard) - LOOK_MOST)
            self._heard.clear()
            self._missed = 0
            jobs = [job for job in await briefs(self._store, ids) if job is not None]
            moves = [move for job in jobs if self._wanted.wants(job) and (move := self._news_of(job))]
            if moves or missed:
                yield moves, missed
            await asyncio.sleep(LOOK_SECONDS)

    def _pushed(self, push: list[Any]) -> None:
        if push and push[0] == b"invalidate":
            for key in push[1] or ():
                if len(self._heard) < HEARD_MOST:
                    self._heard[key.decode(errors="replace").removeprefix(self._prefix)] = None
                else:
                    self._missed += 1
        self._bell.set()

    def _news_of(self, job: Job) -> Move | None:
        """What differs from the last look; ``None``: nothing that is a move (its progress, say)."""
        names = ("status", "queue_name", "start_time", "completion_time", "current_retries", "next_scheduled_run_time")
        state = tuple(job.fields.get(name) for name in names)
        before = self._known.pop(job.id, None)
        self._known[job.id] = state
        if len(self._known) > REMEMBERED_MOST:
            self._known.popitem(last=False)
        return move_of(job) if state != before else None


def move_of(job: Job) -> Move:
    """The last thing that happened to a job, by its record."""
    fields, status = job.fields, job.status
    event = WORDS.get(status, "waiting" if "start_time" in fields or "completion_time" in fields else "enqueued")
    named = {"started": "start_time", "enqueued": "enqueue_time"}.get(event, "completion_time")
    ended = event in ("completed", "buried", "cancelled")
    at = fields.get(named) if ended or event in ("started", "enqueued") else None
    failed = event in ("retrying", "buried", "cancelled")
    return Move(
        event=event, job_id=job.id, at=at or clock.wall().isoformat(), function=job.function, queue=job.queue,
        attempts=job.number("current_retries") or 0,
        worker=fields.get("worker_id") if event != "enqueued" else None,
        seconds=_between(job) if event in ("completed", "buried") else None,
        error=job.last_error if failed else None,
        next_run=fields.get("next_scheduled_run_time") if event in ("retrying", "waiting") else None,
    )  # fmt: skip


def _between(job: Job) -> float | None:
    """How long the last run took."""
    began, ended = job.moment("start_time"), job.moment("completion_time")
    if began is None or ended is None:
        return None
    return round(max(0.0, (ended - began).total_seconds()), 3)


def short_time(at: str) -> str:
    """``12:00:00.123`` of an RFC 3339 time, in UTC. What is no time stays as it is."""
    try:
        return datetime.fromisoformat(at).astimezone(UTC).strftime("%H:%M:%S.%f")[:-3]
    except (ValueError, OverflowError):
        return at
