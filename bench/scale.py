"""What single calls cost the server when there is much of everything: its own slow log is the judge.

Sizes go with ``--jobs`` (20,000 unless said otherwise): fifty times as many jobs wait in one queue, five times as many
become due at once, or wait for one parent; half as many queues, a twentieth as many throttles. Each stage does what
nodes do, call by call, and names the dearest call of each script: by the commands that it made, by the processor time
that the server took for it, and, if that was more than 10 ms, by the server's slow log. That one counts the time in
which the server was kept waiting, too; so it is put before all other processes where that is allowed, and it does not
begin its append-only file anew meanwhile: after that fork it copies every page that is first written to, whichever call
does that.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

from bench.server import Server
from bench.sheet import Plan, Sheet
from rrqd.model.job import NewJob
from rrqd.model.lifecycle import End
from rrqd.model.verdict import Verdict
from rrqd.runtime.order import QUEUES_MOST
from rrqd.runtime.outage import Outage
from rrqd.runtime.reports import LINES_MOST, SUBJECTS_MOST, Reports
from rrqd.store import Charge, Claim, ClaimRequest, Settlement, Store, StorePolicy
from rrqd.store.jobs import CLAIM_BATCH
from rrqd.store.scripts import digests, script
from rrqd.store.why import why

NAME = "scale"
MOST_MS = 10.0
FEW_COMMANDS, MOST_COMMANDS = 20, 1500
LEASE_MS = 3_600_000
PART = 10_000
DONE = Verdict(end=End.COMPLETE, result=b"1", ttl_seconds=3600)
BURIED = Verdict(end=End.BURY, error="told to", ttl_seconds=3600)
AGAIN = Verdict(end=End.RETRY, error="told to", delay_ms=60_000)


def run(plan: Plan, sheet: Sheet) -> None:
    for stage in (waiting, tenants, prioritised, deferred, queues, throttled, dependents, doomed, labelled, told):
        with Server() as server:
            _put_first(server, sheet)
            asyncio.run(_stage(server, stage, plan.jobs, sheet))


def _put_first(server: Server, sheet: Sheet) -> None:
    assert server.process is not None
    try:
        os.sched_setscheduler(server.process.pid, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        sheet.note("the server shares the processors with all others: a call may look slow that was kept waiting")


Stage = Callable[["Node", int], Awaitable[int]]


async def _stage(server: Server, stage: Stage, size: int, sheet: Sheet) -> None:
    store = await Watched.open(server.dsn, StorePolicy(), client_name="rrqd:bench", timeout_seconds=60.0)
    store.watch(server)
    server.redis.config_set("auto-aof-rewrite-percentage", 0)
    server.redis.config_set("slowlog-max-len", 100_000)
    server.redis.config_set("slowlog-log-slower-than", 1000 * int(MOST_MS))
    node = Node(store)
    await node.begin()
    try:
        number = await stage(node, size)
    finally:
        await store.close()
    for name, costs in sorted(store.costs.items()):
        commands = max(cost.commands for cost in costs)
        if commands >= FEW_COMMANDS:
            what = f"{stage.__name__} {number:,}: {name}, {len(costs):,} of at most {commands:,} commands"
            sheet.add(NAME, what, "ms", max(cost.milliseconds for cost in costs), f"<= {MOST_MS:g}")
        if commands > MOST_COMMANDS:
            sheet.note(f"{stage.__name__}: {name} makes {commands:,} commands in one call")
    for name, (worst, calls) in sorted(_slowest(server).items()):
        sheet.note(f"{stage.__name__}: by the log {calls} of {name} above {MOST_MS:g} ms, the slowest {worst:.1f}")


def _slowest(server: Server) -> dict[str, tuple[float, int]]:
    """Script -> its slowest call in ms, of those that took longer than they may, and how many these were."""
    names = digests()
    found: dict[str, list[float]] = defaultdict(list)
    for entry in server.redis.slowlog_get(100_000):
        words = entry["command"].split(b" ", 2)
        if words[0].upper() == b"EVALSHA":
            found[names[words[1].decode()]].append(entry["duration"] / 1000)
    return {name: (max(durations), len(durations)) for name, durations in found.items()}


class Cost(NamedTuple):
    """What one call took of the server."""

    commands: int
    milliseconds: float


class Watched(Store):
    """Makes its calls one by one, and notes what each took of the server."""

    def watch(self, server: Server) -> None:
        assert server.process is not None
        self._clock_id = (~server.process.pid << 3) | 2  # the kernel's name for the processor time of another process
        self._server = server
        self._names = digests()
        for name in self._names.values():
            server.redis.script_load(script(name).text)
        self._alone = asyncio.Lock()
        self.costs: dict[str, list[Cost]] = defaultdict(list)

    async def link(self) -> Any:
        return _Line(self, await super().link())

    async def ask(self, link: Any, words: tuple[Any, ...]) -> Any:
        async with self._alone:
            if words[0] != "EVALSHA":
                return await link.call(*words)
            commands, began = self._commands(), time.clock_gettime(self._clock_id)
            answer = await link.call(*words)
            seconds = time.clock_gettime(self._clock_id) - began
            self.costs[self._names[words[1]]].append(Cost(self._commands() - commands, 1000 * seconds))
            return answer

    def _commands(self) -> int:
        """How many commands scripts have made so far."""
        told: dict[str, Any] = self._server.redis.info("commandstats")
        return sum(one["calls"] for name, one in told.items() if name not in ("cmdstat_info", "cmdstat_evalsha"))


class _Line:
    def __init__(self, store: Watched, link: Any) -> None:
        self._store = store
        self._link = link

    def call(self, *words: Any) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self._store.ask(self._link, words))

    def flush(self) -> None:
        """Nothing: what is asked is asked at once."""


class Node:
    """A node with one worker, moved by hand."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.turn = 0

    async def begin(self) -> None:
        await self.store.renew("node", LEASE_MS)
        assert await self.store.open_worker("worker", "node")

    async def put(self, jobs: Iterable[NewJob]) -> int:
        part: list[NewJob] = []
        number = 0
        for one in jobs:
            part.append(one)
            number += 1
            if len(part) == PART:
                await self.store.enqueue_many(part)
                part = []
        if part:
            await self.store.enqueue_many(part)
        return number

    async def claim(self, *queues: str, slots: int = CLAIM_BATCH) -> Claim:
        self.turn += 1
        return await self.store.claim(
            ClaimRequest(
                worker_id="worker", node_id="node", turn=self.turn, queues=list(queues) or ["q"], limit=slots, running=0
            )
        )

    async def work(self, times: int, verdict: Verdict = DONE, *queues: str, slots: int = CLAIM_BATCH) -> int:
        """Claim and settle so often; answers how many jobs that were."""
        number = 0
        for _ in range(times):
            jobs = (await self.claim(*queues, slots=slots)).jobs
            await self.store.settle("worker", [Settlement(one.id, one.token, verdict) for one in jobs])
            number += len(jobs)
        return number


def _jobs(number: int, queue: str = "q", **fields: Any) -> Iterable[NewJob]:
    return (NewJob(id=f"{queue}-{nth}", function="noop", queue=queue, **fields) for nth in range(number))


async def waiting(node: Node, size: int) -> int:
    """Plain jobs in one queue; some are worked off, retried, buried, put back, cancelled."""
    number = await node.put(_jobs(50 * size))
    for slots in (1, 100, CLAIM_BATCH):
        await node.work(20, slots=slots)
    await node.work(5, AGAIN)
    await node.work(2, BURIED)
    await node.claim()
    await node.store.close_worker("worker", reason="told to", charge=Charge.DEATH)
    await node.begin()
    for nth in range(number - 50, number):
        await node.store.cancel(f"q-{nth}")
        await why(node.store, f"q-{nth - 50}")
    return number


async def tenants(node: Node, size: int) -> int:
    """Half of the jobs are one tenant's; half as many tenants as ``size`` have the others."""
    number = await node.put(
        NewJob(id=f"q-{nth}", function="noop", queue="q", tenant="whale" if nth % 2 else f"t-{nth % size}")
        for nth in range(50 * size)
    )
    for slots in (1, 100, CLAIM_BATCH):
        await node.work(20, slots=slots)
    await node.work(5, AGAIN)
    await node.claim()
    await node.store.close_worker("worker", reason="told to", charge=Charge.DEATH)
    await node.begin()
    await node.store.cancel_many([f"q-{nth}" for nth in range(number - 500, number)])
    await why(node.store, f"q-{number - 600}")
    return number


async def prioritised(node: Node, size: int) -> int:
    """Of three priorities, with a history of changes."""
    number = await node.put(
        NewJob(id=f"q-{nth}", function="noop", queue="q", priority=nth % 3 - 1) for nth in range(5 * size)
    )
    for nth in range(100):
        await node.store.prioritise(f"q-{nth}", 7)
    await node.work(30)
    return number


async def deferred(node: Node, size: int) -> int:
    """All due at the same moment, half of them with a priority."""
    at_ms = (await node.claim()).now_ms + 1000 * max(2.0, size / 2000)
    number = await node.put(_jobs(5 * size, due_ms=at_ms))
    number += await node.put(_jobs(5 * size, "p", priority=2, due_ms=at_ms))
    await asyncio.sleep(max(0.0, at_ms - (await node.claim(slots=0)).now_ms) / 1000)
    for _ in range(40):
        await node.work(1, DONE, "q", "p")
    while not (await node.claim("p")).full:
        pass
    return number


async def queues(node: Node, size: int) -> int:
    """Each with a job or two, and workers that serve many of them."""
    names = [f"tenant-{nth}" for nth in range(size // 2)]
    await node.put(NewJob(id=f"{name}-{nth}", function="noop", queue=name) for nth in range(2) for name in names)
    for most in (10, 100, QUEUES_MOST):
        for at in range(0, len(names), max(most, len(names) // 20)):
            await node.work(1, DONE, *names[at : at + most])
    await node.store.queue_depths(names)
    return len(names)


async def throttled(node: Node, size: int) -> int:
    """A hundred jobs each, of which one may run; and one throttle for a hundred thousand."""
    names = [f"t{nth}" for nth in range(size // 20)]
    for name in (*names, "all"):
        await node.store.set_throttle(name, 1)
    await node.put(
        NewJob(id=f"{name}-{nth}", function="noop", queue="q", throttles=(name,))
        for nth in range(100)
        for name in names
    )
    await node.put(_jobs(5 * size, throttles=("all",)))
    while (await node.claim()).full:
        pass
    await node.store.close_worker("worker", reason="told to", charge=Charge.NOBODY)
    await node.begin()
    await node.work(50)
    await node.store.set_throttle("all", 1_000_000)
    while await node.store.tend_throttles():
        pass
    await node.work(50)
    return len(names)


async def dependents(node: Node, size: int) -> int:
    """Of one parent, told of its end."""
    await node.put(_jobs(1, "parent"))
    number = await node.put(_jobs(5 * size, parents=("parent-0",)))
    await node.work(1, DONE, "parent")
    await _tell_all(node)
    await node.work(20)
    return number


async def doomed(node: Node, size: int) -> int:
    """The same, and they are cancelled with it; each has a second parent that never ends."""
    await node.put([*_jobs(1, "parent"), *_jobs(1, "other")])
    number = await node.put(_jobs(5 * size, parents=("parent-0", "other-0"), on_parent="cancel"))
    await node.work(1, BURIED, "parent")
    await _tell_all(node)
    return number


async def _tell_all(node: Node) -> None:
    at = 0
    while True:
        more, at = await node.store.inform(at)
        if not more:
            return


async def labelled(node: Node, size: int) -> int:
    """One tag for all, tracked, looked for and worked off."""
    number = await node.put(_jobs(5 * size, tags=("all", "some"), track=True))
    for offset in (0, number // 2, number - 100):
        await node.store.tagged("all", offset=offset, limit=100)
    await node.work(30)
    return number


async def told(node: Node, size: int) -> int:
    """What a worker says beside settling: progress of all it runs, lines for their logs, figures of many functions."""
    await node.put(_jobs(LINES_MOST, tags=tuple(f"tag-{nth}" for nth in range(20)), track=True))
    reports = Reports(node.store, "worker", 3600.0, Outage(None))
    for _ in range(LINES_MOST // CLAIM_BATCH):
        for job in (await node.claim()).jobs:
            reports.note(job, b'{"value":0.5}')
            reports.line(job, b'{"message":"half way"}')
    for nth in range(SUBJECTS_MOST):
        for wait in range(20):
            reports.tally(f"q-{nth}", f"f-{nth}", End.COMPLETE, wait / 7, wait * 3.0)
    await reports.send()
    return SUBJECTS_MOST
