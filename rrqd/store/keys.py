"""Every key name, once, and what lies under it. The Lua prelude builds the same names from the same namespace.

RRQ's keys (``rrq:…``) keep RRQ's types exactly; ours (``rrqd:…``) match none of the patterns its tools scan.
"""

from __future__ import annotations

JOB = "rrq:job:"
QUEUE = "rrq:queue:"
DLQ = "rrq:dlq:"
EVENTS = "rrq:events:job:"
HEALTH = "rrq:health:worker:"
HELD = "rrqd:held:"
WORKER = "rrqd:worker:"
NODE = "rrqd:node:"


class Keys:
    """Names under one namespace (``""`` is where the real RRQ clients are)."""

    def __init__(self, namespace: str = "") -> None:
        self.namespace = namespace
        self.token = f"{namespace}rrqd:token"
        self.nodes = f"{namespace}rrqd:nodes"
        self.queues = f"{namespace}rrqd:queues"
        self.dlqs = f"{namespace}rrqd:dlqs"
        self.aside = f"{namespace}rrqd:aside"

    def job(self, job_id: str) -> str:
        """Hash: RRQ's fields and our ``rrqd_`` ones."""
        return f"{self.namespace}{JOB}{job_id}"

    def queue(self, name: str) -> str:
        """Zset: job id -> due time in epoch ms, with the µs as a fraction."""
        return f"{self.namespace}{QUEUE}{name}"

    def dlq(self, name: str) -> str:
        """List: ids of buried jobs, newest first."""
        return f"{self.namespace}{DLQ}{name}"

    def events(self, job_id: str) -> str:
        """Stream: one entry for each end of the job."""
        return f"{self.namespace}{EVENTS}{job_id}"

    def health(self, worker_id: str) -> str:
        """String: RRQ's six-field JSON, with a time to live."""
        return f"{self.namespace}{HEALTH}{worker_id}"

    def held(self, worker_id: str) -> str:
        """Hash: job id -> "token score turn"."""
        return f"{self.namespace}{HELD}{worker_id}"

    def worker(self, worker_id: str) -> str:
        """Hash: node, opened_ms, turn of the last claim that got jobs, cancels (JSON ids), told (turn, JSON ids)."""
        return f"{self.namespace}{WORKER}{worker_id}"

    def node(self, node_id: str) -> str:
        """Set: ids of the node's open workers."""
        return f"{self.namespace}{NODE}{node_id}"

    def channel(self, worker_id: str) -> str:
        """Pub/sub: what a worker is told at once (``cancel <job id>``)."""
        return f"{self.namespace}rrqd:to:{worker_id}"
