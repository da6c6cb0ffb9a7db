"""A job's moves: enqueue, claim, settle, release, cancel, move, revive, purge; and progress. A function, a script."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from rrqd.exc import JobExists, JobInvalid, StoreRefused, UnknownParent
from rrqd.job import EnqueueReport, Happened
from rrqd.model.job import NOTHING, ClaimedJob, NewJob, read_claimed, read_usual, short_dlq_name
from rrqd.model.lifecycle import End, Move
from rrqd.store.family import Family
from rrqd.store.records import (
    Cancelled,
    Charge,
    Claim,
    ClaimRequest,
    ClaimState,
    Forgotten,
    Moved,
    Prioritised,
    Purged,
    Released,
    Settled,
    Settlement,
)
from rrqd.store.replicas import replicated
from rrqd.store.scripts import run
from rrqd.store.specs import spec_of, step_of, text_of

#: Jobs in one enqueue call: about 300 commands, a ms or less of the server's time. Nobody else is served meanwhile, so
#: no call may take 10 ms, also where processors are slow; `python -m bench scale` measures that.
ENQUEUE_BATCH = 100
#: Jobs that one call settles or releases, and that one claims: each costs up to a dozen commands.
MOVE_BATCH = 100
CLAIM_BATCH = 100
#: Ids in one revive, move or purge call: each is looked for from the old end of its DLQ, which may be long.
REVIVE_BATCH = 20
#: Ids in one cancel call: about 2 ms of the server's time.
CANCEL_BATCH = 100
#: Bytes in one call: far below what a server takes in one piece (512 MB), and no long hold-up for others.
BATCH_BYTES = 2_000_000
#: So many that a call carries at most 175 commands beyond those of plain jobs.
COMMAND_BYTES = BATCH_BYTES // 175
#: So many that a call carries at most a hundred waits for others: 2 ms of the server's time.
PARENT_BYTES = BATCH_BYTES // 100

#: What ``enqueue.lua`` answers for a job.
HAPPENED = {1: Happened.CREATED, 0: Happened.DUPLICATE, 2: Happened.LIMITED, 3: Happened.REPLACED}

T = TypeVar("T")

_pack = msgspec.msgpack.Encoder().encode
USUAL = 3
"""So many words of a job with no unusual fields; of others there is an even number."""
_unpack = msgspec.msgpack.Decoder().decode


class JobMoves(Family):
    """The moves. All raise StoreUnavailable (may be repeated) and StoreRefused."""

    async def enqueue_many(self, jobs: Sequence[NewJob], *, repeated: bool = False) -> list[EnqueueReport]:
        """Write jobs down, in the order given, ``ENQUEUE_BATCH`` a call at most; one answer each.

        Raises JobExists when an id is taken by another job, UnknownParent when one it is to wait for is not there,
        StoreRefused when the key of a queue holds something else; the others of the list are written all the same.
        ``repeated``: the same call was made before and its reply was lost; jobs found as they should be are fine.
        """
        link = await self.link()
        retention = self.policy.cancelled_retention_seconds
        calls = [
            run(
                link,
                Move.ENQUEUE,
                self.keys.token,
                _pack([spec_of(job, retention) for job in part]),
                "1" if repeated else "0",
            )
            for part in _parts(jobs, ENQUEUE_BATCH, _weight)
        ]
        replies = [one for reply in await asyncio.gather(*calls) for one in reply]
        if self.policy.enqueue_replicas:
            await replicated(link, self.keys, self.policy.enqueue_replicas, repeated=repeated)
        return read_enqueued(jobs, replies)

    async def turn(
        self, worker_id: str, settlements: Sequence[Settlement], request: ClaimRequest | None
    ) -> tuple[list[Settled], Claim | None]:
        """Settle what ended (as much as `fits`) and claim what there is room for, in one round trip."""
        link = await self.link()
        settling = self._settle(link, worker_id, settlements) if settlements else None
        claiming = self._claim(link, request) if request is not None else None
        link.flush()  # what runs meanwhile runs while the server works
        if settling is not None and claiming is not None:
            ended, claimed = await asyncio.gather(settling, claiming)
            return _settled(ended), await self._understood(claimed, request)
        if settling is not None:
            return _settled(await settling), None
        return [], await self._understood(await claiming, request) if claiming is not None else None

    async def _understood(self, reply: list[Any], request: ClaimRequest | None) -> Claim:
        try:
            claim = _read_claim(reply)
        except msgspec.DecodeError:
            # Foreign bytes among the jobs' fields. Asked for once more, as after a lost reply, they come unpacked, and
            # only the job that needs them as text is spoiled.
            assert request is not None
            claim = _read_claim(await self._claim(await self.link(), request))
        return await self._with_parents(claim)

    async def _with_parents(self, claim: Claim) -> Claim:
        """Jobs that waited for others get to see how those ended: one more round trip for a claim with such jobs."""
        wanted = list(dict.fromkeys(parent for job in claim.jobs for parent in job.parents))
        if not wanted:
            return claim
        ends = await self.parent_results(wanted)
        jobs = [
            msgspec.structs.replace(job, parent_results={one: ends[one] for one in job.parents}) if job.parents else job
            for job in claim.jobs
        ]
        return msgspec.structs.replace(claim, jobs=jobs)

    async def settle(self, worker_id: str, settlements: Sequence[Settlement]) -> list[Settled]:
        """End runs of a worker, each under its token; one answer each."""
        answers: list[Settled] = []
        while left := settlements[len(answers) :]:
            answers += (await self.turn(worker_id, left[: fits(left)], None))[0]
        return answers

    async def claim(self, request: ClaimRequest) -> Claim:
        """Take due jobs, up to the free slots."""
        claim = (await self.turn(request.worker_id, (), request))[1]
        assert claim is not None
        return claim

    def _settle(self, link: Any, worker_id: str, settlements: Sequence[Settlement]) -> Awaitable[Any]:
        runs = [_run(one) for one in settlements]
        return run(
            link, Move.SETTLE, self.keys.token, worker_id, self.policy.default_dlq,
            self.policy.dlq_retention_seconds, self.policy.cancelled_retention_seconds, _pack(runs),
        )  # fmt: skip

    def _claim(self, link: Any, request: ClaimRequest) -> Awaitable[Any]:
        return run(
            link, Move.CLAIM, self.keys.token, request.worker_id, request.node_id, request.turn,
            request.limit, request.running, " ".join(map(str, request.shares)), *request.queues,
        )  # fmt: skip

    async def release(self, worker_id: str, held: Iterable[tuple[str, int]], reason: str) -> Released:
        """Put jobs back at their old place in the queue; nobody is charged. Stale tokens change nothing."""
        total = Released()
        for part in _parts(list(held), MOVE_BATCH, lambda _: 1):
            flat = [word for job_id, token in part for word in (job_id, str(token))]
            await self._release(total, worker_id, reason, Charge.NOBODY, "", False, "", flat)
        return total

    async def close_worker(
        self,
        worker_id: str,
        *,
        reason: str,
        charge: Charge,
        culprit: str | None = None,
        only_if_lapsed_node: str | None = None,
        story: bytes = b"",
    ) -> Released:
        """End a worker: all it holds goes back (or is buried as poison), and its late claims are refused.

        ``story``: JSON, what is known of the death; kept with what is buried for it.
        ``only_if_lapsed_node``: do nothing while that node's lease is live (the reaper's guard).
        """
        total = Released()
        lapsed = only_if_lapsed_node or ""
        await self._release(total, worker_id, reason, charge, culprit or "", True, lapsed, [], story)
        return total

    async def forget_worker(self, worker_id: str) -> tuple[Forgotten, Released]:
        """Drop a worker whose node renews its lease no more, without waiting for a steward: what it held goes back,
        uncharged."""
        link = await self.link()
        node = await link.call("HGET", self.keys.worker(worker_id), "node")
        if node is None:
            return Forgotten.UNKNOWN, Released()
        node_id = node.decode()
        released = await self.close_worker(
            worker_id, reason="forgotten by hand", charge=Charge.NOBODY, only_if_lapsed_node=node_id
        )
        if await link.call("EXISTS", self.keys.worker(worker_id)):
            return Forgotten.ALIVE, released
        await link.call("ZREM", self.keys.seen, node_id)
        return Forgotten.FORGOTTEN, released

    async def _release(
        self,
        total: Released,
        worker_id: str,
        reason: str,
        charge: Charge,
        culprit: str,
        close: bool,
        lapsed: str,
        flat: list[str],
        story: bytes = b"",
    ) -> None:
        """In as many calls as it takes; what becomes of the jobs is added to ``total``."""
        policy, more = self.policy, True
        while more:
            queued, buried, cancelled, more, _ = await run(
                await self.link(), Move.RELEASE, self.keys.token, worker_id, reason, charge, culprit,
                policy.max_stalls, policy.default_dlq, policy.dlq_retention_seconds,
                policy.cancelled_retention_seconds, "1" if close else "0", lapsed, MOVE_BATCH, story, *flat,
            )  # fmt: skip
            total.queued.extend(_ids(queued))
            total.buried.extend(_ids(buried))
            total.cancelled.extend(_ids(cancelled))

    async def cancel(self, job_id: str) -> Cancelled:
        """Cancel a job wherever it is."""
        return (await self.cancel_many([job_id]))[0]

    async def cancel_many(self, job_ids: Sequence[str]) -> list[Cancelled]:
        """Cancel jobs wherever they are, ``CANCEL_BATCH`` a call; one answer each."""
        link, retention = await self.link(), self.policy.cancelled_retention_seconds
        answers: list[Cancelled] = []
        while left := job_ids[len(answers) : len(answers) + CANCEL_BATCH]:
            said = await run(link, Move.CANCEL, self.keys.token, retention, *next(_parts(left, CANCEL_BATCH, len)))
            answers += [Cancelled(word.decode()) for word in said]
        return answers

    async def move(
        self,
        job_ids: Sequence[str],
        *,
        queue: str | None = None,
        delay_ms: int | None = None,
        priority: int | float | None = None,
        states: Collection[str] = ("waiting", "buried"),
    ) -> list[Moved]:
        """Put jobs elsewhere, by hand; one answer each. What is left out stays as it was (``priority`` 0: none).

        ``states``: out of which a job is moved: ``waiting``, ``buried`` (as if new, then) and ``running`` (its worker
        is told, and its last run can settle nothing). Without a delay a waiting job keeps its time.

        Raises StoreRefused when the key of the place a job should go to holds something else; those before it moved."""
        policy, link = self.policy, await self.link()
        wish = "=" if priority is None else str(priority) if priority else ""
        answers: list[Moved] = []
        for part in _parts(job_ids, REVIVE_BATCH, len):
            said = await run(
                link, Move.MOVE, self.keys.token, queue or "", "" if delay_ms is None else delay_ms, wish,
                " ".join(states), policy.default_queue, policy.default_dlq, policy.cancelled_retention_seconds, *part,
            )  # fmt: skip
            if b"refused" in said:
                job_id = part[said.index(b"refused")]
                raise StoreRefused(f"the place that job {job_id} should move to holds something that is not a queue")
            answers += [Moved(word.decode()) for word in said]
        return answers

    async def prioritise(self, job_id: str, priority: int | float | None) -> Prioritised:
        """Give a job another priority (``None``: 0, as if it had none).

        Raises StoreRefused when the key of the place it should go to holds something else."""
        text = str(priority) if priority else ""
        said = (await run(await self.link(), Move.PRIORITISE, self.keys.token, job_id, text)).decode()
        if said == "refused":
            raise StoreRefused(f"the place that job {job_id} should move to holds something that is not a queue")
        return Prioritised(said)

    async def revive(
        self, job_ids: Sequence[str], *, dlq: str | None = None, queue: str | None = None, delay_ms: int = 0
    ) -> list[str]:
        """Bring buried jobs back as if new, oldest first; answers the ids that moved."""
        link = await self.link()
        moved: list[str] = []
        for part in _parts(job_ids, REVIVE_BATCH, len):
            revived, _ = await run(
                link, Move.REVIVE, self.keys.token, short_dlq_name(dlq or self.policy.default_dlq),
                queue or "", self.policy.default_queue, delay_ms, *part,
            )  # fmt: skip
            moved += _ids(revived)
        return moved

    async def purge(self, job_ids: Sequence[str], *, dlq: str | None = None) -> Purged:
        """Remove jobs and all that is stored of them; with ``dlq`` only what lies there (oldest first, please)."""
        link = await self.link()
        removed: list[str] = []
        running: list[str] = []
        missing: list[str] = []
        for part in _parts(job_ids, REVIVE_BATCH, len):
            answers = await run(
                link, Move.PURGE, self.keys.token, short_dlq_name(dlq or ""), self.policy.default_dlq, *part
            )
            for ids, answer in zip((removed, running, missing), answers, strict=True):
                ids += _ids(answer)
        return Purged(removed=removed, running=running, missing=missing)

    async def progress(self, notes: Sequence[tuple[str, int, bytes]]) -> list[Settled]:
        """Note how far running jobs are: (id, token, JSON) each."""
        link, answers = await self.link(), list[Settled]()
        for part in _parts(notes, MOVE_BATCH, lambda one: len(one[2])):
            flat = [word for job_id, token, note in part for word in (job_id, str(token), note)]
            answers += _settled(await run(link, "progress", self.keys.token, *flat))
        return answers


def read_enqueued(jobs: Sequence[NewJob], replies: Iterable[Any]) -> list[EnqueueReport]:
    """What ``enqueue.lua`` answered for these. Raises what :meth:`JobMoves.enqueue_many` does."""
    answers = [(int(code), job_id.decode()) for code, job_id in replies]
    taken = [job_id for code, job_id in answers if code == -1]
    spoilt = sorted({job.queue for job, (code, _) in zip(jobs, answers, strict=True) if code == -2})
    if spoilt:
        raise StoreRefused(f"rrq:queue:{spoilt[0]} holds something that is not a queue; nothing was written to it")
    strangers = [parent for code, parent in answers if code == -3]
    if taken:
        raise JobExists(f"job_id already exists: {', '.join(taken[:5])}{' …' if len(taken) > 5 else ''}")
    if strangers:
        raise UnknownParent(strangers)
    return [EnqueueReport(job_id or None, HAPPENED[code]) for code, job_id in answers]


def _weight(job: NewJob) -> int:
    """Bytes of a new job; what it asks for costs the server's time as if it were so many."""
    extra = (
        len(job.tags)
        + 2 * len(job.throttles)
        + 3 * (job.tenant is not None)
        + (job.priority is not None or job.delay_ms > 0 or job.due_ms is not None)
        + 3 * job.track
        + (8 if job.once is not NOTHING else 0)
    )
    return len(job.params) + COMMAND_BYTES * extra + PARENT_BYTES * len(job.parents)


def _parts(items: Sequence[T], most: int, bytes_of: Callable[[T], int]) -> Iterator[Sequence[T]]:
    """Slices of at most ``most`` items and, unless a single one is larger, ``BATCH_BYTES``."""
    start = size = 0
    for at, item in enumerate(items):
        more = bytes_of(item)
        if at > start and (at - start == most or size + more > BATCH_BYTES):
            yield items[start:at]
            start, size = at, 0
        size += more
    if items:
        yield items[start:]


def fits(settlements: Sequence[Settlement]) -> int:
    """How many of these one call may carry."""
    return len(next(_parts(settlements, MOVE_BATCH, lambda one: len(one.verdict.result) + len(one.verdict.detail)), ()))


def _ids(raw: Iterable[bytes]) -> list[str]:
    return [job_id.decode(errors="replace") for job_id in raw]


def _run(one: Settlement) -> tuple[Any, ...]:
    """As the script takes it. A completed job mostly needs no more than the first five elements, and each costs the
    server something."""
    verdict = one.verdict
    plain = (one.job_id, str(one.token), verdict.end, text_of(verdict.result), verdict.ttl_seconds)
    more = (
        verdict.error, text_of(verdict.detail), verdict.delay_ms,
        step_of(verdict.step) if verdict.step is not None else None, one.past_most, one.keep_most,
    )  # fmt: skip
    return plain if verdict.end is End.COMPLETE and more == _NO_MORE else plain + more


_NO_MORE = ("", "", 0, None, None, None)
_SETTLED = {word.value.encode(): word for word in Settled}


def _settled(words: Iterable[bytes]) -> list[Settled]:
    return [_SETTLED[word] for word in words]


def _loosely(said: Any) -> Any:
    if isinstance(said, list):
        return [_loosely(one) for one in said]
    return said.decode(errors="surrogateescape") if isinstance(said, bytes) else said


def _read_claim(reply: list[Any]) -> Claim:
    """Raises msgspec.DecodeError when something in a packed reply is no UTF-8."""
    state, now, next_due, full, hold, cancels, aside, rows = reply
    rows = _unpack(rows) if isinstance(rows, bytes) else _loosely(rows)
    now_ms = float(now)
    jobs: list[ClaimedJob] = []
    spoiled: list[tuple[str, int, str]] = []
    for flat, job_id, token, score, alone, queue in rows:
        about = (job_id, int(token), float(score), now_ms, bool(alone), queue)
        try:
            if len(flat) == USUAL:
                jobs.append(read_usual(*about, *flat))
            else:
                jobs.append(read_claimed(*about, dict(zip(flat[::2], flat[1::2], strict=True))))
        except JobInvalid as why:
            spoiled.append((job_id, int(token), str(why)))
    return Claim(
        state=ClaimState(state.decode()),
        jobs=jobs,
        spoiled=spoiled,
        aside=[(aside[at].decode(errors="replace"), aside[at + 1].decode()) for at in range(0, len(aside), 2)],
        cancels=_ids(one for one in cancels if isinstance(one, bytes)),
        taken=[int(one[0]) for one in cancels if not isinstance(one, bytes)],
        full=bool(full),
        hold=bool(hold),
        next_due_ms=float(next_due) if next_due else None,
        now_ms=now_ms,
    )
