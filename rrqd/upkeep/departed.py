"""A worker is gone: settle what it can be blamed for, and put everything else it held back at once."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from rrqd.model.job import Job
from rrqd.model.policy import RunPolicy, lay
from rrqd.model.verdict import TimedOut, judge
from rrqd.store import Charge, Released, Settlement, Store

if TYPE_CHECKING:
    from rrqd.config.settings import Settings

#: Ends that were wanted; nobody pays for them.
PLANNED = ("planned", "lost-lease", "killed-by-operator")
#: The flight page keeps 126 bytes of an id; of text that is no ASCII, at least so many characters.
KEPT_CHARACTERS = 31


class Departed(msgspec.Struct, frozen=True, kw_only=True):
    """What the master says of a dead worker. ``culprit_kind`` is ``"timeout"`` when it was killed because that job
    would not let go after its timeout."""

    worker_id: str
    pool: str
    reason: str
    culprit: str | None = None
    culprit_kind: str | None = None
    story: bytes = b""


async def see_off(store: Store, settings: Settings, gone: Departed) -> Released:
    """Close the worker. A job past its timeout gets the verdict a timeout gets anywhere else (so ``max_retries`` and
    ``on_timeout`` hold for handlers that block, too); its neighbours go back uncharged."""
    charge = Charge.NOBODY if gone.reason.startswith(PLANNED) else Charge.DEATH
    held = await store.held_by(gone.worker_id) if gone.culprit is not None else {}
    culprit = _whole_id(gone.culprit, held)
    if culprit is not None and gone.culprit_kind == "timeout":
        job = await store.get(culprit)
        if job is not None:
            verdict = judge(
                TimedOut(f"Job timed out and did not let go; its worker was killed ({gone.reason})."),
                policy_for(job, settings, gone.pool),
                (job.number("current_retries") or 0) + 1,
                random.random(),
            )
            await store.settle(gone.worker_id, [Settlement(culprit, held[culprit], verdict)])
        charge = Charge.NOBODY
    return await store.close_worker(
        gone.worker_id, reason=gone.reason, charge=charge, culprit=culprit, story=gone.story
    )


def _whole_id(culprit: str | None, held: Iterable[str]) -> str | None:
    """The id of which the flight page, which cuts long ones, has kept the beginning. ``None`` when nobody's."""
    if culprit is None or culprit in held:
        return culprit
    return next((job_id for job_id in held if len(culprit) >= KEPT_CHARACTERS and job_id.startswith(culprit)), None)


def policy_for(job: Job, settings: Settings, pool_name: str) -> RunPolicy:
    """The rules for a job whose worker is gone. (Its handler's own are known only inside a worker.)"""
    try:
        own = msgspec.json.decode(job.fields.get("rrqd_policy", "{}"))
    except msgspec.DecodeError:
        own = None
    return lay(
        settings,
        settings.rrqd.pools.get(pool_name),
        own=own if isinstance(own, dict) else None,
        max_retries=job.number("max_retries"),
    )
