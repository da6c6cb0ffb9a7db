"""Every key name, once, and what lies under it. The Lua prelude builds the same names from the same namespace.

RRQ's keys (``rrq:…``) keep RRQ's types exactly; ours (``rrqd:…``) match none of the patterns its tools scan.
"""

from __future__ import annotations

JOB = "rrq:job:"
QUEUE = "rrq:queue:"
DLQ = "rrq:dlq:"
EVENTS = "rrq:events:job:"
HEALTH = "rrq:health:worker:"
ACTIVE = "rrq:active:jobs:"
#: A touch of what lies under it may mean work for somebody. All under one name: each prefix that is listened to costs
#: the server a comparison at every write.
WORK = "rrqd:work:"
PRIO = f"{WORK}prio:"
FAIR = f"{WORK}fair:"
LATER = f"{WORK}later:"
ALONE = f"{WORK}alone:"
DEPENDS = "rrqd:depends:"
PARENTS = "rrqd:parents:"
CHILDREN = "rrqd:children:"
HEIRS = "rrqd:heirs:"
HELD = "rrqd:held:"
WORKER = "rrqd:worker:"
NODE = "rrqd:node:"
CRON = "rrqd:cron:"
TAG = "rrqd:tag:"


#: What ``rrqd_place`` may say: the kind of key in which a job waits, when that is not RRQ's zset.
PLACES = frozenset({"prio", "fair", "later", "alone", "depends", "parked"})
#: How a member of ``rrqd:work:prio:`` begins: its due time in µs, so many digits, and a space.
DUE_DIGITS = 20


class Keys:
    """Names under one namespace (``""`` is where the real RRQ clients are)."""

    def __init__(self, namespace: str = "") -> None:
        self.namespace = namespace
        self.token = f"{namespace}rrqd:token"
        self.nodes = f"{namespace}rrqd:nodes"
        self.seen = f"{namespace}rrqd:seen"
        self.queues = f"{namespace}rrqd:queues"
        self.dlqs = f"{namespace}rrqd:dlqs"
        self.aside = f"{namespace}rrqd:aside"
        self.mark = f"{namespace}rrqd:mark"
        self.work = f"{namespace}{WORK}"
        self.paused = f"{self.work}paused"
        self.foreign = f"{namespace}rrqd:foreign"
        self.recurring = f"{namespace}rrqd:recurring"
        self.weights = f"{namespace}rrqd:weights"
        self.throttles = f"{namespace}rrqd:throttles"
        self.throttled = f"{namespace}rrqd:throttled"
        self.tags = f"{namespace}rrqd:tags"
        self.tracked = f"{namespace}rrqd:tracked"
        self.config = f"{namespace}rrqd:config"
        self.groups = f"{namespace}rrqd:groups"
        self.lists = f"{namespace}rrqd:lists"
        self.job_events = f"{namespace}rrqd:events"
        self.facts = f"{namespace}rrqd:facts"
        self.audit = f"{namespace}rrqd:audit"
        self.deploys = f"{namespace}rrqd:deploys"
        self.functions = f"{namespace}rrqd:functions"

    def job(self, job_id: str) -> str:
        """Hash: RRQ's fields and our ``rrqd_`` ones."""
        return f"{self.namespace}{JOB}{job_id}"

    def queue(self, name: str) -> str:
        """Zset: job id -> due time in epoch ms, with the µs as a fraction."""
        return f"{self.namespace}{QUEUE}{name}"

    def prio(self, name: str) -> str:
        """Zset: "<due, µs> <job id>" -> negated priority: due jobs that have one."""
        return f"{self.namespace}{PRIO}{name}"

    def fair(self, name: str) -> str:
        """Zset: "<due, µs> <job id>" -> virtual time: due jobs of tenants."""
        return f"{self.namespace}{FAIR}{name}"

    def turns(self, name: str) -> str:
        """Zset: tenant -> virtual time of its next job, while that is ahead of the queue's."""
        return f"{self.namespace}rrqd:turns:{name}"

    def later(self, name: str) -> str:
        """Zset: job id -> due time in epoch ms: jobs with a priority that are not due yet."""
        return f"{self.namespace}{LATER}{name}"

    def alone(self, name: str) -> str:
        """Zset of due suspects, which run alone, ordered as ``prio`` is."""
        return f"{self.namespace}{ALONE}{name}"

    def depends(self, name: str) -> str:
        """Zset: job id -> due time in epoch ms: jobs that wait for others."""
        return f"{self.namespace}{DEPENDS}{name}"

    def parents(self, job_id: str) -> str:
        """Set: ids of the jobs that this one still waits for."""
        return f"{self.namespace}{PARENTS}{job_id}"

    def children(self, job_id: str) -> str:
        """Zset: ids of jobs that wait for this one to complete, by due time."""
        return f"{self.namespace}{CHILDREN}{job_id}"

    def heirs(self, job_id: str) -> str:
        """Zset: ids of jobs that wait for this one to end, by due time."""
        return f"{self.namespace}{HEIRS}{job_id}"

    def lock(self, job_id: str) -> str:
        """String: the real RRQ worker that has locked the job."""
        return f"{self.namespace}rrq:lock:job:{job_id}"

    def dlq(self, name: str) -> str:
        """List: ids of buried jobs, newest first."""
        return f"{self.namespace}{DLQ}{name}"

    def events(self, job_id: str) -> str:
        """Stream: one entry for each end of the job."""
        return f"{self.namespace}{EVENTS}{job_id}"

    def health(self, worker_id: str) -> str:
        """String: RRQ's six-field JSON, with a time to live."""
        return f"{self.namespace}{HEALTH}{worker_id}"

    def active(self, worker_id: str) -> str:
        """Zset of a real RRQ worker: ids of the jobs it runs -> since when, in epoch seconds. We never write one."""
        return f"{self.namespace}{ACTIVE}{worker_id}"

    def held(self, worker_id: str) -> str:
        """Hash: job id -> "token score turn"."""
        return f"{self.namespace}{HELD}{worker_id}"

    def worker(self, worker_id: str) -> str:
        """Hash: node, opened_ms, turn of the last claim that got jobs, cancels (JSON ids), told (turn, JSON ids),
        paused (JSON object, its keys the paused queues; absent when there is none)."""
        return f"{self.namespace}{WORKER}{worker_id}"

    def cron(self, name: str) -> str:
        """Hash: last tick (epoch s), job, by, fired_ms, version of the schedule, paused; fired, missed, overlapped."""
        return f"{self.namespace}{CRON}{name}"

    def node(self, node_id: str) -> str:
        """Set: ids of the node's open workers."""
        return f"{self.namespace}{NODE}{node_id}"

    def tag(self, tag: str) -> str:
        """Zset: job id -> µs when it was tagged. A hint: whether a job has the tag is what its hash says."""
        return f"{self.namespace}{TAG}{tag}"

    def group(self, group: str) -> str:
        """Zset: id of a job that failed in this group -> µs when it did. A hint, as ``tag`` is."""
        return f"{self.namespace}rrqd:group:{group}"

    def done(self, queue: str) -> str:
        """Zset: id of a completed job -> µs when, of a queue of which only so many are kept."""
        return f"{self.namespace}rrqd:done:{queue}"

    def template(self, template_id: str) -> str:
        """Hash: function, options (JSON), interval_ms, next_ms, backlog, unique, count of a recurring job."""
        return f"{self.namespace}rrqd:recurring:{template_id}"

    def throttle(self, name: str) -> str:
        """Hash: limit, and until when it holds (epoch ms) if it does not for ever."""
        return f"{self.namespace}rrqd:throttle:{name}"

    def holders(self, throttle: str) -> str:
        """Hash: id of a running job -> its token."""
        return f"{self.namespace}rrqd:holders:{throttle}"

    def parked(self, throttle: str) -> str:
        """Zset of jobs that wait for a throttle, ordered as ``prio`` is."""
        return f"{self.namespace}rrqd:parked:{throttle}"

    def poke(self, queue: str) -> str:
        """String that is touched to wake the idle workers of a queue; nothing is kept in it."""
        return f"{self.work}poke:{queue}"

    def figures(self, day: str, queue: str) -> str:
        """Hash: a queue's counts, spreads and buckets of one day, ``2026-01-31``."""
        return f"{self.namespace}rrqd:figures:{day}:{queue}"

    def handled(self, day: str, function: str) -> str:
        """Hash: the same of a function, over all queues."""
        return f"{self.namespace}rrqd:handled:{day}:{function}"

    def series(self, letter: str, queue: str | None) -> str:
        """Hash: slot of a ring -> msgpack of its period, counts and latencies. Without a queue: of all of them."""
        return f"{self.namespace}rrqd:series:{letter}" + (f":{queue}" if queue is not None else "")

    def job_log(self, job_id: str) -> str:
        """List: lines that handlers wrote, JSON, oldest first."""
        return f"{self.namespace}rrqd:log:{job_id}"

    def channel(self, worker_id: str) -> str:
        """Pub/sub: what a worker is told at once (``cancel <job id>``)."""
        return f"{self.namespace}rrqd:to:{worker_id}"
