"""Actions on one job."""

from __future__ import annotations

from typing import Any

from rrqd.exc import InvalidRequest
from rrqd.model import checks
from rrqd.model.again import CannotReplay, alike
from rrqd.model.job import Job, short_queue_name
from rrqd.store import Cancelled, Moved, Prioritised
from rrqd.store.family import Waits
from rrqd.store.labels import TooManyTags
from rrqd.web.actions.shape import Field, Hands, Refused, Words, action
from rrqd.web.hiding import StillHidden, restore
from rrqd.web.readings import NotThere

JOB = {"job": Field("text", "the job's id")}


async def _job(hands: Hands, words: Words) -> Job:
    job = await hands.store.get(words["job"])
    if job is None:
        raise _missing(words)
    return job


def _missing(words: Words) -> NotThere:
    return NotThere(f"there is no job {words['job']!r}")


@action("job.cancel", "job", "The job is cancelled, or its worker was told to stop it.", **JOB)
async def cancel(hands: Hands, words: Words) -> dict[str, Any]:
    """Cancel a job: one that waits never starts, one that runs is stopped."""
    said = await hands.store.cancel(words["job"])
    if said is Cancelled.UNKNOWN:
        raise _missing(words)
    if said is Cancelled.TOO_LATE:
        raise Refused("the job has ended already, or a foreign worker runs it")
    return {"count": 1, "said": said.value}


@action("job.retry", "job", "The job waits in its queue again, as if new.",
        **JOB, queue=Field("text", "put it there instead of into its own queue", needed=False))  # fmt: skip
async def retry(hands: Hands, words: Words) -> dict[str, Any]:
    """Bring a buried job back, as if new."""
    job = await _job(hands, words)
    dlq = job.fields.get("dlq_name") or None
    if not await hands.store.revive([job.id], dlq=dlq, queue=words.get("queue")):
        raise Refused(f"the job is {job.status.value} and not in the dead-letter queue")
    return {"count": 1}


@action(
    "job.requeue", "job", "A new job was enqueued: this one.", **JOB,
    params=Field("object", "its parameters; left out: those of the old job", needed=False),
    queue=Field("text", "its queue; left out: that of the old job", needed=False),
)  # fmt: skip
async def requeue(hands: Hands, words: Words) -> dict[str, Any]:
    """Enqueue a new job like this one, with other parameters or in another queue. A hidden value is kept."""
    old = await _job(hands, words)
    settings = hands.readings.eyes.settings.rrqd
    queue = short_queue_name(words.get("queue") or "") or old.queue or hands.store.policy.default_queue
    try:
        params = None
        if "params" in words:
            whole = restore(words["params"], old.params, settings.web.hidden_params)
            params = checks.params_text(whole, settings.max_params_bytes, "the limit")
        new = alike(old, queue, params)
    except (CannotReplay, InvalidRequest, StillHidden) as fault:
        raise Refused(str(fault), 422) from None
    await hands.store.enqueue_many([new])
    return {"count": 1, "job": new.id}


@action("job.delete", "job", "The job is deleted.", **JOB)
async def delete(hands: Hands, words: Words) -> dict[str, Any]:
    """Remove a job that does not run, with all that is stored of it."""
    gone = await hands.store.purge([words["job"]])
    if gone.missing:
        raise _missing(words)
    if gone.running:
        raise Refused("the job runs; cancel it first")
    return {"count": 1}


@action("job.priority", "job", "The job has its new priority.", **JOB,
        priority=Field("number", "higher runs first; 0 is none"))  # fmt: skip
async def prioritise(hands: Hands, words: Words) -> dict[str, Any]:
    """Give a job another priority."""
    said = await hands.store.prioritise(words["job"], words["priority"])
    if said is Prioritised.UNKNOWN:
        raise _missing(words)
    if said is Prioritised.TOO_LATE:
        raise Refused("the job has ended already, or a foreign worker runs it")
    return {"count": 1, "said": said.value}


@action(
    "job.move", "job", "The job was moved.", **JOB,
    queue=Field("text", "the queue it is to wait in; left out: its own", needed=False),
    priority=Field("number", "higher runs first; 0 is none; left out: its own", needed=False),
    delay_seconds=Field("number", "not before so long from now; left out: its place in time", needed=False, least=0),
)  # fmt: skip
async def move(hands: Hands, words: Words) -> dict[str, Any]:
    """Let a job wait in another queue, at another priority or until another time; a buried one comes back as if new."""
    return await _move(hands, words, ("waiting", "buried"))


@action("job.run", "job", "The job is due now.", **JOB)
async def run_now(hands: Hands, words: Words) -> dict[str, Any]:
    """Let a job that waits for its time be due now."""
    return await _move(hands, {**words, "delay_seconds": 0}, ("waiting",))


@action("job.timeout", "job", "The job was taken from its worker.", **JOB)
async def time_out(hands: Hands, words: Words) -> dict[str, Any]:
    """Take a running job from its worker, and put it back to its old place."""
    return await _move(hands, words, ("running",))


async def _move(hands: Hands, words: Words, states: tuple[str, ...]) -> dict[str, Any]:
    delay = words.get("delay_seconds")
    (said,) = await hands.store.move(
        [words["job"]], queue=words.get("queue"), delay_ms=None if delay is None else round(delay * 1000),
        priority=words.get("priority"), states=states,
    )  # fmt: skip
    if said is Moved.UNKNOWN:
        raise _missing(words)
    if not said.done and said is not Moved.CANCELLED:
        raise Refused("the job has ended already, or a foreign worker runs it" if said is Moved.TOO_LATE
                      else f"the job is {said.value}")  # fmt: skip
    return {"count": 1, "said": said.value}


@action(
    "job.undepend", "job", "The job waits for that one no more.", **JOB,
    parent=Field("text", "the job not to wait for; left out: any", needed=False),
)  # fmt: skip
async def undepend(hands: Hands, words: Words) -> dict[str, Any]:
    """Let a job wait no more for another one, or for any."""
    said = await hands.store.undepend(words["job"], [words["parent"]] if "parent" in words else [])
    if said is Waits.UNKNOWN:
        raise _missing(words)
    if said is Waits.TOO_LATE:
        raise Refused("the job waits for no other: it runs, has ended, or is due")
    return {"count": 1, "said": said.value}


@action("job.tag", "job", "The job has the tags.", **JOB, tags=Field("texts", "tags to add"))
async def tag(hands: Hands, words: Words) -> dict[str, Any]:
    """Put tags on a job."""
    try:
        return _tags_of(await hands.store.tag(words["job"], words["tags"]), words)
    except TooManyTags as fault:
        raise Refused(str(fault)) from None


@action("job.untag", "job", "The job has them no more.", **JOB, tags=Field("texts", "tags to take away"))
async def untag(hands: Hands, words: Words) -> dict[str, Any]:
    """Take tags off a job."""
    return _tags_of(await hands.store.untag(words["job"], words["tags"]), words)


def _tags_of(tags: list[str] | None, words: Words) -> dict[str, Any]:
    if tags is None:
        raise _missing(words)
    return {"count": 1, "tags": tags}


@action("job.track", "job", "Noted.", **JOB, on=Field("flag", "false: follow it no more", needed=False))
async def track(hands: Hands, words: Words) -> dict[str, Any]:
    """Follow a job: tell of its every move."""
    store = hands.store
    changed = await (store.untrack(words["job"]) if words.get("on") is False else store.track(words["job"]))
    if changed is None:
        raise _missing(words)
    return {"count": int(changed)}
