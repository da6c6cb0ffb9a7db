"""What the master and its children say to each other.

Rules of this file:

* Every message is a flat JSON dictionary with a ``type``; whoever does not know a type ignores it. Adding a field
  is always allowed.
* Nothing said here is the truth about a job: a message may be lost with its process at any moment, and the store
  and the leases in it make that harmless.

===========  =================  ====================================================================
from master  ``drain``          worker: no new claim; what is left at the deadline is handed back
             ``quiet``          worker: take no more jobs for now (``on``), or take some again
             ``dump``           anybody: say what you are doing
             ``dead``           steward: this worker is gone, why, and what is known of its end
             ``born``           steward: a worker is about to claim under this id (pid 0 until known)
             ``reload``         steward, web: new settings
             ``upgraded``       steward: the master is another rrqd now; its version
             ``embedded``       steward: the embedded server's pid, after it was replaced
             ``leave``          steward: everything is done, give the lease up and go
             ``state``          web: the master's view
             ``spawn``          mold: fork a worker (descriptors come with it)
to master    ``hello``          worker, first thing: its pid
             ``ready``          anybody
             ``bye``            worker: leaving of its own accord, and why
             ``overdue``        worker: a job ignores its deadline, kill me
             ``dump``           anybody: threads and tasks
             ``quiet``          worker: it takes no more jobs, and none is under way to it
             ``spawned``        mold: the pid; ``failed``: no fork, and why
             ``audit``          mold: what the imports left behind
             ``released``       steward: a dead worker's jobs are back
             ``backlog``        steward: how long the oldest due job of each self-scaling pool waits
             ``store``          steward: whether the store can be reached
===========  =================  ====================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import rrqd
from rrqd.boot import Message

__all__ = [
    "Message", "boot_record", "born", "dead", "drain", "dump", "embedded", "leave", "quiet", "reload", "spawn", "state",
    "upgraded",
]  # fmt: skip


def drain(deadline_seconds: float) -> Message:
    return {"type": "drain", "deadline_seconds": round(max(0.0, deadline_seconds), 3)}


def dump() -> Message:
    return {"type": "dump"}


def quiet(on: bool) -> Message:
    return {"type": "quiet", "on": on}


def leave() -> Message:
    return {"type": "leave"}


def born(worker_id: str, pool: str, slot: int, pid: int) -> Message:
    """Sent twice: with pid 0 before the fork, so that no claim can be older than the news, then with the pid."""
    return {"type": "born", "worker_id": worker_id, "pool": pool, "slot": slot, "pid": pid}


def dead(
    worker_id: str,
    reason: str,
    culprit: str | None = None,
    culprit_kind: str | None = None,
    story: Mapping[str, Any] | None = None,
) -> Message:
    """`story`: what is known of the death, to be kept with a job that is buried for it."""
    return {
        "type": "dead",
        "worker_id": worker_id,
        "reason": reason,
        "culprit": culprit,
        "culprit_kind": culprit_kind,
        "story": dict(story) if story else None,
    }


def embedded(pid: int) -> Message:
    """Whoever ends the server when the master is gone must know which process it is by now."""
    return {"type": "embedded", "pid": pid}


def reload(settings_json: str, generation: int) -> Message:
    return {"type": "reload", "settings": settings_json, "generation": generation}


def upgraded() -> Message:
    return {"type": "upgraded", "version": rrqd.__version__}


def state(view: Mapping[str, Any]) -> Message:
    return {"type": "state", **view}


def spawn(worker_id: str, pool: str, slot: int, page: int) -> Message:
    """Comes with five descriptors: control, wake, deck, dump, members."""
    return {"type": "spawn", "worker_id": worker_id, "pool": pool, "slot": slot, "page": page}


def boot_record(role: str, entry: str, **fields: Any) -> Message:
    """What an exec'd child finds in the memfd at its boot descriptor."""
    return {"role": role, "entry": entry, **fields}
