"""The store: the only floor that speaks Redis. This page is its contract; ``docs/lifecycle.md`` draws it.

A *move* is one call here, one Lua script (``lua/<move>.lua``), one row of ``model/lifecycle.py``. What all
moves promise:

* **Atomic.** A script reads and checks everything, then writes; no write can fail half way.
* **Fenced.** ``claim`` hands out a token; ``settle``, ``release`` and progress carry it. A stale token changes nothing
  and says so. A token is never given twice: ``max(last + 1, server time in µs)``, one counter for the namespace.
* **Repeatable.** After a lost reply any call may be made again: an enqueue has its id, a claim its turn number,
  everything else a token. So ``StoreUnavailable`` never means "now you have two".
* **Server time.** "Now" is the server's ``TIME``; no caller's clock is trusted.
* **A full server can still finish jobs.** ``enqueue`` is refused whole when the server is out of memory; all other
  moves are allowed to run.
* **Nothing hangs on a TTL.** Keys that expire are conveniences (results) or RRQ's own; leases are stored deadlines.

Who holds what: a node has one lease (``renew``); each worker process is *opened* under its node and holds jobs in its
own set; a worker that was *closed* can't claim any more, so a dead process's late request takes nothing with it.
"""

from __future__ import annotations

from rrqd.store.records import (
    Cancelled,
    Charge,
    Claim,
    ClaimRequest,
    ClaimState,
    Forgotten,
    Lease,
    LeaseWas,
    Moved,
    Prioritised,
    Purged,
    QueueDepth,
    Released,
    ServerInfo,
    Settled,
    Settlement,
    StorePolicy,
    WorkerRow,
    policy_of,
)
from rrqd.store.store import Store

__all__ = [
    "Cancelled", "Charge", "Claim", "ClaimRequest", "ClaimState", "Forgotten", "Lease", "LeaseWas", "Moved",
    "Prioritised", "Purged", "QueueDepth", "Released", "ServerInfo", "Settled", "Settlement", "Store", "StorePolicy",
    "WorkerRow", "policy_of",
]  # fmt: skip
