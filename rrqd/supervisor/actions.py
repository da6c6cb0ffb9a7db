"""What the master can do: the answers of `decisions`, carried out by `acts`."""

from __future__ import annotations

from dataclasses import dataclass

from rrqd.supervisor.children import Child, ExitReason, Kind
from rrqd.supervisor.plans import Plan


@dataclass(frozen=True, slots=True)
class Start:
    kind: Kind
    name: str
    slot: int
    generation: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Tell a worker to take no more, and to be gone by then."""

    child: Child
    seconds: float


@dataclass(frozen=True, slots=True)
class Leave:
    """Tell any other child to go."""

    child: Child
    seconds: float


@dataclass(frozen=True, slots=True)
class Kill:
    child: Child
    reason: ExitReason
    culprit: str | None = None
    culprit_kind: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Tell the operator that this worker's loop is silent, and where it stands."""

    child: Child


@dataclass(frozen=True, slots=True)
class Quiet:
    """Tell a worker to take no more jobs for now, or to take some again."""

    child: Child
    quiet: bool


@dataclass(frozen=True, slots=True)
class Adopt:
    """The candidate's molds are ready: it becomes the current generation."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class Abandon:
    """The candidate failed: the current generation stays."""

    plan: Plan
    why: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Nothing to be gained by staying: stop, with this exit code."""

    code: int
    why: str


@dataclass(frozen=True, slots=True)
class Exit:
    """Everybody is gone."""

    code: int


Action = Start | Drain | Leave | Kill | Report | Quiet | Adopt | Abandon | Stop | Exit
