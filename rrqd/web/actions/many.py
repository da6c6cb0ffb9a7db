"""Actions on many jobs: the chosen ones, buried ones by what went wrong, all that wait in a queue.

Each wants a confirmation, and stops at a number: a request ends in seconds, and can be made again for the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rrqd.store import Cancelled
from rrqd.web.actions.shape import Field, Hands, Refused, Words, action
from rrqd.web.failures import LOOK_LEAST, LOOK_MOST, Which, find
from rrqd.web.readings import PAGE_MOST, NotThere

MOST_JOBS = 1000
MOST_CLEARED = 10_000
BUNCH_MOST = 20
"""Jobs that come back at the same moment, when they come at a rate."""
BUNCHES_A_SECOND = 4
CONFIRM = Field("whole", "the number of jobs that this is about", least=0)
JOBS = Field("texts", f"ids of at most {MOST_JOBS} jobs")
DLQ = Field("text", "the dead-letter queue; left out: the default one", needed=False)
WHICH = {
    "dlq": DLQ,
    "signature": Field("text", "a group, as the list of failures names it", needed=False),
    "function": Field("text", "only jobs of this function", needed=False),
    "queue": Field("text", "only jobs of this queue", needed=False),
    "type": Field("text", "only errors of this kind, such as ValueError", needed=False),
    "words": Field("text", "only errors with these words in their message", needed=False),
    "look": Field("whole", f"among so many of the newest; left out: {LOOK_LEAST}, at most {LOOK_MOST}", needed=False,
                  least=1),
}  # fmt: skip


@action("jobs.cancel", "jobs", "{jobs} cancelled.", jobs=JOBS, confirm=CONFIRM)
async def cancel_many(hands: Hands, words: Words) -> dict[str, Any]:
    """Cancel the jobs that were chosen; those that have ended meanwhile are left alone."""
    ids = _chosen(words)
    said = await hands.store.cancel_many(ids)
    return {"count": sum(one in (Cancelled.CANCELLED, Cancelled.ASKED) for one in said), "asked_for": len(ids)}


@action("jobs.retry", "jobs", "{jobs} brought back.", jobs=JOBS, dlq=DLQ, confirm=CONFIRM)
async def retry_many(hands: Hands, words: Words) -> dict[str, Any]:
    """Bring the buried jobs that were chosen back."""
    ids = _chosen(words)
    return {"count": len(await hands.store.revive(ids, dlq=words.get("dlq"))), "asked_for": len(ids)}


@action("jobs.delete", "jobs", "{jobs} deleted.", jobs=JOBS, confirm=CONFIRM)
async def delete_many(hands: Hands, words: Words) -> dict[str, Any]:
    """Remove the jobs that were chosen, with all that is stored of them; those that run are left alone."""
    ids = _chosen(words)
    return {"count": len((await hands.store.purge(ids)).removed), "asked_for": len(ids)}


@action(
    "dlq.retry", "signature function queue type words", "{jobs} brought back.", **WHICH, confirm=CONFIRM,
    rate=Field("number", "so many jobs a second; left out: all at once", needed=False, least=0.01),
)  # fmt: skip
async def retry_failures(hands: Hands, words: Words) -> dict[str, Any]:
    """Bring buried jobs back, the oldest first: a group, those that pass a filter, or all."""
    ids, rate = await _buried(hands, words), words.get("rate")
    moved = 0
    for delay_ms, part in paced(ids, rate):
        moved += len(await hands.store.revive(part, dlq=words.get("dlq"), delay_ms=delay_ms))
    return {"count": moved, "asked_for": len(ids), "seconds": round(len(ids) / rate, 1) if rate else 0}


@action("dlq.delete", "signature function queue type words", "{jobs} deleted.", **WHICH, confirm=CONFIRM)
async def delete_failures(hands: Hands, words: Words) -> dict[str, Any]:
    """Remove buried jobs for good: a group, those that pass a filter, or all."""
    ids = await _buried(hands, words)
    gone = await hands.store.purge(ids, dlq=words.get("dlq") or hands.store.policy.default_dlq)
    return {"count": len(gone.removed), "asked_for": len(ids)}


@action("queue.clear", "queue", "{jobs} deleted.", queue=Field("text", "the queue's name"),
        confirm=Field("text", "the queue's name once more"))  # fmt: skip
async def clear(hands: Hands, words: Words) -> dict[str, Any]:
    """Delete the jobs that wait in a queue, with all that is stored of them; what runs goes on."""
    if words["confirm"] != words["queue"]:
        raise Refused(f"to clear {words['queue']!r}, confirm with its name, not with {words['confirm']!r}")
    (depth,) = await hands.store.queue_depths([words["queue"]])
    most, removed = min(depth.waiting, MOST_CLEARED), 0
    while removed < most and (ids := await hands.store.queue_page(words["queue"], 0, min(PAGE_MOST, most - removed))):
        gone = await hands.store.purge(ids)
        if not gone.removed:
            break  # all of them run by now
        removed += len(gone.removed)
    return {"count": removed, "left": max(0, depth.waiting - removed)}


def paced(ids: list[str], rate: float | None) -> Iterable[tuple[int, list[str]]]:
    """(delay in ms, ids) of each bunch, so that about `rate` jobs a second are due."""
    if rate is None:
        yield 0, ids
        return
    size = max(1, min(BUNCH_MOST, int(rate / BUNCHES_A_SECOND)))
    for at in range(0, len(ids), size):
        yield round(at / rate * 1000), ids[at : at + size]


async def _buried(hands: Hands, words: Words) -> list[str]:
    which = Which(**{name: words[name] for name in Which._fields if name in words})
    found = await find(hands.store, words.get("dlq"), which, words.get("look", LOOK_LEAST))
    if not found.jobs:
        raise NotThere("no buried job is like that, or none any more")
    return _confirmed([job.id for job in reversed(found.jobs)], words)


def _chosen(words: Words) -> list[str]:
    ids = list(dict.fromkeys(words["jobs"]))
    if len(ids) > MOST_JOBS:
        raise Refused(f"{len(ids)} jobs are too many at a time; at most {MOST_JOBS}", 422)
    return _confirmed(ids, words)


def _confirmed(ids: list[str], words: Words) -> list[str]:
    if words["confirm"] != len(ids):
        raise Refused(f"it is about {len(ids)} jobs, not {words['confirm']}; look again, and confirm that number")
    return ids
