"""Why a job has not run yet: everything that stands between it and a worker, in words and in data.

A feature that can hold a job up adds a question to ``QUESTIONS``: a function from a ``Look`` to its reasons. It may
read whatever it likes and changes nothing; it is asked only about jobs that wait.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from rrqd import clock
from rrqd.job import JobStatus
from rrqd.model.job import Job
from rrqd.store.connection import ServerSaid
from rrqd.store.keys import DUE_DIGITS, PLACES
from rrqd.store.store import Store

#: Deaths aboard after which a job runs alone (``lua/_places.lua``).
SUSPECT_AFTER = 2
#: Holders of a throttle that are named.
NAMED_MOST = 5


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """One thing. ``code``: a fixed word. ``text``: for people, with what to do. ``about``: ids or names it is about."""

    code: str
    text: str
    about: list[str] = []


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """``place``: ``queue``, ``prio``, ``later``, ``depends``, …, ``held``, or ``none``. ``ahead``: jobs of its queue
    that come before it; ``None`` when it is not in line. ``reasons``: empty when nothing holds it up."""

    job_id: str
    status: JobStatus
    queue: str
    place: str
    ahead: int | None
    reasons: list[Reason]


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a job that waits. ``due_ms``: its due time, if it lies somewhere; ``now_ms``: the server's clock."""

    store: Store
    job: Job
    place: str
    due_ms: float | None
    now_ms: float

    @property
    def is_due(self) -> bool:
        """Whether its time has come."""
        return self.due_ms is None or self.due_ms <= self.now_ms + 1


Question = Callable[[Look], Awaitable[list[Reason]]]


async def why(store: Store, job_id: str) -> Why | None:
    """Everything that is known of a job's not running; ``None`` when there is no such job."""
    job = await store.get(job_id)
    if job is None:
        return None
    link = await store.link()
    seconds, micros = await link.call("TIME")
    now_ms = int(seconds) * 1000 + int(micros) / 1000
    token = job.fields.get("rrqd_token", "-")
    if job.status.is_final or not token.startswith("-") or job.status is JobStatus.ACTIVE:
        return _over(job, held=not token.startswith("-"))
    place, due_ms = await _place(store, job)
    look = Look(store=store, job=job, place=place, due_ms=due_ms, now_ms=now_ms)
    reasons = [reason for question in QUESTIONS for reason in await question(look)]
    ahead = await _ahead(look) if place in ("queue", "prio", "fair", "alone") and look.is_due else None
    if ahead:
        reasons.append(Reason(code="behind", text=f"{ahead} jobs of queue {job.queue} come before it"))
    if place == "later" and look.is_due:
        place = "prio"  # the next claim takes it there
    return Why(job_id=job.id, status=job.status, queue=job.queue, place=place, ahead=ahead, reasons=reasons)


def _over(job: Job, held: bool) -> Why:
    """For jobs that do not wait."""
    worker = job.fields.get("worker_id", "a worker")
    if held:
        place, text = "held", f"it runs: worker {worker} has had it since {job.fields.get('start_time', 'some time')}"
    elif job.status is JobStatus.ACTIVE:
        place, text = "none", f"it runs: {worker}, a worker of another program, has it"
    else:
        since = job.fields.get("completion_time", "some time ago")
        place, text = "none", f"it is over: {job.status.value} since {since}"
        if job.status is JobStatus.FAILED:
            text += f"; bring it back with: rrqd job retry {job.id}"
    code = "runs" if job.status is JobStatus.ACTIVE else "ended"
    reason = Reason(code=code, text=text, about=[worker] if code == "runs" else [])
    return Why(job_id=job.id, status=job.status, queue=job.queue, place=place, ahead=None, reasons=[reason])


async def _place(store: Store, job: Job) -> tuple[str, float | None]:
    """In which kind of key it lies, and its due time."""
    kind = job.fields.get("rrqd_place", "").partition(" ")[0]
    if kind in PLACES:
        due = job.fields.get("rrqd_due")
        return kind, float(due) if due else None
    score = await _or_none((await store.link()).call("ZSCORE", store.keys.queue(job.queue), job.id))
    return ("queue", float(score)) if score is not None else ("none", None)


async def _or_none(call: Awaitable[Any]) -> Any:
    """``None`` also when the key holds something else."""
    try:
        return await call
    except ServerSaid as said:
        if said.code != "WRONGTYPE":
            raise
        return None


async def _ahead(look: Look) -> int:
    """Due jobs of its queue that would be taken before it."""
    keys, queue, link = look.store.keys, look.job.queue, await look.store.link()
    assert look.due_ms is not None
    if look.place == "queue":
        before = link.call("ZRANK", keys.queue(queue), look.job.id)
        higher = link.call("ZCOUNT", keys.prio(queue), "-inf", "(0")
        return int(await _or_none(before) or 0) + int(await _or_none(higher) or 0)
    member = f"{look.due_ms * 1000:0{DUE_DIGITS}.0f} {look.job.id}"
    if look.place in ("fair", "alone"):
        place = keys.fair(queue) if look.place == "fair" else keys.alone(queue)
        higher, rank = link.call("ZCOUNT", keys.prio(queue), "-inf", "(0"), link.call("ZRANK", place, member)
        return int(await _or_none(rank) or 0) + int(await _or_none(higher) or 0)
    rank = link.call("ZRANK", keys.prio(queue), member)
    plain = link.call("ZCOUNT", keys.queue(queue), "-inf", f"{look.now_ms:.3f}")
    return int(await _or_none(rank) or 0) + (int(await _or_none(plain) or 0) if look.job.priority < 0 else 0)


# -- the questions -----------------------------------------------------------------------------------------


async def is_it_due(look: Look) -> list[Reason]:
    """A time of its own, or the pause before a retry."""
    if look.is_due or look.due_ms is None:
        return []
    at, left = clock.from_ms(look.due_ms), (look.due_ms - look.now_ms) / 1000
    what = "is not tried again" if look.job.status is JobStatus.RETRYING else "is not due"
    return [Reason(code="not-due", text=f"it {what} before {at.isoformat(timespec='seconds')}, in {left:.0f} s")]


async def is_it_nowhere(look: Look) -> list[Reason]:
    """A job that waits but lies in no queue."""
    if look.place != "none":
        return []
    queue = look.job.queue
    text = f"it lies in no queue: a foreign worker is just taking it, or somebody has removed it from queue {queue}"
    return [Reason(code="nowhere", text=text)]


async def does_it_wait_for_others(look: Look) -> list[Reason]:
    """Its parents, one reason each."""
    if look.place != "depends":
        return []
    kin = await look.store.kinship(look.job)
    reasons = []
    for parent in kin.parents:
        if parent.waited_for:
            status = parent.status.value if parent.status is not None else "gone"
            text = f"it waits for job {parent.id}, which is {status}"
            if status == JobStatus.FAILED:
                text += f"; bring it back with: rrqd job retry {parent.id}"
            if status in ("gone", JobStatus.FAILED, JobStatus.CANCELLED):
                text += f"; let it go with: rrqd job deps {look.job.id} --drop {parent.id}"
            reasons.append(Reason(code="depends", text=text, about=[parent.id]))
    return reasons


async def is_its_queue_paused(look: Look) -> list[Reason]:
    """Paused by hand."""
    queue = look.job.queue
    since = (await look.store.paused_queues()).get(queue)
    if since is None:
        return []
    at = clock.from_ms(since).isoformat(timespec="seconds")
    text = f"queue {queue} is paused since {at}; resume it with: rrqd queue resume {queue}"
    return [Reason(code="paused", text=text, about=[queue])]


async def is_it_locked(look: Look) -> list[Reason]:
    """A real RRQ worker has it, or had it when it died."""
    owner = await _or_none((await look.store.link()).call("GET", look.store.keys.lock(look.job.id)))
    if owner is None:
        return []
    name = owner.decode(errors="replace")
    return [Reason(code="locked", text=f"the real RRQ worker {name} has locked it", about=[name])]


async def is_it_throttled(look: Look) -> list[Reason]:
    """As many jobs as may run under one of its throttles, or its queue's own limit, do."""
    rows = await look.store.throttle_rows([*look.job.throttles, f"queue:{look.job.queue}"])
    reasons = []
    for row in rows:
        if row.limit is not None and row.running >= row.limit:
            holders = (await look.store.throttle_holders(row.name))[:NAMED_MOST]
            more = f" and {row.running - len(holders)} more" if row.running > len(holders) else ""
            by = f", held by {', '.join(holders)}{more}" if holders else ""
            text = f"throttle {row.name} lets {row.limit} jobs run, and {row.running} do{by}"
            reasons.append(Reason(code="throttled", text=text, about=[row.name, *holders]))
    return reasons


async def is_it_rated(look: Look) -> list[Reason]:
    """Its rate has given it a time."""
    if look.job.rate is None or look.job.fields.get("rrqd_slot") != "1":
        return []
    return [Reason(code="rate", text=f"its rate, {look.job.rate}, has given it its time")]


async def must_it_run_alone(look: Look) -> list[Reason]:
    """A suspect."""
    deaths = look.job.number("rrqd_aboard") or 0
    if deaths < SUSPECT_AFTER:
        return []
    text = f"it was aboard {deaths} deaths of workers: it waits for a worker that runs nothing else"
    return [Reason(code="alone", text=text)]


async def does_nobody_serve_its_queue(look: Look) -> list[Reason]:
    """No living worker takes jobs from its queue."""
    queue = look.job.queue
    if await look.store.is_served(queue):
        return []
    text = f"no living worker takes jobs from queue {queue}; a pool does with queues = [{queue!r}]"
    return [Reason(code="no-worker", text=text, about=[queue])]


#: Asked in this order; what keeps it from its queue comes first.
QUESTIONS: list[Question] = [
    is_it_nowhere, does_it_wait_for_others, is_it_due, is_its_queue_paused, is_it_throttled, is_it_rated, is_it_locked,
    must_it_run_alone, does_nobody_serve_its_queue,
]  # fmt: skip
