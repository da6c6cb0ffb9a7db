"""A worker is gone: settle what it can be blamed for, and put everything else it held back at once."""

from __future__ import annotations

import math
import random
from typing import Any, Literal

import msgspec

from rrqd.config.settings import Settings
from rrqd.model.job import Job
from rrqd.model.verdict import RunPolicy, TimedOut, judge
from rrqd.store import Charge, Released, Settlement, Store

#: Ends that were wanted; nobody pays for them.
PLANNED = ("planned", "lost-lease", "killed-by-operator")


class Departed(msgspec.Struct, frozen=True, kw_only=True):
    """What the master says of a dead worker. ``culprit_kind`` is ``"timeout"`` when it was killed because that job
    would not let go after its timeout."""

    worker_id: str
    pool: str
    reason: str
    culprit: str | None = None
    culprit_kind: str | None = None


async def see_off(store: Store, settings: Settings, gone: Departed) -> Released:
    """Close the worker. A job past its timeout gets the verdict a timeout gets anywhere else (so ``max_retries`` and
    ``on_timeout`` hold for handlers that block, too); its neighbours go back uncharged."""
    charge = Charge.NOBODY if gone.reason.startswith(PLANNED) else Charge.DEATH
    if gone.culprit is not None and gone.culprit_kind == "timeout":
        token = (await store.held_by(gone.worker_id)).get(gone.culprit)
        job = await store.get(gone.culprit) if token is not None else None
        if token is not None and job is not None:
            verdict = judge(
                TimedOut(f"Job timed out and did not let go; its worker was killed ({gone.reason})."),
                policy_for(job, settings, gone.pool),
                (job.number("current_retries") or 0) + 1,
                random.random(),
            )
            await store.settle(gone.worker_id, [Settlement(gone.culprit, token, verdict)])
        charge = Charge.NOBODY
    return await store.close_worker(gone.worker_id, reason=gone.reason, charge=charge, culprit=gone.culprit)


def policy_for(job: Job, settings: Settings, pool_name: str) -> RunPolicy:
    """The job's own rules over the pool's over the settings'. (A handler's own are known only inside a worker.)"""
    rrq, daemon = settings.rrq, settings.rrqd
    pool = daemon.pools.get(pool_name)
    own = _own_policy(job)
    tries = job.number("max_retries")
    if tries is None:
        tries = pool.max_retries if pool is not None and pool.max_retries is not None else rrq.default_max_retries
    on_timeout: Literal["retry", "bury"] = own.get("on_timeout") or (
        (pool.on_timeout if pool is not None else None) or daemon.on_timeout
    )
    return RunPolicy(
        max_retries=tries,
        retry_delay_seconds=float(own.get("retry_delay_seconds", rrq.base_retry_delay_seconds)),
        max_retry_delay_seconds=float(own.get("max_retry_delay_seconds", rrq.max_retry_delay_seconds)),
        retry_jitter=daemon.retry_jitter,
        on_timeout=on_timeout,
        result_ttl_seconds=0,
        dlq_retention_seconds=math.ceil(daemon.dlq_retention_seconds),
        cancelled_retention_seconds=math.ceil(daemon.cancelled_retention_seconds),
    )


def _own_policy(job: Job) -> dict[str, Any]:
    try:
        policy = msgspec.json.decode(job.fields.get("rrqd_policy", "{}"))
    except msgspec.DecodeError:
        return {}
    return policy if isinstance(policy, dict) else {}
