"""A client's own hand: what a program holds that pops jobs itself and ends them itself.

It is a worker of the fleet like any other, under a lease that a thread of the program renews. So a popped job is kept
for as long as the program lives, heartbeats or none, and goes back by itself when that is gone.

Rule 1: whoever is told that a job was completed, failed or retried can rely on it; whoever lost it is told that.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import secrets
import threading
from typing import TYPE_CHECKING

import structlog

from rrqd import clock
from rrqd.exc import ClientError
from rrqd.logs import keep_off_stdout
from rrqd.model.job import ClaimedJob
from rrqd.model.lifecycle import End
from rrqd.model.policy import lay
from rrqd.model.verdict import Verdict, WasCancelled, judge
from rrqd.naming import new_node_id
from rrqd.reqless.exceptions import LostLockError
from rrqd.reqless.popped import Popped
from rrqd.reqless.record import KEPT_SECONDS
from rrqd.runtime.outage import Outage
from rrqd.runtime.reports import FIGURES_SECONDS, Reports
from rrqd.runtime.rules import Rules
from rrqd.store import ClaimRequest, ClaimState, Settled, Settlement, Store

if TYPE_CHECKING:
    from rrqd.config.settings import Settings
    from rrqd.model.policy import RunPolicy
    from rrqd.rq.connection import Connection

LEASE_SECONDS = 15.0


class Hand:
    """One program's. Safe for many threads; a forked child has to make its own."""

    def __init__(self, place: Connection, name: str) -> None:
        from rrqd.config.settings import Settings  # who only enqueues loads neither settings nor keeper
        from rrqd.standalone.keeper import Keeper

        keep_off_stdout()
        self.pid = os.getpid()
        self.place = place
        self.name = name
        self.node_id = new_node_id()
        self.held: dict[str, ClaimedJob] = {}
        self.settings: Settings = Settings.model_validate(
            {
                "rrq": {"redis_dsn": place.dsn, "default_result_ttl_seconds": KEPT_SECONDS},
                "rrqd": {"namespace": place.namespace, "lease_seconds": LEASE_SECONDS},
            }
        )
        self._lock = threading.RLock()
        self._turn = 0
        self._told = clock.monotonic()
        self._open()
        self._keeper = Keeper(self.settings, self.node_id, [], wake=_nothing, status=_nobody)
        self._keeper.start()
        atexit.register(self.close)

    def close(self) -> None:
        """What is still held goes back, at once."""
        atexit.unregister(self.close)
        if os.getpid() == self.pid:
            self.tell()
            self._keeper.finish(_never, linger=False)
            self.held.clear()

    def hold(self, jid: str) -> Popped | None:
        """The right to end a job that this program has popped."""
        job = self.held.get(jid) if self.pid == os.getpid() else None
        return Popped(self, job) if job is not None else None

    def policy(self, job: ClaimedJob) -> RunPolicy:
        """The rules of its run."""
        own, said = job.result_ttl_seconds, self._rules.of(job.queue).history_seconds
        return lay(
            self.settings, None, own=job.policy, max_retries=job.max_retries,
            result_ttl_seconds=said if own is None else own,
        )  # fmt: skip

    def pop(self, queue: str, count: int) -> list[ClaimedJob]:
        """Take jobs of a queue; when there are too few, also of recurring templates whose time has come."""
        from rrqd.upkeep.recurrence import Recurrence

        with self._lock:
            jobs = self._claim(queue, count)
            if len(jobs) < count:
                log = structlog.get_logger()
                self.place.ask(lambda store: Recurrence(store, self.node_id, self.settings, log).run_once(0.0))
                jobs += self._claim(queue, count - len(jobs))
            return jobs

    def _claim(self, queue: str, count: int) -> list[ClaimedJob]:
        jobs: list[ClaimedJob] = []
        while len(jobs) < count:
            self._turn += 1
            request = ClaimRequest(
                worker_id=self.worker_id, node_id=self.node_id, turn=self._turn, queues=[queue],
                limit=count - len(jobs), running=len(self.held),
            )  # fmt: skip
            claim = self.place.ask(functools.partial(Store.claim, request=request))
            if claim.state is not ClaimState.OK:
                self._open()  # taken for dead: what it held runs elsewhere
                continue
            for job_id, token, why in claim.spoiled:
                self._settle(Settlement(job_id, token, Verdict(end=End.BURY, error=why, ttl_seconds=0)))
            self.held.update({job.id: job for job in claim.jobs})
            jobs += claim.jobs
            if not claim.full:
                break
        return jobs

    def settle(self, job: ClaimedJob, verdict: Verdict) -> None:
        """End its run. Raises LostLockError when it is not this program's any more."""
        with self._lock:
            rules = self._rules.of(job.queue)
            self._settle(Settlement(job.id, job.token, verdict, rules.job_history_count, rules.history_count))
            self.held.pop(job.id, None)
            waited_ms, ran_ms = job.claimed_ms - job.due_ms, clock.wall_ms() - job.claimed_ms
            self._reports.tally(
                job.queue, job.function, verdict.end, max(0.0, waited_ms) / 1000, max(0.0, ran_ms) / 1000
            )
            if clock.monotonic() - self._told > FIGURES_SECONDS:
                self.tell()

    def tell(self) -> None:
        """Write down the figures of what it has run since it last told, and hear what the store's configuration says.
        Unheard, they wait for the next time."""
        with self._lock, contextlib.suppress(ClientError):
            self._told = clock.monotonic()
            self.place.ask(lambda _: self._reports.send())
            self.place.ask(lambda _: self._rules.read())

    def check(self, job: ClaimedJob) -> None:
        """Raises LostLockError when it is not this program's any more, or was cancelled; then that is what it is."""
        stored = self.place.ask(lambda store: store.get(job.id))
        if stored is None or stored.fields.get("rrqd_token") != str(job.token):
            self.held.pop(job.id, None)
            raise LostLockError(f"job {job.id} is not held by {self.worker_id} any more")
        if "rrqd_cancel" in stored.fields:
            self.settle(job, judge(WasCancelled(), self.policy(job), job.attempt, 0.5))
            raise LostLockError(f"job {job.id} was cancelled")

    def expires(self) -> float:
        """Until when the lease runs that is renewed all the time, epoch seconds."""
        left = self.place.ask(lambda store: store.lease_left(self.node_id))
        return clock.wall_ms() / 1000 + (left or 0.0)

    def _open(self) -> None:
        self.worker_id = f"{self.name}-{secrets.token_hex(3)}"
        self.held.clear()

        async def begin(store: Store) -> tuple[Reports, Rules]:
            await store.renew(self.node_id, int(LEASE_SECONDS * 1000))
            await store.open_worker(self.worker_id, self.node_id)
            kept, rules = self.settings.rrqd.figures_retention_seconds, Rules(store)
            await rules.read()
            return Reports(store, self.worker_id, kept, Outage(structlog.get_logger())), rules

        self._reports, self._rules = self.place.ask(begin)

    def _settle(self, end: Settlement) -> None:
        said = self.place.ask(lambda store: store.settle(self.worker_id, [end]))[0]
        if said is not Settled.OK:
            self.held.pop(end.job_id, None)
            raise LostLockError(f"job {end.job_id} is not held by {self.worker_id} any more ({said})")


def _nothing() -> None:
    """Nobody waits to be woken: a pop is made when the program wants one."""


def _nobody() -> None:
    """No health record of RRQ's: this program takes jobs only when it pops."""


def _never() -> bool:
    return False
