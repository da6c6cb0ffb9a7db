"""What can be done from a page or over the API: one table, one function an action.

Each says how many things it changed; whoever carries one out writes that into the audit. An action that can't be
carried out is `Refused` with a sentence. Destructive actions on many jobs want the number typed (`confirm`): the number
that the page showed, so that nobody throws away more than was seen.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rrqd.local_socket import ask
from rrqd.model.timetable import Entry, defaults_of, job_of, read_timetable
from rrqd.store import Cancelled, Moved, Prioritised
from rrqd.store.labels import TooManyTags
from rrqd.store.timetable import Ticked
from rrqd.web.readings import NotThere, Readings

Words = Mapping[str, Any]
MASTER_SECONDS = 10.0
MOST_JOBS = 1000
LARGEST = 2**53
TEXT = re.compile(r"[^\x00-\x1f\x7f]{1,500}")
BY_HAND = "web"


class Refused(Exception):
    """It can't be done. One sentence, and the HTTP status that fits."""

    def __init__(self, why: str, status: int = 409) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True)
class Field:
    """One thing that an action is told. `kind`: text, whole, number, flag, texts. `least`: of a number."""

    kind: str
    what: str
    needed: bool = True
    least: float = -LARGEST


@dataclass(frozen=True, slots=True)
class Action:
    """`target`: the field that names what it is about, for the audit."""

    name: str
    what: str
    target: str
    fields: dict[str, Field]
    carry_out: Callable[[Hands, Words], Awaitable[dict[str, Any]]] = field(repr=False)


class Hands:
    """What actions work with. `state_dir`: where the master's control socket is."""

    def __init__(self, readings: Readings, state_dir: Path) -> None:
        self.readings = readings
        self.state_dir = state_dir

    async def tell_master(self, **question: Any) -> dict[str, Any]:
        """Ask the daemon of this machine. Raises Refused with its reason."""
        try:
            answer = await asyncio.to_thread(ask, self.state_dir, question, MASTER_SECONDS)
        except OSError as fault:
            raise Refused(f"the daemon's control socket does not answer: {fault}", 503) from None
        if not answer.get("ok"):
            raise Refused(str(answer.get("error") or "the daemon refused"))
        return answer


ACTIONS: dict[str, Action] = {}
JOB = {"job": Field("text", "the job's id")}
QUEUE = {"queue": Field("text", "the queue's name")}
POOL = {"pool": Field("text", "the pool's name")}
Carry = Callable[[Hands, Words], Awaitable[dict[str, Any]]]


def action(name: str, target: str, **fields: Field) -> Callable[[Carry], Carry]:
    """Enter a function into the table; its docstring says what it does."""

    def enter(carry_out: Carry) -> Carry:
        what = " ".join((carry_out.__doc__ or "").split())
        ACTIONS[name] = Action(name, what, target, fields, carry_out)
        return carry_out

    return enter


@action("job.cancel", "job", **JOB)
async def cancel(hands: Hands, words: Words) -> dict[str, Any]:
    """Cancel a job: one that waits never starts, one that runs is stopped."""
    said = await hands.readings.store.cancel(words["job"])
    if said is Cancelled.UNKNOWN:
        raise NotThere(f"there is no job {words['job']!r}")
    if said is Cancelled.TOO_LATE:
        raise Refused("the job has ended already, or a foreign worker runs it")
    return {"count": 1, "said": said.value}


@action("job.retry", "job", **JOB, queue=Field("text", "put it there instead of into its own queue", needed=False))
async def retry(hands: Hands, words: Words) -> dict[str, Any]:
    """Bring a buried job back, as if new."""
    store = hands.readings.store
    job = await store.get(words["job"])
    if job is None:
        raise NotThere(f"there is no job {words['job']!r}")
    dlq = job.fields.get("dlq_name") or None
    if not await store.revive([job.id], dlq=dlq, queue=words.get("queue")):
        raise Refused(f"the job is {job.status.value} and not in the dead-letter queue")
    return {"count": 1}


@action("job.priority", "job", **JOB, priority=Field("number", "higher runs first; 0 is none"))
async def prioritise(hands: Hands, words: Words) -> dict[str, Any]:
    """Give a job another priority."""
    said = await hands.readings.store.prioritise(words["job"], words["priority"])
    if said is Prioritised.UNKNOWN:
        raise NotThere(f"there is no job {words['job']!r}")
    if said is Prioritised.TOO_LATE:
        raise Refused("the job has ended already, or a foreign worker runs it")
    return {"count": 1, "said": said.value}


@action(
    "job.move", "job", **JOB, queue=Field("text", "the queue it is to wait in; left out: its own", needed=False),
    priority=Field("number", "higher runs first; 0 is none; left out: its own", needed=False),
    delay_seconds=Field("number", "not before so long from now; left out: its place in time", needed=False, least=0),
)  # fmt: skip
async def move(hands: Hands, words: Words) -> dict[str, Any]:
    """Let a job wait in another queue, at another priority or until another time; a buried one comes back as if new."""
    return await _move(hands, words, ("waiting", "buried"))


@action("job.timeout", "job", **JOB)
async def time_out(hands: Hands, words: Words) -> dict[str, Any]:
    """Take a running job from its worker, and put it back to its old place."""
    return await _move(hands, words, ("running",))


async def _move(hands: Hands, words: Words, states: tuple[str, ...]) -> dict[str, Any]:
    delay = words.get("delay_seconds")
    (said,) = await hands.readings.store.move(
        [words["job"]], queue=words.get("queue"), delay_ms=None if delay is None else round(delay * 1000),
        priority=words.get("priority"), states=states,
    )  # fmt: skip
    if said is Moved.UNKNOWN:
        raise NotThere(f"there is no job {words['job']!r}")
    if not said.done and said is not Moved.CANCELLED:
        raise Refused("the job has ended already, or a foreign worker runs it" if said is Moved.TOO_LATE
                      else f"the job is {said.value}")  # fmt: skip
    return {"count": 1, "said": said.value}


@action("job.tag", "job", **JOB, tags=Field("texts", "tags to add"))
async def tag(hands: Hands, words: Words) -> dict[str, Any]:
    """Put tags on a job."""
    try:
        return _tags_of(await hands.readings.store.tag(words["job"], words["tags"]), words)
    except TooManyTags as fault:
        raise Refused(str(fault)) from None


@action("job.untag", "job", **JOB, tags=Field("texts", "tags to take away"))
async def untag(hands: Hands, words: Words) -> dict[str, Any]:
    """Take tags off a job."""
    return _tags_of(await hands.readings.store.untag(words["job"], words["tags"]), words)


def _tags_of(tags: list[str] | None, words: Words) -> dict[str, Any]:
    if tags is None:
        raise NotThere(f"there is no job {words['job']!r}")
    return {"count": 1, "tags": tags}


@action("job.track", "job", **JOB, on=Field("flag", "false: follow it no more", needed=False))
async def track(hands: Hands, words: Words) -> dict[str, Any]:
    """Follow a job: tell of its every move."""
    store = hands.readings.store
    changed = await (store.untrack(words["job"]) if words.get("on") is False else store.track(words["job"]))
    if changed is None:
        raise NotThere(f"there is no job {words['job']!r}")
    return {"count": int(changed)}


@action("queue.pause", "queue", **QUEUE)
async def pause(hands: Hands, words: Words) -> dict[str, Any]:
    """Let no worker of any machine claim from a queue."""
    return {"count": len(await hands.readings.store.pause_queues([words["queue"]]))}


@action("queue.resume", "queue", **QUEUE)
async def resume(hands: Hands, words: Words) -> dict[str, Any]:
    """Let workers claim from a queue again."""
    return {"count": len(await hands.readings.store.resume_queues([words["queue"]]))}


@action(
    "dlq.retry", "signature",
    signature=Field("text", "the group, as the list of failures names it"),
    dlq=Field("text", "the dead-letter queue; left out: the default one", needed=False),
    confirm=Field("whole", "the number of jobs that this is about", least=0),
)  # fmt: skip
async def retry_group(hands: Hands, words: Words) -> dict[str, Any]:
    """Bring all jobs of one group of failures back."""
    ids = await _group(hands, words)
    return {"count": len(await hands.readings.store.revive(ids, dlq=words.get("dlq")))}


@action(
    "jobs.cancel", "jobs", jobs=Field("texts", f"ids of at most {MOST_JOBS} jobs"),
    confirm=Field("whole", "the number of jobs that this is about", least=0),
)  # fmt: skip
async def cancel_many(hands: Hands, words: Words) -> dict[str, Any]:
    """Cancel the jobs that were chosen; those that have ended meanwhile are left alone."""
    ids = _chosen(words)
    said = await hands.readings.store.cancel_many(ids)
    return {"count": sum(one in (Cancelled.CANCELLED, Cancelled.ASKED) for one in said), "asked_for": len(ids)}


@action(
    "jobs.retry", "jobs", jobs=Field("texts", f"ids of at most {MOST_JOBS} jobs"),
    dlq=Field("text", "the dead-letter queue; left out: the default one", needed=False),
    confirm=Field("whole", "the number of jobs that this is about", least=0),
)  # fmt: skip
async def retry_many(hands: Hands, words: Words) -> dict[str, Any]:
    """Bring the buried jobs that were chosen back."""
    ids = _chosen(words)
    return {"count": len(await hands.readings.store.revive(ids, dlq=words.get("dlq"))), "asked_for": len(ids)}


def _chosen(words: Words) -> list[str]:
    ids = list(dict.fromkeys(words["jobs"]))
    if len(ids) > MOST_JOBS:
        raise Refused(f"{len(ids)} jobs are too many at a time; at most {MOST_JOBS}", 422)
    return _confirmed(ids, words)


async def _group(hands: Hands, words: Words) -> list[str]:
    ids = await hands.readings.group(words.get("dlq"), words["signature"])
    if not ids:
        raise NotThere("no buried job is in that group any more")
    return _confirmed(ids, words)


def _confirmed(ids: list[str], words: Words) -> list[str]:
    if words["confirm"] != len(ids):
        raise Refused(f"it is about {len(ids)} jobs, not {words['confirm']}; look again, and confirm that number")
    return ids


@action(
    "throttle.set", "throttle", throttle=Field("text", "the throttle's name"),
    limit=Field("whole", "how many jobs may run under it; 0: none", least=0),
    expires_seconds=Field("number", "lifted by itself after so long; left out: never", needed=False, least=0.001),
)  # fmt: skip
async def set_throttle(hands: Hands, words: Words) -> dict[str, Any]:
    """Let only so many jobs of a throttle run; those that wait and fit are let go at once."""
    store = hands.readings.store
    await store.set_throttle(words["throttle"], words["limit"], expires_seconds=words.get("expires_seconds"))
    return {"count": 1}


@action("throttle.delete", "throttle", throttle=Field("text", "the throttle's name"))
async def delete_throttle(hands: Hands, words: Words) -> dict[str, Any]:
    """Lift a limit: all that wait for it are let go."""
    return {"count": int(await hands.readings.store.delete_throttle(words["throttle"]))}


@action("throttle.release", "throttle", throttle=Field("text", "the throttle's name"), job=Field("text", "a job's id"))
async def free_throttle(hands: Hands, words: Words) -> dict[str, Any]:
    """Count a job that runs under a throttle no more."""
    return {"count": await hands.readings.store.free_throttle(words["throttle"], [words["job"]])}


@action("cron.pause", "cron", cron=Field("text", "the entry's name"))
async def pause_cron(hands: Hands, words: Words) -> dict[str, Any]:
    """Let an entry of the timetable make no jobs, on no machine."""
    return {"count": int(await hands.readings.store.pause_cron(_entry(hands, words).name, True))}


@action("cron.resume", "cron", cron=Field("text", "the entry's name"))
async def resume_cron(hands: Hands, words: Words) -> dict[str, Any]:
    """Let an entry make jobs again, from its next tick on."""
    return {"count": int(await hands.readings.store.pause_cron(_entry(hands, words).name, False))}


@action("cron.run", "cron", cron=Field("text", "the entry's name"))
async def run_cron(hands: Hands, words: Words) -> dict[str, Any]:
    """Enqueue the job of an entry now; its ticks go on as they would have."""
    defaults = defaults_of(hands.readings.eyes.settings)
    (answer,) = await hands.readings.store.tick([job_of(_entry(hands, words), defaults, None, BY_HAND)])
    if answer.ticked is not Ticked.FIRED:
        raise Refused(f"nothing was enqueued: {answer.ticked.value} ({answer.job_id})")
    return {"count": 1, "job": answer.job_id}


def _entry(hands: Hands, words: Words) -> Entry:
    entry = read_timetable(hands.readings.eyes.settings).get(words["cron"])
    if entry is None:
        raise NotThere(f"there is no cron entry {words['cron']!r}")
    return entry


@action("recurring.remove", "recurring", recurring=Field("text", "the template's id"))
async def remove_recurring(hands: Hands, words: Words) -> dict[str, Any]:
    """Make no more jobs of a template; those that were made stay."""
    return {"count": int(await hands.readings.store.remove_recurring(words["recurring"]))}


@action("pool.pause", "pool", **POOL)
async def pause_pool(hands: Hands, words: Words) -> dict[str, Any]:
    """Let a pool of this machine take no more jobs."""
    answer = await hands.tell_master(command="pause", pool=words["pool"])
    return {"count": 1, "paused": answer["paused"], "unheard": answer.get("unheard", [])}


@action("pool.resume", "pool", **POOL)
async def resume_pool(hands: Hands, words: Words) -> dict[str, Any]:
    """Let a pool of this machine take jobs again."""
    return {"count": 1, "paused": (await hands.tell_master(command="resume", pool=words["pool"]))["paused"]}


@action("pool.scale", "pool", **POOL, processes=Field("whole", "how many worker processes", least=1))
async def scale(hands: Hands, words: Words) -> dict[str, Any]:
    """Change the number of a pool's workers, until the daemon ends or a reload brings another number."""
    answer = await hands.tell_master(command="scale", pool=words["pool"], processes=words["processes"])
    return {"count": abs(answer["processes"] - answer["before"]), "processes": answer["processes"]}


@action("pool.restart", "pool", **POOL, slot=Field("whole", "only this worker", needed=False, least=0))
async def restart(hands: Hands, words: Words) -> dict[str, Any]:
    """Replace a pool's workers, or one of them, by fresh ones of the same code; running jobs are finished."""
    answer = await hands.tell_master(command="restart", pool=words["pool"], slot=words.get("slot"))
    return {"count": len(answer["workers"]), "workers": answer["workers"]}


def check(known: Action, said: Any) -> dict[str, Any]:
    """The words of a request, if they are what the action needs. Raises Refused (422) with what is wrong."""
    if not isinstance(said, dict):
        raise Refused("the body must be a JSON object", 422)
    for name in said:
        if name not in known.fields:
            raise Refused(f"{known.name} knows no {name!r}; it takes {', '.join(known.fields)}", 422)
    words: dict[str, Any] = {}
    for name, one in known.fields.items():
        if name in said:
            words[name] = _fitting(name, one, said[name])
        elif one.needed:
            raise Refused(f"{name} is missing: {one.what}", 422)
    return words


def _fitting(name: str, one: Field, value: Any) -> Any:
    if one.kind == "whole" and isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON has one kind of number: 3.0 is 3
    if not _fits(one.kind, value):
        raise Refused(f"{name} must be {KINDS[one.kind]}: {one.what}", 422)
    if one.kind in ("whole", "number") and value < one.least:
        raise Refused(f"{name} must be {one.least:g} or more: {one.what}", 422)
    return value


KINDS = {
    "text": "a text of 1 to 500 characters, none of them a control character",
    "whole": "a whole number",
    "number": "a number",
    "flag": "true or false",
    "texts": "a list of texts",
}


def _fits(kind: str, value: Any) -> bool:
    if kind == "texts":
        return isinstance(value, list) and bool(value) and all(_fits("text", one) for one in value)
    if kind == "text":
        return isinstance(value, str) and TEXT.fullmatch(value) is not None
    if kind == "flag":
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    return isinstance(value, int if kind == "whole" else (int, float)) and -LARGEST <= value <= LARGEST
