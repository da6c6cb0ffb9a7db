"""The table of children: who is there, and who should be.

Rules of this file:

* No I/O, no clock, no chance: moments (`now`, monotonic seconds) and dice (`chance`, 0 to 1) are arguments.
* A child is a row until its exit has been collected. Rows know no descriptors; the master keeps those.
* `Plan` (in `plans`) is what should be, `State` is what is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count

from rrqd.supervisor.backoff import BACKOFF_CEILING_SECONDS, BACKOFF_READY_CEILING_SECONDS, BUCKET_TOKENS, Backoff
from rrqd.supervisor.plans import Plan

PROVEN_SECONDS = 60.0
"""A process that was ready this long was no boot failure, whatever happened then."""
LOST_AT_STOP_SECONDS = 1.0
"""A stop has a time within which it is over."""
LOST_AFTER_SECONDS = 5.0
"""SIGKILL normally takes milliseconds. After this a process is stuck in the kernel and nobody waits for it."""


class Kind(StrEnum):
    SERVER = "valkey"
    STEWARD = "steward"
    WEB = "web"
    MOLD = "mold"
    WORKER = "worker"


class Phase(StrEnum):
    STARTING = "starting"
    READY = "ready"
    LEAVING = "leaving"
    """Asked to leave: a worker drains, others close up."""
    KILLING = "killing"
    """SIGKILL is on its way."""


class Mode(StrEnum):
    RUN = "run"
    STOP = "stop"


class Cause(StrEnum):
    """Why a process ended. A closed list: metrics and decisions depend on it."""

    PLANNED = "planned"
    CRASH_EXIT = "crash-exit"
    CRASH_SIGNAL = "crash-signal"
    OOM = "oom"
    HANG = "hang"
    OVERDUE = "overdue"
    BOOT_ERROR = "boot-error"
    BOOT_CONFIG = "boot-config"
    LOST_LEASE = "lost-lease"
    KILLED_BY_OPERATOR = "killed-by-operator"
    LOST = "lost"
    """SIGKILL did not end it: stuck in the kernel. Its slot is filled again; its real end is counted, too."""


@dataclass(frozen=True, slots=True)
class ExitReason:
    """A cause, with the exit code or signal number where it has one. ``str()`` gives ``crash-signal 9``."""

    cause: Cause
    number: int | None = None

    def __str__(self) -> str:
        return self.cause.value if self.number is None else f"{self.cause.value} {self.number}"

    @property
    def planned(self) -> bool:
        """True when nobody has to be worried, and the replacement need not be delayed."""
        return self.cause in (Cause.PLANNED, Cause.KILLED_BY_OPERATOR)


_serial = count(1)


def start_serials_after(key: int) -> None:
    """Rows that came from elsewhere have keys up to this one."""
    global _serial
    _serial = count(key + 1)


@dataclass(eq=False, slots=True)
class Child:
    """One process, from the wish to have it until its exit is collected."""

    kind: Kind
    name: str
    """Pool of a worker, name of a mold; the kind itself for the others."""
    slot: int = 0
    generation: int = 0
    started_at: float = 0.0
    key: int = field(default_factory=lambda: next(_serial))
    pid: int | None = None
    """Unknown for a moment after a mold was asked to fork."""
    phase: Phase = Phase.STARTING
    ready_at: float | None = None
    spoke: bool = False
    """Has said anything at all."""
    leave_by: float = math.inf
    killed_at: float | None = None
    lost_after_seconds: float = LOST_AFTER_SECONDS
    kill_reason: ExitReason | None = None
    culprit: str | None = None
    culprit_kind: str | None = None
    bye: str | None = None
    """What it said when it left of its own accord."""
    worker_id: str = ""
    page: int = -1
    jobs_done_before: int = 0
    """The page's counter when this process moved in; the page is older than the process."""
    # what the flight page said at the last look
    beat_at: float = 0.0
    thread_beat_at: float = 0.0
    suspect_job: str = ""
    suspect_deadline: float = 0.0
    """Monotonic seconds; 0 when the suspect has no time limit, or there is none."""
    stopped: bool = False
    """Frozen by somebody (SIGSTOP, a debugger): not a hang."""
    starved: bool = False
    """Silent, and most of that time it wanted to run and got no processor: the machine is overloaded."""
    waited_before: float = 0.0
    """What it had waited for a processor, in seconds, when it was last heard."""
    thawed_at: float = 0.0
    """When it was last seen to run again after having been frozen: it needs a moment before it can beat."""
    last_stack: str = ""
    """Where it stood when it was last suspected; empty once it has recovered."""
    reported: bool = False
    """The operator has been told of the present silence."""
    overdue: str | None = None
    """Job for whose sake the worker itself asked to be killed."""
    quiet: bool = False
    """Has been told to take no more jobs for now."""
    hushed: bool = False
    """Has answered that, and none is under way to it."""
    worn: str = ""
    """Why it is to be replaced by a fresh one; empty while it is not."""
    jobs_limit: float = math.inf
    age_limit: float = math.inf
    """After so many jobs, and so many seconds, it is worn. Drawn at its birth."""
    bursting: bool = False
    """Has more memory of its own than anything allows: to be killed at once."""
    private_bytes: int = 0
    """Its private memory at the last look."""
    memory_trail: list[tuple[float, int]] = field(default_factory=list)
    """(seconds since its start, private bytes), the newest last; a few dozen at most."""
    told_lost: bool = False
    """The operator has been told that SIGKILL did not end it."""
    jobs_credited: int = 0
    """Of the jobs it has done, those that its pool's bucket has had its tokens for."""

    @property
    def label(self) -> str:
        """Whose failures count together: all workers of a pool, all processes of a role."""
        return f"{self.kind}:{self.name}" if self.kind in (Kind.WORKER, Kind.MOLD) else self.kind.value

    @property
    def title(self) -> str:
        """The same words in `ps`, in the log and on the dashboard."""
        if self.kind is Kind.WORKER:
            return f"worker {self.name}/{self.slot} g{self.generation}"
        if self.kind is Kind.MOLD:
            return f"mold {self.name} g{self.generation}"
        return self.kind.value

    @property
    def serving(self) -> bool:
        """There to stay: it works, or will soon."""
        return self.phase in (Phase.STARTING, Phase.READY)

    def silent_seconds(self, now: float, trust_after: float) -> float:
        """How long its loop has been silent, as far as that can be held against it."""
        return now - max(self.beat_at, self.thawed_at, trust_after)

    def lost(self, now: float) -> bool:
        """Killed, and still not gone: stuck in the kernel."""
        return self.killed_at is not None and now - self.killed_at > self.lost_after_seconds


@dataclass(slots=True)
class State:
    """All that the master knows and wants."""

    plan: Plan
    server_wanted: bool = False
    web_wanted: bool = False
    mode: Mode = Mode.RUN
    stop_began: float = 0.0
    stop_deadline: float = math.inf
    stop_step: int = 0
    """0: drain until the deadline, 1: hand back at once, 2: kill."""
    exit_code: int = 0
    candidate: Plan | None = None
    candidate_since: float = 0.0
    candidate_error: str = ""
    children: dict[int, Child] = field(default_factory=dict)
    backoffs: dict[str, Backoff] = field(default_factory=dict)
    ever_ready: set[str] = field(default_factory=set)
    paused: set[str] = field(default_factory=set)
    """Pools that take no jobs for now, by the operator's wish."""
    quiet: bool = False
    """The whole node takes none."""
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Pool -> (size in the file, size asked for since). A reload that brings another size forgets the wish."""
    trust_after: float = 0.0
    """When the master last woke from a pause of its own: silence before that proves nothing."""
    exits: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(label, cause) -> how often, since start."""

    # -- looking ---------------------------------------------------------------------------------------

    def of(self, kind: Kind, now: float) -> list[Child]:
        """The living of one kind, without those lost in the kernel."""
        return [child for child in self.children.values() if child.kind is kind and not child.lost(now)]

    def workers(self) -> Iterator[Child]:
        return (child for child in self.children.values() if child.kind is Kind.WORKER)

    def mold(self, name: str, generation: int) -> Child | None:
        """The mold of that name and generation, if it is there to stay."""
        for child in self.children.values():
            if child.kind is Kind.MOLD and (child.name, child.generation) == (name, generation) and child.serving:
                return child
        return None

    def service(self, kind: Kind) -> Child | None:
        """The one process of a kind that has only one, if it is there to stay."""
        return next((one for one in self.children.values() if one.kind is kind and one.serving), None)

    def backoff(self, label: str) -> Backoff:
        if label not in self.backoffs:
            kind, _, name = label.partition(":")
            pool = self.plan.pools.get(name) if kind == Kind.WORKER else None
            size = BUCKET_TOKENS * (pool.processes if pool else 1)
            self.backoffs[label] = Backoff(size=size, tokens=size)
        return self.backoffs[label]

    def open_again(self, label: str, now: float) -> bool:
        """Its pause is over."""
        return label not in self.backoffs or self.backoffs[label].not_before <= now

    def probing(self, label: str) -> bool:
        """It has failed so often that one process at a time is tried."""
        return label in self.backoffs and self.backoffs[label].probing

    def is_paused(self, pool: str) -> bool:
        return self.quiet or pool in self.paused

    def pool_ready(self, pool: str) -> int:
        """Workers of a pool that take jobs now."""
        return sum(one.name == pool and one.phase is Phase.READY for one in self.workers())

    @property
    def settled(self) -> bool:
        """Everything that should be there is there, in the current generation."""
        if self.mode is not Mode.RUN or self.candidate is not None:
            return False
        now_ready = Counter(
            one.name
            for one in self.workers()
            if one.phase is Phase.READY
            and (pool := self.plan.pools.get(one.name)) is not None
            and one.generation == pool.generation
        )
        return all(now_ready[pool.name] >= pool.processes for pool in self.plan.pools.values()) and all(
            (service := self.service(kind)) is not None and service.phase is Phase.READY
            for kind, wanted in (
                (Kind.SERVER, self.server_wanted),
                (Kind.STEWARD, True),
                (Kind.WEB, self.web_wanted),
            )
            if wanted
        )

    # -- changing --------------------------------------------------------------------------------------

    def add(self, child: Child) -> Child:
        self.children[child.key] = child
        return child

    def ready(self, child: Child, now: float) -> None:
        """A child says it is ready. One that was asked to leave meanwhile goes on leaving."""
        child.ready_at = now
        if child.phase is Phase.STARTING:
            child.phase = Phase.READY
        self.ever_ready.add(child.label)
        backoff = self.backoff(child.label)
        backoff.boot_failures = 0
        backoff.config_error = ""

    def worked(self, child: Child, jobs: int, now: float) -> None:
        """A worker has finished so many jobs in its life."""
        self.backoff(child.label).refill(now, jobs - child.jobs_credited)
        child.jobs_credited = jobs

    def newly_lost(self, now: float) -> list[Child]:
        """Those whom SIGKILL did not end, each told once; its slot is filled again."""
        found = [child for child in self.children.values() if child.lost(now) and not child.told_lost]
        for child in found:
            child.told_lost = True
            self.exits[child.label, Cause.LOST.value] += 1
        return found

    def died(
        self, child: Child, reason: ExitReason, now: float, chance: float, detail: str = "", jobs: int = 0
    ) -> None:
        """A child's exit was collected. `jobs`: how many it had finished in its life."""
        self.children.pop(child.key, None)
        self.exits[child.label, reason.cause.value] += 1
        if self.candidate and child.kind is Kind.MOLD and child.generation == self.candidate.generation:
            self.candidate_error = self.candidate_error or detail or f"mold {child.name}: {reason}"
            return
        if reason.planned or child.phase is Phase.LEAVING:
            return
        backoff = self.backoff(child.label)
        backoff.last_error = detail or str(reason)
        self.worked(child, jobs, now)
        proven = child.ready_at is not None and (jobs > 0 or now - child.ready_at >= PROVEN_SECONDS)
        if proven:
            backoff.failures = 0
        was_ready = child.ready_at is not None
        backoff.failed(now, chance, BACKOFF_READY_CEILING_SECONDS if was_ready else BACKOFF_CEILING_SECONDS)
        if child.ready_at is None:
            backoff.boot_failures += 1
            if reason.cause is Cause.BOOT_CONFIG:
                backoff.config_error = detail or str(reason)

    def stop(self, now: float, code: int = 0) -> None:
        """The wish to stop; repeated, it becomes more urgent (drain, hand back, kill)."""
        if self.mode is Mode.STOP:
            self.stop_step = min(self.stop_step + 1, 2)
            return
        self.mode = Mode.STOP
        self.exit_code = code
        self.stop_began = now
        self.stop_deadline = now + self.plan.limits.drain_seconds

    def propose(self, plan: Plan, now: float) -> None:
        """A reload: this plan is to become the current one, if its molds come up. They don't wait for what failed
        before it."""
        self.candidate = plan
        self.candidate_since = now
        self.candidate_error = ""
        for name, _generation in plan.molds:
            self.backoff(f"{Kind.MOLD}:{name}").not_before = now


def exit_reason(child: Child, code: int | None, signal_number: int | None, stopping: bool) -> ExitReason:
    """Why a process ended, from what we did, what it said, and how the kernel says it went."""
    if child.kill_reason is not None and signal_number is not None:
        return child.kill_reason
    bye = child.bye or ""
    if bye.startswith("boot-config") or (code == 78 and child.ready_at is None):
        return ExitReason(Cause.BOOT_CONFIG)
    if bye == "lease-lost":
        return ExitReason(Cause.LOST_LEASE)
    asked = child.phase is not Phase.READY or stopping
    if code == 0 and bye == "drained" and not asked:
        return ExitReason(Cause.KILLED_BY_OPERATOR)
    if code == 0 and (bye or child.phase is Phase.LEAVING):
        return ExitReason(Cause.PLANNED)
    if child.phase is Phase.LEAVING and child.kind is not Kind.WORKER:
        return ExitReason(Cause.PLANNED)
    if child.ready_at is None:
        return ExitReason(Cause.BOOT_ERROR, code if signal_number is None else -signal_number)
    if signal_number is not None:
        return ExitReason(Cause.CRASH_SIGNAL, signal_number)
    return ExitReason(Cause.CRASH_EXIT, code)
