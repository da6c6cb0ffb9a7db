"""Actions on all jobs that a filter means, whatever their state.

The number that a preview showed is typed, and must still be right; at most `MATCH_MOST` jobs are meant at a time.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from rrqd.job import JobStatus
from rrqd.model.job import Job, short_dlq_name
from rrqd.model.wanted import WORDS
from rrqd.store import Cancelled
from rrqd.web.actions.shape import Field, Hands, Refused, Words, action
from rrqd.web.finding import MATCH_MOST, Misunderstood, matching

FILTER = {
    "filter": Field("text", f"which jobs, as in /jobs: state=failed&queue=mail; of {', '.join(WORDS)}"),
    "confirm": Field(
        "whole", f"their number, as /matching tells it; at most {MATCH_MOST} are meant at a time", least=0
    ),
}


async def _meant(hands: Hands, words: Words) -> list[Job]:
    said = dict(parse_qsl(words["filter"]))
    strange = [word for word in said if word not in WORDS]
    if strange or not said:
        what = f"a filter has no {strange[0][:40]!r}" if strange else "the filter is empty"
        raise Refused(f"{what}; it has {', '.join(WORDS)}", 422)
    try:
        jobs, _, _ = await matching(hands.store, said)
    except Misunderstood as fault:
        raise Refused(str(fault), 422) from None
    if words["confirm"] != len(jobs):
        raise Refused(f"it is about {len(jobs)} jobs, not {words['confirm']}; look again, and confirm that number")
    return jobs


@action("matching.cancel", "filter", "{jobs} cancelled.", **FILTER)
async def cancel_matching(hands: Hands, words: Words) -> dict[str, Any]:
    """Cancel all jobs that a filter means; those that have ended are left alone."""
    jobs = await _meant(hands, words)
    said = await hands.store.cancel_many([job.id for job in jobs])
    return {"count": sum(one in (Cancelled.CANCELLED, Cancelled.ASKED) for one in said), "asked_for": len(jobs)}


@action("matching.retry", "filter", "{jobs} brought back.", **FILTER)
async def retry_matching(hands: Hands, words: Words) -> dict[str, Any]:
    """Bring all buried jobs that a filter means back; others are left alone."""
    jobs = await _meant(hands, words)
    by_dlq: dict[str, list[str]] = {}
    for job in reversed(jobs):  # they were found the newest first
        if job.status is JobStatus.FAILED:
            by_dlq.setdefault(short_dlq_name(job.fields.get("dlq_name", "")), []).append(job.id)
    count = sum([len(await hands.store.revive(ids, dlq=dlq or None)) for dlq, ids in by_dlq.items()])
    return {"count": count, "asked_for": len(jobs)}


@action("matching.delete", "filter", "{jobs} deleted.", **FILTER)
async def delete_matching(hands: Hands, words: Words) -> dict[str, Any]:
    """Remove all jobs that a filter means, with all that is stored of them; those that run are left alone."""
    jobs = await _meant(hands, words)
    return {"count": len((await hands.store.purge([job.id for job in jobs])).removed), "asked_for": len(jobs)}
