"""The life of a job, as one table.

Rule 1: every state and every move is below; nothing else in rrqd decides whether a move is legal.
Rule 2: this file knows no Redis, no clock and no process.
Rule 3: a move = one row here = one store function = one Lua script = one event = one row in docs/lifecycle.md.

A state is RRQ's status word. Finer states are places: *queued* (in ``rrq:queue:``), *held* (in a worker's
``rrqd:held:`` under a token) and *buried* (in ``rrq:dlq:``).
"""

from __future__ import annotations

from enum import StrEnum

from rrqd.job import JobStatus


class Move(StrEnum):
    """What can happen to a job. The value is the name of the Lua script that does it."""

    ENQUEUE = "enqueue"
    CLAIM = "claim"
    SETTLE = "settle"
    RELEASE = "release"
    CANCEL = "cancel"
    REVIVE = "revive"


class End(StrEnum):
    """The ways ``settle`` can end a run; the value is what the script is told."""

    COMPLETE = "complete"
    RETRY = "retry"
    BURY = "bury"
    SNOOZE = "snooze"
    CANCEL = "cancel"


P, A, C, F, R, X = (
    JobStatus.PENDING, JobStatus.ACTIVE, JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.RETRYING, JobStatus.CANCELLED,
)  # fmt: skip

#: (state, move, how) -> state. ``None`` as a state: the job does not exist yet.
MOVES: dict[tuple[JobStatus | None, Move, str], JobStatus] = {
    (None, Move.ENQUEUE, ""): P,
    (P, Move.CLAIM, ""): A,
    (R, Move.CLAIM, ""): A,
    (F, Move.CLAIM, "requeued by a foreign tool"): A,
    (A, Move.SETTLE, End.COMPLETE): C,
    (A, Move.SETTLE, End.RETRY): R,
    (A, Move.SETTLE, End.SNOOZE): P,
    (A, Move.SETTLE, End.BURY): F,
    (A, Move.SETTLE, End.CANCEL): X,
    (A, Move.RELEASE, "put back"): P,
    (A, Move.RELEASE, "poison"): F,
    (A, Move.RELEASE, "cancelled meanwhile"): X,
    (P, Move.CANCEL, ""): X,
    (R, Move.CANCEL, ""): X,
    (A, Move.CANCEL, "asked; the holder settles"): A,
    (F, Move.REVIVE, ""): P,
}


def after(state: JobStatus | None, move: Move, how: str = "") -> JobStatus | None:
    """The state that follows, or ``None`` when the table does not allow the move."""
    return MOVES.get((state, move, how))
