"""What the store's calls take and answer. Plain records; no Redis here."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any

import msgspec

from rrqd.model.job import ClaimedJob
from rrqd.model.verdict import Verdict


class StorePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What the scripts need to know of the settings."""

    namespace: str = ""
    default_queue: str = "default"
    default_dlq: str = "default"
    dlq_retention_seconds: int = 604_800
    cancelled_retention_seconds: int = 86_400
    max_stalls: int = 3
    enqueue_replicas: int = 0


def policy_of(settings: Any) -> StorePolicy:
    """What the store's scripts need of the settings."""
    daemon = settings.rrqd
    return StorePolicy(
        namespace=daemon.namespace,
        default_queue=settings.rrq.default_queue_name,
        default_dlq=settings.rrq.default_dlq_name.removeprefix("rrq:dlq:"),
        dlq_retention_seconds=math.ceil(daemon.dlq_retention_seconds),
        cancelled_retention_seconds=math.ceil(daemon.cancelled_retention_seconds),
        max_stalls=daemon.max_stalls,
        enqueue_replicas=daemon.enqueue_replicas,
    )


class ClaimState(StrEnum):
    """Why a claim answered as it did. CLOSED: this worker id was closed (its jobs were given away), or never
    opened; leave. LAPSED: the node's lease is not live; claim again once it is renewed."""

    OK = "ok"
    CLOSED = "closed"
    LAPSED = "lapsed"


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """``spoiled``: jobs that can't be run as stored, with their token and the reason (settle them as buried).
    ``aside``: ids whose key is not a hash; they were taken out of the queue and noted, nothing is to be settled.
    ``full``: the limit was reached, so there may be more. ``more``: not all queues were looked at.
    ``hold``: a suspect waits to run alone here; take nothing else until everything running has ended.
    ``next_due_ms``: epoch ms of the next job not due yet. ``now_ms``: the server's clock. ``cancels``: ids of running
    jobs that somebody cancelled; ``taken``: tokens of runs whose jobs were taken away."""

    state: ClaimState
    jobs: list[ClaimedJob] = []
    spoiled: list[tuple[str, int, str]] = []
    aside: list[tuple[str, str]] = []
    cancels: list[str] = []
    taken: list[int] = []
    full: bool = False
    more: bool = False
    hold: bool = False
    next_due_ms: float | None = None
    now_ms: float = 0.0


class ClaimRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``turn`` grows by one with each *new* claim of the worker; a repeated claim (lost reply) keeps its number
    and gets the same jobs. ``queues``: short names, in the order to try. ``shares``: how many jobs of each are taken
    before the others have had theirs; without any, all get the same, and each claim begins with another queue.
    ``limit``: free slots; 0 to hear of cancels only. ``running``: jobs this worker still runs."""

    worker_id: str
    node_id: str
    turn: int
    queues: list[str]
    limit: int
    running: int
    shares: list[int] = []


class Settlement(msgspec.Struct, frozen=True):
    """The end of one run. ``past_most``: so many entries of the job's history are kept; ``keep_most``: so many
    completed jobs of its queue; ``None``: the usual number, and all until they expire."""

    job_id: str
    token: int
    verdict: Verdict
    past_most: int | None = None
    keep_most: int | None = None


class Settled(StrEnum):
    """OK also for a repeat of the same settlement. STALE: the job is no longer this token's. GONE: no such job.
    BROKEN: what is stored of the job does not let it end; it was set aside."""

    OK = "ok"
    STALE = "stale"
    GONE = "gone"
    BROKEN = "broken"


class Charge(StrEnum):
    """Who pays for a worker's end. NOBODY: it was planned. DEATH: the culprit if known, the only job if alone,
    else everybody is noted as aboard. NODE: the same when a whole machine is gone, but who was alone there is only
    noted, unless it was aboard two deaths before."""

    NOBODY = "nobody"
    DEATH = "death"
    NODE = "node"


class Released(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the jobs a worker held: ids by fate."""

    queued: list[str] = []
    buried: list[str] = []
    cancelled: list[str] = []


class Purged(msgspec.Struct, frozen=True, kw_only=True):
    """What a purge did: ids by fate. ``running``: left alone. ``missing``: nothing of the kind was there."""

    removed: list[str] = []
    running: list[str] = []
    missing: list[str] = []


class Adoption(StrEnum):
    """What a foreign worker was found to be. NONE: it lists no running jobs (any more)."""

    ALIVE = "alive"
    DEAD = "dead"
    NONE = "none"


class Adopted(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a foreign worker's jobs. ``locked``: left alone, their lock lives. ``left``: still listed."""

    was: Adoption
    queued: list[str] = []
    buried: list[str] = []
    locked: int = 0
    left: int = 0


class LeaseWas(StrEnum):
    """UNKNOWN: not registered (first time, or it had been reaped). LAPSED: renewed too late, but not reaped yet."""

    LIVE = "live"
    UNKNOWN = "unknown"
    LAPSED = "lapsed"


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a node's lease by the server's clock, and what it was before this call."""

    deadline_ms: float
    now_ms: float
    was: LeaseWas


class Cancelled(StrEnum):
    """CANCELLED: it will never start. ASKED: it runs; its worker was told. TOO_LATE: it had ended, or a foreign
    worker runs it. UNKNOWN: no such job."""

    CANCELLED = "cancelled"
    ASKED = "asked"
    TOO_LATE = "too-late"
    UNKNOWN = "unknown"


class Moved(StrEnum):
    """MOVED: it waits where it was wished to. REVIVED: the same, out of the DLQ. TAKEN: the same, away from its worker,
    which was told. CANCELLED: it ran, and somebody had cancelled it: that is what it is now. WAITING, BURIED, RUNNING:
    left alone, for it was not to be moved out of that state. TOO_LATE: it had ended, or a foreign worker runs it.
    UNKNOWN: no such job."""

    MOVED = "moved"
    REVIVED = "revived"
    TAKEN = "taken"
    CANCELLED = "cancelled"
    WAITING = "waiting"
    BURIED = "buried"
    RUNNING = "running"
    TOO_LATE = "too-late"
    UNKNOWN = "unknown"

    @property
    def done(self) -> bool:
        """Whether the job waits where it was wished to."""
        return self in (Moved.MOVED, Moved.REVIVED, Moved.TAKEN)


class Prioritised(StrEnum):
    """MOVED: it waits at its new place. NOTED: it runs, is buried or waits for something else; the priority counts when
    it next waits in a queue. TOO_LATE: it had ended, or a foreign worker runs it. UNKNOWN: no such job."""

    MOVED = "moved"
    NOTED = "noted"
    TOO_LATE = "too-late"
    UNKNOWN = "unknown"


class QueueDepth(msgspec.Struct, frozen=True, kw_only=True):
    """``waiting`` = all ids in the queue; ``due`` = those that could start now, were the queue not ``paused``; ages in
    seconds, server clock. Of jobs with a priority the age is that of the first in line and of the last, so the oldest
    may be older. ``dependent``: jobs that wait for others; they are not among those waiting."""

    name: str
    waiting: int
    due: int
    oldest_due_age_seconds: float
    paused: bool = False
    dependent: int = 0


class WorkerRow(msgspec.Struct, frozen=True, kw_only=True):
    """One open worker, as the store knows it. Times by the server's clock: ``up_seconds`` since it was opened,
    ``seen_seconds`` since its node last renewed its lease (``None``: it has not since the store knows of that),
    ``lease_seconds`` until the lease ends; negative: it has, and any steward gives its jobs to others."""

    worker_id: str
    node_id: str
    opened_ms: float
    held: int
    up_seconds: float
    seen_seconds: float | None
    lease_seconds: float


class Forgotten(StrEnum):
    """FORGOTTEN: it can claim no more, and what it held went back. ALIVE: its node renews its lease; left alone.
    UNKNOWN: no such worker is open."""

    FORGOTTEN = "forgotten"
    ALIVE = "alive"
    UNKNOWN = "unknown"


class ServerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Which server this is. ``flavour``: ``redis`` or ``valkey``."""

    flavour: str
    version: str
    raw: dict[str, Any] = {}
