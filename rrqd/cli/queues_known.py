"""Which queues there are, and the error for a name that is none of them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from rrqd.cli.invocation import Invocation
from rrqd.cli.output import printable
from rrqd.exc import RRQError
from rrqd.store import Store

#: Of a thousand keys each.
SCAN_STEPS = 50


class UnknownQueue(RRQError):
    """Nobody has ever put a job into it, and no pool serves it."""


async def known_queues(invocation: Invocation, store: Store) -> list[str]:
    """Queues that a pool serves, that ever had a job, or that are paused.

    Where no rrqd has run yet nobody has noted those of real producers: they are looked for, among so many keys.
    """
    pools = invocation.load().settings.rrqd.pools.values()
    configured = {name for pool in pools for name in pool.named_queues}
    found = {*await store.queues(), *await store.paused_queues(), *await store.scan_queues(SCAN_STEPS)}
    return sorted(configured | found)


async def must_know(invocation: Invocation, store: Store, names: Sequence[str]) -> None:
    """Raises UnknownQueue for a queue nobody knows; one that has jobs is known, whoever put them there."""
    known = await known_queues(invocation, store)
    strangers = [name for name in names if name not in known]
    for depth in await store.queue_depths(strangers):
        if depth.waiting == 0:
            near = difflib.get_close_matches(depth.name, known, 1)
            hint = f'did you mean "{printable(near[0])}"?' if near else "rrqd queue list shows all"
            raise UnknownQueue(f'there is no queue "{printable(depth.name)}"; {hint}')
