"""The master's view of the house, as plain data: for the web process, and for whoever asks.

Pure: rows in, dictionary out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from rrqd.supervisor.children import Child, Kind, Phase, State


@dataclass(slots=True)
class Facts:
    """What the view tells besides the table."""

    node_id: str
    started_ms: int = 0
    ready_once: bool = False
    last_reload: dict[str, Any] = field(default_factory=lambda: {"ok": True, "message": "", "at_ms": 0})
    store: dict[str, Any] = field(default_factory=lambda: {"ok": None, "message": "not asked yet"})
    embedded_address: str = ""
    http: str = ""
    strangers: int = 0
    """Exits of processes that were not ours but were left to us."""
    pauses: int = 0
    """Times the master itself was held up."""


def view(state: State, facts: Facts, now: float, wall_ms: int) -> dict[str, Any]:
    """Everything the dashboard, the health pages and the metrics need to know of processes."""
    restarts: Counter[str] = Counter()
    for (label, cause), times in state.exits.items():
        if label.startswith(f"{Kind.WORKER}:"):
            restarts[cause] += times
    return {
        "node_id": facts.node_id,
        "time_ms": wall_ms,
        "started_ms": facts.started_ms,
        "mode": state.mode.value,
        "generation": state.plan.generation,
        "ready": state.settled,
        "ready_once": facts.ready_once,
        "http": facts.http,
        "embedded": facts.embedded_address,
        "pools": {name: _pool(state, name, now) for name in state.plan.pools},
        "processes": [_process(one, now) for one in state.children.values() if one.kind is not Kind.WORKER],
        "reload": {**facts.last_reload, "running": state.candidate is not None},
        "restarts": dict(restarts),
        "exits": [
            {"who": label, "cause": cause, "count": times} for (label, cause), times in sorted(state.exits.items())
        ],
        "store": facts.store,
        "strangers": facts.strangers,
        "pauses": facts.pauses,
    }


def _pool(state: State, name: str, now: float) -> dict[str, Any]:
    pool = state.plan.pools[name]
    backoff = state.backoff(f"{Kind.WORKER}:{name}")
    mold = state.backoff(f"{Kind.MOLD}:{pool.mold}")
    return {
        "generation": pool.generation,
        "processes": pool.processes,
        "ready": state.pool_ready(name),
        "queues": list(pool.queues),
        "mold": pool.mold,
        "failures": backoff.failures,
        "degraded": backoff.degraded,
        "paused": state.is_paused(name),
        "last_error": backoff.last_error or mold.last_error,
        "slots": [
            {
                **_process(one, now),
                "slot": one.slot,
                "worker_id": one.worker_id,
                "page": one.page,
                "silent": one.reported,
                "quiet": one.hushed,
                "worn": one.worn or None,
                "private_bytes": one.private_bytes or None,
                "suspect": one.suspect_job or None,
            }
            for one in sorted(state.workers(), key=lambda one: (one.slot, one.key))
            if one.name == name
        ],
    }


def _process(child: Child, now: float) -> dict[str, Any]:
    return {
        "kind": child.kind.value,
        "name": child.name,
        "title": child.title,
        "pid": child.pid,
        "generation": child.generation,
        "phase": child.phase.value,
        "age_seconds": round(now - child.started_at, 1),
        "ready_seconds": None if child.ready_at is None else round(child.ready_at - child.started_at, 3),
    }


def status_line(state: State, jobs: int = 0) -> str:
    """One line for `systemctl status`. `jobs`: how many are still being waited for."""
    pools = ", ".join(f"{name} {state.pool_ready(name)}/{pool.processes}" for name, pool in state.plan.pools.items())
    busy = sum(one.phase is Phase.LEAVING for one in state.workers())
    tail = (f", {busy} draining" if busy else "") + (f"; jobs running: {jobs}" if jobs else "")
    word = {"run": "running" if state.settled else "starting", "stop": "stopping"}[state.mode.value]
    return f"{word}; generation {state.plan.generation}; {pools or 'no pools'}{tail}"
