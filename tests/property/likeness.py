"""Whether the real store and its model are alike: each job in one place, the same one in both, in the same order, under
the same figures;
throttles held by the same jobs; the same events told; and no key that nothing needs."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import structlog

from rrqd.config.settings import Settings
from rrqd.store import Store
from rrqd.store.keys import DUE_DIGITS
from rrqd.upkeep.kin import Kin
from rrqd.upkeep.recurrence import Recurrence
from tests.property.model import Model
from tests.property.places import HELD, PARKED, QUEUED, ModelJob

QUEUES = ("a", "b")
WORKERS = ("worker-1", "worker-2")
THROTTLES = ("one", "two")
LIMITS = (*THROTTLES, *(f"queue:{queue}" for queue in QUEUES))
TENANTS = ("x", "y")
TAGS = ("red", "blue")
#: Rate -> its burst.
RATES = {"one": 1, "three": 3}
HOUR_MS = 3_600_000
#: Of a job's hash: texts, and counts, of which those that are absent are 0.
TEXTS = ("status", "queue_name")
COUNTS = ("current_retries", "rrqd_stalls", "rrqd_aboard", "rrqd_step", "rrqd_tracked", "rrqd_cancel")


SILENT = structlog.wrap_logger(
    structlog.ReturnLogger(), wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL)
)


class View:
    """What the server says, and what a steward does there."""

    def __init__(self, store: Store, link: Any) -> None:
        self._store = store
        self._keys = store.keys
        self._call = link.call
        self._recurrence = Recurrence(store, "node-1", Settings(), SILENT)
        self._read_to = "-"
        self._may_be = self._standing_keys()

    # -- comparing -----------------------------------------------------------------------------------------

    async def compare(self, model: Model) -> None:
        """All questions are asked before the first answer is looked at: one round trip."""
        jobs = list(model.jobs.values())
        zsets, lists = self._ask_for_places()
        fields = [self._call("HMGET", self._keys.job(one.id), *TEXTS, *COUNTS) for one in jobs]
        sets = self._ask_for_sets()
        turns = {queue: self._call("ZRANGE", self._keys.turns(queue), 0, -1, "WITHSCORES") for queue in QUEUES}
        facts = self._call("HGETALL", self._keys.facts)
        keys = self._call("KEYS", "*")
        told = self._call("XRANGE", self._keys.job_events, self._read_to, "+")

        there = {place: sorted(one.decode() for one in await call) for place, call in lists.items()}
        for place, call in zsets.items():
            start = DUE_DIGITS + 1 if place.startswith(("prio", "fair", "alone", PARKED)) else 0
            there[place] = [member[start:].decode() for member in await call]
        alike("places", ((place, ids) for place, ids in there.items() if ids), _places_of(model).items())
        found = {one.id: _read(await call) for one, call in zip(jobs, fields, strict=True)}
        alike("jobs", found.items(), {one.id: _said_of(one) for one in jobs}.items())
        members = {name: {word.decode() for word in await call} for name, call in sets.items()}
        alike("sets", members.items(), _sets_of(model).items())
        known = {name.decode(): text for name, text in (await facts).items()}
        now = {queue: float(known[f"fair {queue}"]) for queue in QUEUES if f"fair {queue}" in known}
        alike("virtual times", now.items(), model.now.items())
        alike("queues with jobs of no priority", [one for one in QUEUES if f"zero {one}" in known], model.zero)
        reserved = {queue: text for queue in QUEUES if (text := known.get(f"alone {queue}")) is not None}
        whose = {queue: "" if text == b"1" else text.split()[0].decode() for queue, text in reserved.items()}
        alike("suspects", whose.items(), model.suspects.items())
        ahead = {(queue, name.decode()): float(at) for queue, call in turns.items() for name, at in await call}
        alike("turns", _ahead_of(now, ahead).items(), _ahead_of(now, model.turns).items())
        alike("keys", {key.decode() for key in await keys} - self._may_be, self._needed_by(model))
        self._compare_events(await told, model)
        depths = await self._store.queue_depths(QUEUES)
        alike("depths", ((one.name, one.waiting, one.due, one.dependent) for one in depths), _depths_of(model))

    def _ask_for_places(self) -> tuple[dict[str, Awaitable[Any]], dict[str, Awaitable[Any]]]:
        keys = {
            f"{kind} {queue}": getattr(self._keys, kind)(queue)
            for kind in ("queue", "prio", "fair", "later", "alone", "depends")
            for queue in QUEUES
        }
        keys |= {PARKED + name: self._keys.parked(name) for name in LIMITS}
        zsets = {place: self._call("ZRANGE", key, 0, -1) for place, key in keys.items()}
        lists = {HELD + name: self._call("HKEYS", self._keys.held(name)) for name in WORKERS}
        lists["dlq"] = self._call("LRANGE", self._keys.dlq("default"), 0, -1)
        return zsets, lists

    def _ask_for_sets(self) -> dict[str, Awaitable[Any]]:
        keys, call = self._keys, self._call
        return {
            "throttles": call("SMEMBERS", keys.throttles),
            "throttled": call("SMEMBERS", keys.throttled),
            "paused": call("HKEYS", keys.paused),
            "recurring": call("ZRANGE", keys.recurring, 0, -1),
            "tracked": call("ZRANGE", keys.tracked, 0, -1),
            "tags": call("SMEMBERS", keys.tags),
            **{f"tag {tag}": call("ZRANGE", keys.tag(tag), 0, -1) for tag in TAGS},
            **{f"holders {name}": call("HKEYS", keys.holders(name)) for name in LIMITS},
        }

    def _standing_keys(self) -> set[str]:
        """Keys that need not be there, and those whose content has just been compared."""
        keys = self._keys
        names = {
            keys.token, keys.nodes, keys.seen, keys.queues, keys.dlqs, keys.facts, keys.node("node-1"), keys.throttles,
            keys.throttled, keys.paused, keys.recurring, keys.tracked, keys.job_events, keys.tags, keys.weights,
            keys.dlq("default"),
        }  # fmt: skip
        kinds = ("queue", "prio", "fair", "later", "alone", "depends", "turns", "poke")
        names |= {getattr(keys, kind)(queue) for kind in kinds for queue in QUEUES}
        names |= {getattr(keys, kind)(worker) for kind in ("worker", "held") for worker in WORKERS}
        names |= {getattr(keys, kind)(name) for kind in ("parked", "holders") for name in LIMITS}
        return names | {keys.tag(tag) for tag in TAGS} | {f"rrqd:rate:{name}" for name in RATES}

    def _needed_by(self, model: Model) -> set[str]:
        """Exactly what all jobs, their waits, throttles and templates need."""
        keys, names = self._keys, set()
        for one in model.jobs.values():
            names.add(keys.job(one.id))
            if one.ends:
                names.add(keys.events(one.id))
            for parent in one.waits:
                names |= {keys.parents(one.id), "rrqd:kin"}
                names.add(keys.children(parent) if one.on_parent == "hold" else keys.heirs(parent))
        names |= {keys.throttle(name) for name in model.limits}
        names |= {keys.template(name) for name in model.templates}
        return names | {keys.cron(f"recurring:{name}") for name, one in model.templates.items() if one.asked}

    def _compare_events(self, entries: list[Any], model: Model) -> None:
        if entries:
            self._read_to = f"({entries[-1][0].decode()}"
        told = [json.loads(words[1]) for _, words in entries]
        alike("events", [(one["job_id"], one["event"]) for one in told], model.told)
        model.told.clear()

    # -- doing ---------------------------------------------------------------------------------------------

    async def recur(self) -> None:
        await self._recurrence.run_once(0)

    async def tidy(self) -> None:
        """After jobs that have gone: children and indexes."""
        await Kin(self._store).run_once(0)
        await self._store.trim_index("tracked")
        for tag in TAGS:
            await self._store.trim_index("tag", tag)

    async def an_hour_passes(self, model: Model) -> None:
        """Whatever is still to come comes an hour sooner."""
        keys, call = self._keys, self._call
        calls = []
        for one in model.jobs.values():
            if one.due > model.clock and one.place in ("queue", "later", "depends"):
                calls.append(call("ZINCRBY", getattr(keys, one.place)(one.queue), -HOUR_MS, one.id))
                if one.place != "queue":
                    calls.append(call("HINCRBYFLOAT", keys.job(one.id), "rrqd_due", -HOUR_MS))
        for name, limit in model.limits.items():
            if limit.expires:
                calls.append(call("HINCRBYFLOAT", keys.throttle(name), "until", -HOUR_MS))
        for name in model.templates:
            sooner = (
                f"{float(await call('HGET', keys.template(name), 'next_ms')) - HOUR_MS:.3f}"  # as the store writes it
            )
            calls.append(call("ZADD", keys.recurring, sooner, name))
            calls.append(call("HSET", keys.template(name), "next_ms", sooner))
        for name in model.rates:
            if await call("EXISTS", f"rrqd:rate:{name}"):
                calls += [call("HINCRBY", f"rrqd:rate:{name}", what, -HOUR_MS * 1000) for what in ("tat", "slot")]
        for one_call in calls:
            await one_call


def alike(what: str, found: Iterable[Any], wanted: Iterable[Any]) -> None:
    """Whether both have the same members, in any order; raises AssertionError with those that only one has."""
    here, there = list(found), list(wanted)
    for one in list(here):
        if one in there:
            here.remove(one)
            there.remove(one)
    assert not here + there, f"{what}: the store has {sorted(here)}, where the model has {sorted(there)}"


def _places_of(model: Model) -> dict[str, list[str]]:
    """Ids of the jobs in each key, in the order in which they lie there (or that of their names, where they lie in
    none)."""
    places: dict[str, list[ModelJob]] = {}
    for job in model.jobs.values():
        if job.place != "none":
            nameless = job.place == "dlq" or job.place.startswith((HELD, PARKED))
            places.setdefault(job.place if nameless else f"{job.place} {job.queue}", []).append(job)
    return {place: [job.id for job in sorted(jobs, key=_order_in(place))] for place, jobs in places.items()}


def _order_in(place: str) -> Callable[[ModelJob], Any]:
    if place.startswith(HELD) or place == "dlq":
        return lambda job: job.id
    if place.startswith("fair"):
        return lambda job: (job.start, job.due, job.id)
    if place.startswith(("prio", "alone", PARKED)):
        return lambda job: (-job.priority, job.due, job.id)
    return lambda job: (job.due, job.id)


def _said_of(job: ModelJob) -> list[Any]:
    counts = [job.attempts, job.stalls, job.aboard, job.steps, int(job.tracked), int(job.cancel_asked)]
    return [job.status, f"rrq:queue:{job.queue}", *counts]


def _read(words: list[bytes | None]) -> list[Any]:
    return [(word or b"").decode() for word in words[: len(TEXTS)]] + [int(word or 0) for word in words[len(TEXTS) :]]


def _sets_of(model: Model) -> dict[str, set[str]]:
    tagged = {tag: {job.id for job in model.jobs.values() if tag in job.tags} for tag in TAGS}
    return {
        "throttles": set(model.limits),
        "throttled": model.throttled,
        "paused": model.paused,
        "recurring": set(model.templates),
        "tracked": {job.id for job in model.jobs.values() if job.tracked},
        "tags": {tag for tag in TAGS if tagged[tag]},
        **{f"tag {tag}": ids for tag, ids in tagged.items()},
        **{f"holders {name}": model.holders[name] for name in LIMITS},
    }


def _depths_of(model: Model) -> list[tuple[str, int, int, int]]:
    depths = []
    for queue in QUEUES:
        here = [job for job in model.jobs.values() if job.queue == queue]
        waiting = [job for job in here if job.place in QUEUED]
        due = [job for job in waiting if job.due <= model.clock]
        depths.append((queue, len(waiting), len(due), sum(job.place == "depends" for job in here)))
    return depths


def _ahead_of(now: dict[str, float], turns: dict[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    """Turns that are still to come; others need not be remembered."""
    return {key: at for key, at in turns.items() if at > now.get(key[0], 0)}
