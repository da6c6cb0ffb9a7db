"""Real and rrqd's producers share unique keys, rate limits and debounces: what one began the other goes on with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rrqd.client import RRQClient
from rrqd.exc import RateLimited
from rrqd.store import Store
from tests.interop.conftest import RealRRQ
from tests.support.moves import known, place_of, raw

SCRIPT = Path(__file__).parent / "scripts" / "windows.py"
LIMIT = {"rate_limit_key": "user-1", "rate_limit_seconds": 60}
BURST = {"debounce_key": "doc-1", "debounce_seconds": 600}


def real(rrq: RealRRQ, dsn: str, *calls: list[Any]) -> list[Any]:
    """The real client's answers."""
    return json.loads(rrq.run(str(SCRIPT), dsn, json.dumps(calls)))


async def test_what_the_real_client_began_ours_goes_on_with(store: Store, dsn: str, real_rrq: RealRRQ) -> None:
    unique, limited, burst = real(
        real_rrq, dsn,
        ["enqueue_with_unique_key", "send", "order-1", {}],
        ["enqueue_with_rate_limit", "send", LIMIT],
        ["enqueue_with_debounce", "send", {**BURST, "params": {"n": 1}, "max_retries": 9}],
    )  # fmt: skip
    async with RRQClient(config={"redis_dsn": dsn}) as client:
        assert await client.enqueue_with_unique_key("send", "order-1") == unique
        assert await client.enqueue_with_rate_limit("send", LIMIT) is None
        with pytest.raises(RateLimited):
            await client.enqueue("send", LIMIT)
        replaced = await client.enqueue_report("other", {**BURST, "params": {"n": 2}, "queue_name": "mail"})
    assert limited is not None
    assert (replaced.job_id, replaced.happened) == (burst, "replaced")
    job = await known(store, burst)
    assert (job.function, job.params, job.fields.get("max_retries")) == ("other", {"n": 2}, None)
    # W13: the real producer leaves the job in both queues, and it runs twice
    assert await place_of(store, burst) == ["queue:mail"]


async def test_what_ours_began_the_real_client_goes_on_with(store: Store, dsn: str, real_rrq: RealRRQ) -> None:
    async with RRQClient(config={"redis_dsn": dsn}) as client:
        unique = await client.enqueue_with_unique_key("send", "order-1")
        freed = await client.enqueue_report("send", {"unique_key": "order-2", "unique_until": "started"})
        assert await client.enqueue_with_rate_limit("send", LIMIT)
        burst = await client.enqueue_with_debounce("send", {**BURST, "params": {"n": 1}})
    assert real(
        real_rrq, dsn,
        ["enqueue_with_unique_key", "send", "order-1", {}],
        ["enqueue_with_unique_key", "send", "order-2", {}],
        ["enqueue_with_rate_limit", "send", LIMIT],
        ["enqueue", "send", LIMIT],
        ["enqueue_with_debounce", "send", {**BURST, "params": {"n": 2}}],
    ) == [unique, freed.job_id, None, "ValueError: Producer did not return a job_id", burst]  # fmt: skip
    assert (await known(store, burst)).params == {"n": 2}
    assert 500 < await raw(store, "TTL", "rrq:debounce:doc-1") <= 600
