"""What pages and API show: one function a view, each a bounded read of store, master's view and flight pages.

Every list has a limit and says how to go on. Nothing here walks all jobs.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from rrqd import __version__
from rrqd.model.job import Job
from rrqd.store import QueueDepth, Store
from rrqd.store.shown import job_page, job_row, queue_row
from rrqd.web.health import verdict
from rrqd.web.hiding import hide
from rrqd.web.sight import Eyes, Sight

PAGE_MOST = 200
ATTENTION_MOST = 20


class NotThere(Exception):
    """What was asked for does not exist. One sentence."""


class Readings:
    def __init__(self, eyes: Eyes) -> None:
        self.eyes = eyes

    @property
    def store(self) -> Store:
        return self.eyes.store

    async def overview(self) -> dict[str, Any]:
        """What needs attention, then the numbers."""
        sight = await self.eyes.sight()
        return {
            "version": __version__,
            "node": sight.master.get("node_id"),
            "mode": sight.master.get("mode"),
            "generation": sight.master.get("generation"),
            "problems": [one.plain() for one in verdict(sight).problems] + _attention(sight),
            "store": {"ok": sight.store.ok, "flavour": sight.store.flavour, "version": sight.store.version},
            "totals": totals(sight),
            "queues": _queue_rows(sight, _busiest(sight)[:20]),
            "queue_count": len(sight.store.queues),
            "functions": functions(sight)[:20] if sight.must_have_master else None,
        }

    async def queues(self, offset: int, limit: int) -> dict[str, Any]:
        """A page of the queues, the fullest first."""
        sight = await self.eyes.sight()
        runs = _runs_by_queue(sight)
        some = _busiest(sight)[offset : offset + min(limit, PAGE_MOST)]
        rows = [{**row, **runs.get(row["queue"], NO_RUNS)} for row in _queue_rows(sight, some)]
        return {"queues": rows, "dlqs": sight.store.dlqs, **paging(offset, len(rows), len(sight.store.queues))}

    async def queue(self, name: str, offset: int, limit: int) -> dict[str, Any]:
        """One queue, and a page of the jobs that wait in it in the order in which they will be taken."""
        sight = await self.eyes.sight(store=False)
        depth = (await self.store.queue_depths([name]))[0]
        ours = {queue for pool in self.eyes.settings.rrqd.pools.values() for queue in pool.named_queues}
        if not depth.waiting and name not in ours and name not in await self.store.queues():
            raise NotThere(f"there is no queue {name!r}")
        ids = await self.store.queue_page(name, offset, min(limit, PAGE_MOST))
        return {
            "queue": _queue_rows(sight, [depth])[0],
            "jobs": await self._rows(ids),
            **paging(offset, len(ids), depth.waiting),
        }

    async def job(self, job_id: str) -> Job:
        """A job, or NotThere."""
        job = await self.store.get(job_id)
        if job is None:
            raise NotThere(f"there is no job {job_id!r}; finished jobs are forgotten after their time to live")
        return job

    def page_of(self, job: Job) -> dict[str, Any]:
        """Everything that its record says, but for what nobody should read."""
        page: dict[str, Any] = hide(job_page(job), self.eyes.settings.rrqd.web.hidden_params)
        return page

    async def running(self, limit: int) -> dict[str, Any]:
        """Jobs that run on this machine now, the longest first; from outside, those of all machines."""
        rows, total = await self.eyes.running(limit)
        return {"jobs": rows, "total": total, "everywhere": not self.eyes.must_have_master}

    async def dlq(self, name: str | None, offset: int, limit: int) -> dict[str, Any]:
        """Buried jobs, newest first."""
        ids = await self.store.dlq_list(name, offset=offset, limit=min(limit, PAGE_MOST))
        size = await self.store.dlq_size(name)
        return {"dlqs": await self.store.dlq_sizes(), "jobs": await self._rows(ids), **paging(offset, len(ids), size)}

    async def workers(self) -> dict[str, Any]:
        """The processes of this machine, and the workers that the store knows of."""
        sight = await self.eyes.sight(store=False, memory=True)
        memory = {(one.role, one.name): one.pss_bytes for one in sight.memory}
        running = {page.worker_id: page.running for page in sight.pages}
        pools = [
            {
                "pool": name,
                **{key: pool.get(key) for key in ("processes", "ready", "queues", "paused", "degraded", "last_error")},
                "slots": [
                    {
                        **{key: slot.get(key) for key in ("slot", "pid", "phase", "generation", "age_seconds", "worn")},
                        "worker_id": slot.get("worker_id"),
                        "running": running.get(slot.get("worker_id"), 0),
                        "pss_bytes": memory.get(("worker", f"{name}/{slot.get('slot')}")),
                        "suspect": slot.get("suspect"),
                    }
                    for slot in pool.get("slots", [])
                ],
            }
            for name, pool in (sight.master.get("pools") or {}).items()
        ]
        others = [
            {**one, "pss_bytes": memory.get((str(one.get("kind")), str(one.get("name"))))}
            for one in sight.master.get("processes", [])
        ]
        rows = await self.store.workers()
        nodes = sorted(await self.store.nodes())[:PAGE_MOST]
        leases = await asyncio.gather(*(self.store.lease_left(name) for name in nodes))
        return {
            "node": sight.master.get("node_id"),
            "pools": pools,
            "processes": others,
            "restarts": sight.master.get("restarts") or {},
            "exits": sight.master.get("exits") or [],
            "nodes": [
                {"node": name, "lease_seconds": round(left or 0.0, 1)} for name, left in zip(nodes, leases, strict=True)
            ],
            "workers": [msgspec.structs.asdict(row) for row in rows[:PAGE_MOST]],
        }

    async def tagged(self, tag: str, offset: int, limit: int) -> dict[str, Any]:
        """Jobs with a tag, newest first; without a tag, the tracked ones."""
        few = min(limit, PAGE_MOST)
        page = await (
            self.store.tagged(tag, offset=offset, limit=few) if tag else self.store.tracked(offset=offset, limit=few)
        )
        return {"tag": tag, "jobs": await self._rows(page.ids), **paging(offset, len(page.ids), page.total)}

    async def tags(self) -> dict[str, Any]:
        counts = await self.store.tags()
        return {"tags": [{"tag": tag, "jobs": jobs} for tag, jobs in list(counts.items())[:PAGE_MOST]]}

    async def audit(self, before: str, limit: int) -> dict[str, Any]:
        if not re.fullmatch(r"\+|[0-9]{1,13}(-[0-9]{1,18})?", before):
            raise NotThere(f"{before[:40]!r} is no id of an entry")
        rows = await self.store.actions(before=before, limit=min(limit, PAGE_MOST))
        return {"actions": rows, "next": rows[-1]["id"] if len(rows) == min(limit, PAGE_MOST) else None}

    async def _jobs(self, ids: Sequence[str]) -> list[Job | None]:
        found: list[Job | None] = []
        for at in range(0, len(ids), PAGE_MOST):
            found += await self.store.jobs(ids[at : at + PAGE_MOST])
        return found

    async def _rows(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        return [job_row(job_id, job) for job_id, job in zip(ids, await self._jobs(ids), strict=True)]


NO_RUNS: dict[str, Any] = {"completed": 0, "failed": 0, "run_seconds": None, "wait_seconds": None}
OKAY = ("success", "advanced")
NEITHER = ("snooze", "cancelled", "diverted")
"""Ends of a run that are neither a success nor a failure."""


def _runs_by_queue(sight: Sight) -> dict[str, dict[str, Any]]:
    return _summed(sight, lambda tally: tally.queue)


def functions(sight: Sight) -> list[dict[str, Any]]:
    """Runs of each function on this machine since its workers' pages began, most run first."""
    rows = [{"function": name, **runs} for name, runs in _summed(sight, lambda tally: tally.function).items()]
    return sorted(rows, key=lambda row: -(row["completed"] + row["failed"]))


def _summed(sight: Sight, key: Any) -> dict[str, dict[str, Any]]:
    sums: dict[str, list[float]] = {}
    for tally in sight.tallies:
        if tally.outcome in NEITHER:
            continue
        one = sums.setdefault(key(tally), [0, 0, 0.0, 0.0])
        one[0 if tally.outcome in OKAY else 1] += tally.count
        one[2] += tally.run_seconds_sum
        one[3] += tally.wait_seconds_sum
    return {
        name: {
            "completed": int(done),
            "failed": int(failed),
            "run_seconds": round(run / (done + failed), 4) if done + failed else None,
            "wait_seconds": round(wait / (done + failed), 4) if done + failed else None,
        }
        for name, (done, failed, run, wait) in sums.items()
    }


def totals(sight: Sight) -> dict[str, Any]:
    """The numbers that stand on top."""
    done = sum(tally.count for tally in sight.tallies if tally.outcome in OKAY)
    return {
        "due": sum(depth.due for depth in sight.store.queues),
        "scheduled": sum(depth.waiting - depth.due for depth in sight.store.queues),
        "running": sum(page.running for page in sight.pages) + sight.store.held,
        "completed": done,
        "failed": sum(tally.count for tally in sight.tallies if tally.outcome not in (*OKAY, *NEITHER)),
        "buried": sum(sight.store.dlqs.values()),
        "workers": sight.store.workers
        or sum(int(pool.get("ready") or 0) for pool in (sight.master.get("pools") or {}).values()),
    }


def _served(sight: Sight) -> set[str]:
    return {queue for pool in (sight.master.get("pools") or {}).values() for queue in pool.get("queues") or ()}


def _queue_rows(sight: Sight, depths: Sequence[QueueDepth]) -> list[dict[str, Any]]:
    """`read_here`: whether a pool of this machine reads it; left out where one looks from outside."""
    served = _served(sight)
    here = [{"read_here": depth.name in served} if sight.must_have_master else {} for depth in depths]
    return [{**queue_row(depth), **more} for depth, more in zip(depths, here, strict=True)]


def _attention(sight: Sight) -> list[dict[str, Any]]:
    """What the daemon is not to blame for, and an operator should know: paused queues, and queues nobody here reads."""
    served = _served(sight)
    found: list[dict[str, Any]] = []
    for depth in sight.store.queues:
        if len(found) == ATTENTION_MOST:
            break
        if not depth.due:
            continue
        due = "1 job is due in it" if depth.due == 1 else f"{depth.due} jobs are due in it"
        if depth.paused:
            found.append(_note(f"queue {depth.name} is paused", depth.name, due,
                               f"rrqd queue resume {depth.name}"))  # fmt: skip
        elif sight.must_have_master and depth.name not in served:
            found.append(_note(f"no pool here reads queue {depth.name}", depth.name, due,
                               "another machine may; otherwise add the queue to a pool"))  # fmt: skip
    return found


def _note(what: str, queue: str, why: str, what_to_do: str) -> dict[str, Any]:
    page = f"queues/{quote(queue, '')}"
    return {"what": what, "where": queue, "page": page, "why": why, "what_to_do": what_to_do, "fails": []}


def _busiest(sight: Sight) -> Sequence[Any]:
    return sorted(sight.store.queues, key=lambda depth: (-depth.due, -depth.waiting, depth.name))


def paging(offset: int, shown: int, total: int) -> dict[str, Any]:
    after = offset + shown
    return {"offset": offset, "total": total, "next": after if shown and after < total else None}
