"""Looks at queues that are more than one reading of the store: counts of every kind, pages by state, figures.

For people and tests: what runs and what waits at throttles is found by walking through those. Nothing is changed;
nothing here promotes, spawns or expires a job.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

from rrqd import clock
from rrqd.job import JobStatus
from rrqd.model.figures import DayFigures, SpreadFigures, lower_bound_seconds
from rrqd.model.recurring import Recurring
from rrqd.reqless import record
from rrqd.store import Store

PAGE = 500
#: reqless' buckets: by the second, the minute, the hour and the day.
BUCKETS = (
    *range(60), *range(60, 3600, 60), *range(3600, 86_400, 3600), *range(86_400, 7 * 86_400, 86_400)
)  # fmt: skip


class Holder(NamedTuple):
    """A worker, and the jobs it holds. ``stalled``: its lease has ended, and nobody has put them back yet."""

    name: str
    stalled: bool
    jobs: list[str]


async def holders(store: Store) -> list[Holder]:
    """All workers, whatever they serve, in three round trips."""
    nodes = await store.nodes()
    crews = await asyncio.gather(*map(store.workers_of, nodes))
    names = [(worker, node) for node, crew in zip(nodes, crews, strict=True) for worker in crew]
    hands = await asyncio.gather(*(store.held_by(worker) for worker, _ in names))
    now_ms = clock.wall_ms()
    return [
        Holder(worker, nodes[node] <= now_ms, sorted(jobs)) for (worker, node), jobs in zip(names, hands, strict=True)
    ]


class Held(NamedTuple):
    """Jobs that workers hold, by queue."""

    running: dict[str, list[str]]
    stalled: dict[str, list[str]]


async def held(store: Store) -> Held:
    """All that is held now, of all queues."""
    everybody = await holders(store)
    sides = [[job for one in everybody if one.stalled is stalled for job in one.jobs] for stalled in (False, True)]
    return Held(*[await by_queue(store, ids) for ids in sides])


async def length(store: Store, queue: str) -> int:
    """Jobs of a queue that run, wait or are scheduled."""
    depth, holding = (await store.queue_depths([queue]))[0], await held(store)
    return depth.waiting + sum(len(side.get(queue, ())) for side in holding)


async def by_queue(store: Store, ids: Sequence[str]) -> dict[str, list[str]]:
    """These jobs, by the queue they are of."""
    sorted_out: dict[str, list[str]] = {}
    for start in range(0, len(ids), PAGE):
        for job in await store.jobs(ids[start : start + PAGE]):
            if job is not None:
                sorted_out.setdefault(job.queue, []).append(job.id)
    return sorted_out


async def tracked(store: Store) -> list[str]:
    """Ids of all tracked jobs, newest first."""
    found: list[str] = []
    while ids := (await store.tracked(offset=len(found), limit=PAGE)).ids:
        found += ids
    return found


async def throttled(store: Store, queue: str | None = None) -> dict[str, list[str]]:
    """Jobs that wait at throttles, by queue; ``queue``: only those of this one."""
    sorted_out: dict[str, list[str]] = {}
    for row in await store.throttle_rows(await store.throttle_names()):
        for offset in range(0, row.waiting, PAGE):
            page = await store.throttle_waiting(row.name, offset=offset, limit=PAGE)
            for name, ids in (await by_queue(store, page)).items():
                if queue in (None, name):
                    sorted_out.setdefault(name, []).extend(ids)
    return sorted_out


async def templates(store: Store) -> list[Recurring]:
    """All recurring templates, soonest first."""
    found: list[Recurring] = []
    while page := await store.recurring_page(offset=len(found), limit=PAGE):
        found += page
    return found


def queue_of(template: Recurring, default: str) -> str:
    """Where its jobs go."""
    return str(template.options.get("queue_name") or default)


async def counts(store: Store, names: Sequence[str]) -> list[dict[str, Any]]:
    """reqless' counts of these queues."""
    holding, parked = await held(store), await throttled(store)
    recurring = Counter(queue_of(one, store.policy.default_queue) for one in await templates(store))
    return [
        {
            "name": depth.name,
            "waiting": depth.due,
            "running": len(holding.running.get(depth.name, ())),
            "stalled": len(holding.stalled.get(depth.name, ())),
            "scheduled": depth.waiting - depth.due,
            "depends": depth.dependent,
            "throttled": len(parked.get(depth.name, ())),
            "recurring": recurring[depth.name],
            "paused": depth.paused,
        }
        for depth in await store.queue_depths(names)
    ]


async def waiting_page(store: Store, queue: str, *, due: bool, offset: int, limit: int) -> list[str]:
    """Ids of the jobs that could start now, or of those that are to start later, in their order."""
    depth = (await store.queue_depths([queue]))[0]
    first, last = (0, depth.due) if due else (depth.due, depth.waiting)
    return await store.queue_page(queue, first + offset, max(0, min(limit, last - first - offset)))


async def stats(store: Store, queue: str, day: date | float | str | None) -> dict[str, Any]:
    """A queue's figures of one day (epoch seconds, or a date; today) in reqless' form."""
    until = datetime.fromtimestamp(float(day), UTC).date() if isinstance(day, int | float | str) else day
    figures: DayFigures = (await store.figures(queue, days=1, until=until))[0]
    return {
        "wait": _spread(figures.wait),
        "run": _spread(figures.run),
        "retries": figures.retried,
        "failures": figures.buried,
        "failed": figures.buried,
    }


def _spread(spread: SpreadFigures) -> dict[str, Any]:
    histogram = dict.fromkeys(BUCKETS, 0)
    for bucket, jobs in spread.histogram.items():
        histogram[min(int(lower_bound_seconds(bucket)), BUCKETS[-1])] += jobs
    return {
        "count": spread.count, "mean": spread.mean_seconds, "std": spread.sd_seconds,
        "histogram": list(histogram.values()),
    }  # fmt: skip


async def unnamed(store: Store) -> dict[str, list[str]]:
    """Failed jobs of this face that nobody put into a group (killed workers, timeouts), by the one they are filed
    under; newest first."""
    found: dict[str, list[str]] = {}
    offset = 0
    while ids := (await store.ended(record.LISTED, JobStatus.FAILED, offset=offset, limit=PAGE)).ids:
        offset += len(ids)
        for job in await store.jobs(ids):
            if job is not None and not job.fields.get("rrqd_group"):
                found.setdefault(record.group_of(job), []).append(job.id)
    return found


async def failure_groups(store: Store) -> dict[str, int]:
    """How many failed jobs each group has."""
    groups = Counter(await store.groups())
    groups.update({group: len(ids) for group, ids in (await unnamed(store)).items()})
    return dict(groups)


async def failed(store: Store, group: str, start: int, limit: int) -> tuple[int, list[str]]:
    """How many jobs a group has, and a page of their ids: those that were put there first, each newest first."""
    named = await store.failed_in(group, offset=start, limit=limit)
    others = (await unnamed(store)).get(group, [])
    after = max(0, start - named.total)
    return named.total + len(others), named.ids + others[after : after + limit - len(named.ids)]
