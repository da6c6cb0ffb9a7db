"""Run with the real rrq's Python: ``thousand.py rrq.toml [share]``. A thousand jobs of all kinds, each waited for.

Prints one JSON object: what was asked for, and what the real client was told.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from rrq.client import RRQClient
from rrq.job import JobResult

HOW_MANY = {
    "plain": 540, "deferred": 100, "unique": 60, "limited": 40, "debounced": 40, "failing": 100, "retrying": 100,
    "unknown": 20,
}  # fmt: skip
#: A second argument asks for a part of them.
SHARE = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
DEBOUNCE_SECONDS = 2.0
PATIENCE_SECONDS = 60.0


class Thousand:
    """Enqueues with one client, and notes ``{kind, id, params, …}`` for each job."""

    def __init__(self, client: RRQClient) -> None:
        self.client = client
        self.jobs: list[dict[str, Any]] = []

    def note(self, kind: str, job_id: str, params: dict[str, Any], **more: Any) -> None:
        self.jobs.append({"kind": kind, "id": job_id, "params": params, **more})

    async def plain(self, n: int) -> None:
        params = {"n": n, "tenant": {"id": n % 7}, "text": f"Grüße an Nr. {n} 🙂", "list": [1, 2.5, None, True]}
        options: dict[str, Any] = {"params": params}
        if n % 3 == 0:
            options |= {"queue_name": "mail", "trace_context": {"traceparent": f"00-{n:032x}-{n:016x}-01"}}
        self.note("plain", await self.client.enqueue("plain", options), params, queue=options.get("queue_name"))

    async def deferred(self, n: int) -> None:
        params, seconds = {"n": n}, 0.2 + 0.008 * n
        when: dict[str, Any] = {"defer_by_seconds": seconds}
        if n % 2:
            when = {"defer_until": datetime.now(UTC) + timedelta(seconds=seconds)}
        job_id = await self.client.enqueue_deferred("plain", {"params": params, **when})
        self.note("deferred", job_id, params, seconds=seconds)

    async def unique(self, n: int) -> None:
        params, key = {"n": n}, f"order-{n}"
        first = await self.client.enqueue_with_unique_key("plain", key, {"params": params})
        second = await self.client.enqueue_with_unique_key("plain", key, {"params": {"n": "the second"}})
        self.note("unique", first, params, second=second)

    async def limited(self, n: int) -> None:
        params, limit = {"n": n}, {"rate_limit_key": f"user-{n}", "rate_limit_seconds": 60}
        first = await self.client.enqueue_with_rate_limit("plain", {"params": params, **limit})
        second = await self.client.enqueue_with_rate_limit("plain", {"params": {"n": "the second"}, **limit})
        assert first is not None
        self.note("limited", first, params, second=second)

    async def debounced(self, n: int) -> None:
        window = {"debounce_key": f"doc-{n}", "debounce_seconds": DEBOUNCE_SECONDS}
        calls = [
            await self.client.enqueue_with_debounce("plain", {"params": {"n": n, "call": call}, **window})
            for call in (1, 2, 3)
        ]
        self.note("debounced", calls[0], {"n": n, "call": 3}, calls=calls)

    async def failing(self, n: int) -> None:
        params, attempts = {"n": n}, 1 + n % 2
        job_id = await self.client.enqueue("fail", {"params": params, "max_retries": attempts})
        self.note("failing", job_id, params, attempts=attempts)

    async def retrying(self, n: int) -> None:
        params = {"n": n}
        self.note("retrying", await self.client.enqueue("retry_once", {"params": params, "max_retries": 3}), params)

    async def unknown(self, n: int) -> None:
        params = {"n": n}
        self.note("unknown", await self.client.enqueue("nobody_has_this", {"params": params}), params)

    async def enqueue_all(self) -> None:
        """All kinds mixed, as an application's traffic is."""
        order = sorted((n / count, kind, n) for kind, count in HOW_MANY.items() for n in range(int(count * SHARE)))
        for _, kind, n in order:
            await getattr(self, kind)(n)


def shown(result: JobResult | None) -> dict[str, Any] | None:
    """A JobResult as JSON."""
    if result is None:
        return None
    return {"status": result.status.value, "result": result.result, "last_error": result.last_error}


async def main(config_path: str) -> None:
    client = RRQClient(config_path=config_path)
    thousand = Thousand(client)
    later = [
        await client.enqueue("plain", {"job_id": f"later-{n}", "queue_name": "later", "defer_by_seconds": 3600 + n})
        for n in range(3)
    ]
    await thousand.enqueue_all()
    for job in thousand.jobs:
        job["waited"] = shown(await client.wait_for_completion(job["id"], timeout_seconds=PATIENCE_SECONDS))
    for job in thousand.jobs:
        job["status"] = shown(await client.get_job_status(job["id"]))
    report = {
        "jobs": thousand.jobs,
        "later": later,
        "later_waited": shown(await client.wait_for_completion(later[0], timeout_seconds=0.2)),
        "later_status": shown(await client.get_job_status(later[0])),
        "stranger": shown(await client.get_job_status("no-such-job")),
    }
    await client.close()
    print(json.dumps(report))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
