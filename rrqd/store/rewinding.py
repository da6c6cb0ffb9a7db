"""Time for tests: what is stored is moved back, so that for whoever looks time has gone on.

Only for a server that is the test's own. Due times, times to live and the moments in jobs are moved; the server's clock
and this host's stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from rrqd.model.job import Job
from rrqd.store.keys import JOB
from rrqd.store.queues import unless_spoilt
from rrqd.store.store import Store

#: Scores between these, read as epoch ms, are moments (2001 to 2128).
MOMENTS_MS = (1e12, 5e12)


async def wipe(store: Store) -> None:
    """Remove everything from the server."""
    await (await store.link()).call("FLUSHALL")


async def next_due_in_ms(store: Store, queues: Sequence[str]) -> float:
    """How long until a job of these queues is due that is not yet; infinity when there is none."""
    _, now_ms = await store.look("")
    link, after = await store.link(), f"({now_ms:.3f}"
    places = [key(name) for name in queues for key in (store.keys.queue, store.keys.later)]
    heads = [link.call("ZRANGE", one, after, "+inf", "BYSCORE", "LIMIT", 0, 1, "WITHSCORES") for one in places]
    dues = [float(score) for head in heads for _, score in await unless_spoilt(head, [])]
    return min((max(0.0, due - now_ms) for due in dues), default=math.inf)


async def rewind(store: Store, ms: float) -> None:
    """Move everything that is stored ``ms`` into the past; what has expired by that goes."""
    link = await store.link()
    jobs, nodes = store.keys.job("").encode(), store.keys.nodes.encode()
    assert jobs.endswith(JOB.encode())
    cursor = b"0"
    while True:
        cursor, keys = await link.call("SCAN", cursor, "COUNT", 1000)
        kinds = [link.call("TYPE", key) for key in keys]
        ends = [link.call("PEXPIRETIME", key) for key in keys]
        for key, kind, end in zip(keys, kinds, ends, strict=True):
            what, end_ms = await kind, int(await end)
            if what == b"zset" and key != nodes:  # a living worker's lease is of this time
                await _rewind_scores(link, key, ms)
            elif what == b"hash" and key.startswith(jobs):
                await _rewind_job(link, key, ms)
            if end_ms > 0:
                await link.call("PEXPIREAT", key, max(1, int(end_ms - ms)))
        if cursor == b"0":
            return


async def _rewind_scores(link: Any, key: bytes, ms: float) -> None:
    moved: list[Any] = []
    for member, score in await link.call("ZRANGE", key, 0, -1, "WITHSCORES"):
        if MOMENTS_MS[0] < float(score) < MOMENTS_MS[1]:
            moved += (f"{float(score) - ms:.3f}", member)
    if moved:
        await link.call("ZADD", key, "XX", *moved)


async def _rewind_job(link: Any, key: bytes, ms: float) -> None:
    job = Job.read("", await link.call("HGETALL", key))
    changed: list[str] = []
    for name, value in job.fields.items() if job is not None else ():
        moment = job.moment(name) if job is not None and name.endswith("_time") else None
        if moment is not None:
            changed += (name, (moment - timedelta(milliseconds=ms)).isoformat())
        elif name == "rrqd_due":
            changed += (name, f"{float(value) - ms:.3f}")
    if changed:
        await link.call("HSET", key, *changed)
