"""Actions on what governs when jobs run: queues, throttles, the timetable, recurring jobs."""

from __future__ import annotations

from typing import Any

from rrqd.exc import InvalidRequest
from rrqd.model.job import short_queue_name
from rrqd.model.queue_config import check, check_key, field_of
from rrqd.model.recurring import job_now
from rrqd.model.timetable import Entry, defaults_of, job_of, read_timetable
from rrqd.store.timetable import Ticked
from rrqd.web.actions.shape import Field, Hands, Refused, Words, action
from rrqd.web.readings import NotThere

BY_HAND = "web"
QUEUE = {"queue": Field("text", "the queue's name")}


@action("queue.pause", "queue", "The queue is paused.", **QUEUE)
async def pause(hands: Hands, words: Words) -> dict[str, Any]:
    """Let no worker of any machine claim from a queue."""
    return {"count": len(await hands.store.pause_queues([words["queue"]]))}


@action("queue.resume", "queue", "The queue is served again.", **QUEUE)
async def resume(hands: Hands, words: Words) -> dict[str, Any]:
    """Let workers claim from a queue again."""
    return {"count": len(await hands.store.resume_queues([words["queue"]]))}


@action(
    "throttle.set", "throttle", "The limit is set.", throttle=Field("text", "the throttle's name"),
    limit=Field("whole", "how many jobs may run under it; 0: none", least=0),
    expires_seconds=Field("number", "lifted by itself after so long; left out: never", needed=False, least=0.001),
)  # fmt: skip
async def set_throttle(hands: Hands, words: Words) -> dict[str, Any]:
    """Let only so many jobs of a throttle run; those that wait and fit are let go at once."""
    store = hands.store
    await store.set_throttle(words["throttle"], words["limit"], expires_seconds=words.get("expires_seconds"))
    return {"count": 1}


@action("throttle.delete", "throttle", "The limit is lifted.", throttle=Field("text", "the throttle's name"))
async def delete_throttle(hands: Hands, words: Words) -> dict[str, Any]:
    """Lift a limit: all that wait for it are let go."""
    return {"count": int(await hands.store.delete_throttle(words["throttle"]))}


@action(
    "throttle.release",
    "throttle",
    "It counts no more.",
    throttle=Field("text", "the throttle's name"),
    job=Field("text", "a job's id"),
)
async def free_throttle(hands: Hands, words: Words) -> dict[str, Any]:
    """Count a job that runs under a throttle no more."""
    return {"count": await hands.store.free_throttle(words["throttle"], [words["job"]])}


@action("cron.pause", "cron", "The entry is paused.", cron=Field("text", "the entry's name"))
async def pause_cron(hands: Hands, words: Words) -> dict[str, Any]:
    """Let an entry of the timetable make no jobs, on no machine."""
    return {"count": int(await hands.store.pause_cron(_entry(hands, words).name, True))}


@action("cron.resume", "cron", "The entry makes jobs again.", cron=Field("text", "the entry's name"))
async def resume_cron(hands: Hands, words: Words) -> dict[str, Any]:
    """Let an entry make jobs again, from its next tick on."""
    return {"count": int(await hands.store.pause_cron(_entry(hands, words).name, False))}


@action("cron.run", "cron", "Enqueued: this job.", cron=Field("text", "the entry's name"))
async def run_cron(hands: Hands, words: Words) -> dict[str, Any]:
    """Enqueue the job of an entry now; its ticks go on as they would have."""
    defaults = defaults_of(hands.readings.eyes.settings)
    (answer,) = await hands.store.tick([job_of(_entry(hands, words), defaults, None, BY_HAND)])
    if answer.ticked is not Ticked.FIRED:
        raise Refused(f"nothing was enqueued: {answer.ticked.value} ({answer.job_id})")
    return {"count": 1, "job": answer.job_id}


def _entry(hands: Hands, words: Words) -> Entry:
    entry = read_timetable(hands.readings.eyes.settings).get(words["cron"])
    if entry is None:
        raise NotThere(f"there is no cron entry {words['cron']!r}")
    return entry


@action("recurring.run", "recurring", "Enqueued: this job.", recurring=Field("text", "the template's id"))
async def run_recurring(hands: Hands, words: Words) -> dict[str, Any]:
    """Enqueue a job of a template now; its times go on as they would have."""
    one = await hands.store.recurring(words["recurring"])
    if one is None:
        raise NotThere(f"there is no recurring job {words['recurring']!r}")
    try:
        job = job_now(one, defaults_of(hands.readings.eyes.settings))
    except InvalidRequest as fault:  # the settings have become narrower since
        raise Refused(str(fault), 422) from None
    await hands.store.enqueue_many([job])
    return {"count": 1, "job": job.id}


@action("recurring.remove", "recurring", "It recurs no more.", recurring=Field("text", "the template's id"))
async def remove_recurring(hands: Hands, words: Words) -> dict[str, Any]:
    """Make no more jobs of a template; those that were made stay."""
    return {"count": int(await hands.store.remove_recurring(words["recurring"]))}


CONFIG = {
    "key": Field("text", "a key of the store's configuration, as history_seconds, @night or queue_buckets"),
    "queue": Field("text", "the queue it is said of; left out: all", needed=False),
}


@action("config.set", "key queue", "It is so from now on.", **CONFIG,
        value=Field("text", "a number, a list of queues, or text"))  # fmt: skip
async def set_config(hands: Hands, words: Words) -> dict[str, Any]:
    """Say something in the store's configuration, for all machines. Workers hear of it at once."""
    key, queue = _key(words)
    try:
        text = check(key, words["value"])
    except InvalidRequest as fault:
        raise Refused(str(fault), 422) from None
    await hands.store.set_config(key, text, queue)
    return {"count": 1}


@action("config.unset", "key queue", "Nothing is said of it any more.", **CONFIG)
async def unset_config(hands: Hands, words: Words) -> dict[str, Any]:
    """Say nothing of a key any more."""
    return {"count": int(await hands.store.unset_config(*_key(words)) is not None)}


def _key(words: Words) -> tuple[str, str | None]:
    queue = short_queue_name(words["queue"]) if "queue" in words else None
    try:
        field_of(check_key(words["key"]), queue)
    except InvalidRequest as fault:
        raise Refused(str(fault), 422) from None
    return words["key"], queue
