"""Defects that a client's user meets."""

from __future__ import annotations

import time

from bench.judge.side import Finding, Side
from bench.server import Server, until

WAITS = """
async def main(client):
    ids = [await client.enqueue("nap", {"params": {"seconds": 2.0}}) for _ in range(4)]
    waits = [asyncio.create_task(client.wait_for_completion(one)) for one in ids]
    beside, failed = [], 0
    for _ in range(5):
        began = time.monotonic()
        try:
            await client.enqueue("nothing", {"queue_name": "elsewhere"})
        except Exception:
            failed += 1
        beside.append(time.monotonic() - began)
    ends = await asyncio.gather(*waits, return_exceptions=True)
    broken = sum(isinstance(one, Exception) or one is None for one in ends)
    return [broken, failed, max(beside)]
"""
DEBOUNCES = """
async def main(client):
    ids = []
    for queue in ("default", "mail"):
        options = {"params": {"file": %r}, "queue_name": queue}
        ids.append(await client.enqueue_with_debounce(
            "ledger", {**options, "debounce_key": "doc", "debounce_seconds": 0.5}))
    return ids
"""
ONE = """
async def main(client):
    return await client.enqueue("nothing", {})
"""


def w05(side: Side) -> Finding:
    """Four waits on one client, and enqueues beside them."""
    with side.worker():
        broken, failed, slowest = side.application(WAITS)
    text = f"{broken} of 4 waits fail, {failed} of 5 enqueues; slowest enqueue {slowest:.1f} s"
    return Finding(text, not broken and not failed and slowest < 0.3)


def w12(side: Side) -> Finding:
    """A job with a unique key ends; by then its key is held by another job."""
    redis = side.server.redis
    redis.set("rrq:lock:unique:invoice", "another", ex=600)
    with side.worker():
        side.put("nothing", job_unique_key="invoice")
        side.end()
        side.after(0.3)
    holder = redis.get("rrq:lock:unique:invoice")
    return Finding("frees the other's key" if holder is None else "leaves the other's key alone", holder is not None)


def w13(side: Side) -> Finding:
    """Two debounced enqueues with one key, into two queues."""
    ledger = side.server.folder / "ledger"
    first, second = side.application(DEBOUNCES % str(ledger))
    redis = side.server.redis
    places = [queue for queue in ("default", "mail") if redis.zscore(f"rrq:queue:{queue}", first) is not None]
    with side.worker(more_queues=["mail"]):
        side.end(first)
        side.after(2.0)
    runs = len(ledger.read_text().splitlines())
    assert first == second
    return Finding(f"the job is in {len(places)} queue{'s' * (len(places) != 1)} and runs {runs} times", runs == 1)


def w15(side: Side) -> Finding:
    """An enqueue on a server in cluster mode; rrqd has a namespace with a hash tag."""
    with Server("--cluster-enabled", "yes") as cluster:
        cluster.redis.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        until(lambda: b"cluster_state:ok" in cluster.redis.execute_command("CLUSTER", "INFO"), 20, "the cluster")
        there = Side(side.package, side.python, cluster)
        config = {} if side.is_real else {"namespace": "{shop}"}
        try:
            there.application(ONE, **config)
            said = ""
        except RuntimeError as fault:
            said = str(fault).strip().splitlines()[-1]
    return Finding(f"`{said[:80]}`" if said else "the job is there", not said)


def w22(side: Side) -> Finding:
    """A client is made for a server that does not answer."""
    code = f"from {side.package}.client import RRQClient\nRRQClient(config={{'redis_dsn': 'redis://127.0.0.1:1/0'}})"
    began = time.monotonic()
    said = side.script(code).returncode
    return Finding(f"{'fails' if said else 'is made'} after {time.monotonic() - began:.1f} s", not said)
