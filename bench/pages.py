"""What each page of the dashboard costs where there is a lot: a million jobs in a thousand queues, two hundred workers.

The dashboard runs in this process, as a program would mount it. Nothing it keeps for a moment is kept here, so every
view is one that nobody else has just paid for. The store's cost is its processor time, over ``VIEWS`` views of a page.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from statistics import median
from urllib.parse import quote

import httpx

from bench.server import Server
from bench.sheet import Plan, Sheet
from rrqd.model.job import NewJob
from rrqd.store import ClaimRequest, Store, StorePolicy
from rrqd.web import Visitor, access, dashboard, sight

NAME = "pages"
JOBS = 1_000_000
QUEUES = 1_000
NODES, WORKERS = 20, 200
BURIED = 20_000
VIEWS = 20
GOAL_MS, STORE_GOAL_MS = "< 200", "< 5"
WAITING = """
local first, last, queues = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
for n = first, last do
  local id, queue = 'job-' .. n, 'queue-' .. n % queues
  redis.call('HSET', 'rrq:job:' .. id, 'id', id, 'status', 'PENDING', 'function_name', 'function_' .. n % 50,
    'queue_name', 'rrq:queue:' .. queue, 'job_params', '{"customer":' .. n .. ',"text":"some words of a job"}',
    'enqueue_time', '2026-01-01T00:00:00+00:00')
  redis.call('ZADD', 'rrq:queue:' .. queue, 1767225600000 + n, id)
end
for n = 0, queues - 1 do redis.call('SADD', 'rrqd:queues', 'queue-' .. n) end
"""
BURY = """
for n = 1, tonumber(ARGV[1]) do
  local id = 'buried-' .. n
  redis.call('HSET', 'rrq:job:' .. id, 'id', id, 'status', 'FAILED', 'function_name', 'function_' .. n % 50,
    'queue_name', 'rrq:queue:queue-' .. n % 1000, 'job_params', '{"customer":' .. n .. '}', 'current_retries', '3',
    'enqueue_time', '2026-01-01T00:00:00+00:00', 'completion_time', '2026-01-01T00:01:00+00:00',
    'last_error', 'no such customer ' .. n, 'rrqd_error',
    '{"type":"LookupError","message":"no such customer","traceback":"' .. string.rep('a line of code ', 60) .. '"}')
  redis.call('LPUSH', 'rrq:dlq:default', id)
end
"""
PAGES = (
    "", "queues", "queues/queue-7", "running", "jobs", "jobs?queue=queue-7&function=function_7", "jobs/job-7",
    "jobs/buried-7", "failures", "dlq", "schedules", "throttles", "stats/queue-7", "workers", "tags", "tags/bench",
    "tracked", "audit", "config",
)  # fmt: skip


def run(plan: Plan, sheet: Sheet) -> None:
    with Server() as server, tempfile.TemporaryDirectory() as folder:
        asyncio.run(_measure(server, Path(folder), plan, sheet))


async def _measure(server: Server, folder: Path, plan: Plan, sheet: Sheet) -> None:
    dsn = server.dsn
    await fill(dsn)
    config = folder / "rrq.toml"
    config.write_text(f'[rrq]\nredis_dsn = "{dsn}"\n[rrqd]\nstate_dir = "{folder}"\n')
    sight.STORE_SECONDS = 0.0
    access.BURST_REQUESTS = access.REQUESTS_A_SECOND = 1e9
    app = dashboard(config, who=lambda _: Visitor("bench", "operator"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://bench") as browser:
        for _ in range(plan.repeat):
            for page in PAGES:
                await _view(browser, server, page, sheet)


async def _view(browser: httpx.AsyncClient, server: Server, page: str, sheet: Sheet) -> None:
    spent, before, own = [], server.load(), time.process_time()
    for _ in range(VIEWS):
        began = time.perf_counter()
        answer = await browser.get(f"/{page}", headers={"accept": "text/html"})
        spent.append((time.perf_counter() - began) * 1000)
        assert answer.status_code == 200, f"{page}: {answer.text[:200]}"
    own_ms = (time.process_time() - own) * 1000 / VIEWS
    store_ms = server.load().since(before).cpu_seconds * 1000 / VIEWS
    sheet.add(NAME, f"/{page}", "ms", median(spent), GOAL_MS)
    sheet.add(NAME, f"/{page}, processor time", "ms", own_ms)
    sheet.add(NAME, f"/{page}, of the store's", "ms", store_ms, STORE_GOAL_MS)


async def fill(dsn: str, jobs: int = JOBS, queues: int = QUEUES) -> None:
    """A server with these jobs, waiting in these queues; with workers whose presence is good for two hours, and with
    buried, tagged and throttled ones in proportion."""
    store = await Store.open(dsn, StorePolicy(), client_name="bench", timeout_seconds=60.0)
    link, share = await store.link(), jobs / JOBS
    for first in range(0, jobs, 5_000):
        await link.call("EVAL", WAITING, 0, first, min(first + 5_000, jobs) - 1, queues)
    await link.call("EVAL", BURY, 0, round(BURIED * share))
    for node in range(NODES):
        await store.renew(f"node-{node}", 7_200_000)
    for number in range(WORKERS):
        worker, node, names = f"worker-{number}", f"node-{number % NODES}", (f"queue-{number % queues}",)
        await store.open_worker(worker, node)
        await store.claim(ClaimRequest(worker_id=worker, node_id=node, turn=1, limit=10, running=0, queues=names))
    await store.enqueue_many(
        [NewJob(id=f"tag-{n}", function="tagged", queue="queue-1", tags=("bench",)) for n in range(500)]
    )
    for n in range(300):
        await store.set_throttle(f"throttle-{n}", 5)
        await store.note_action("bench", "queue.pause", quote(f"queue-{n}"), 1, {"queue": f"queue-{n}"})
    await store.close()
