"""The life of a job, as one table.

Rule 1: every state and every move is below; nothing else in rrqd decides whether a move is legal.
Rule 2: this file knows no Redis, no clock and no process.
Rule 3: a move = one row here = one store function = one Lua script = one event = one row in docs/lifecycle.md.

A state is RRQ's status word. Finer states are places: *queued* (in ``rrq:queue:``, or with a priority in
``rrqd:work:prio:`` and, until it is due, ``rrqd:work:later:``; a suspect in ``rrqd:work:alone:``), *dependent* (in
``rrqd:depends:``, until others have ended), *held* (in a worker's ``rrqd:held:`` under a token) and *buried* (in
``rrq:dlq:``).
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
    MOVE = "move"
    PRIORITISE = "prioritise"
    PURGE = "purge"
    DEPEND = "depend"
    INFORM = "inform"
    ADOPT = "adopt"


class End(StrEnum):
    """The ways ``settle`` can end a run; the value is what the script is told."""

    COMPLETE = "complete"
    ADVANCE = "advance"
    RETRY = "retry"
    BURY = "bury"
    SNOOZE = "snooze"
    CANCEL = "cancel"
    DIVERT = "divert"


P, A, C, F, R, X = (
    JobStatus.PENDING, JobStatus.ACTIVE, JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.RETRYING, JobStatus.CANCELLED,
)  # fmt: skip

#: (state, move, how) -> state. ``None`` as a state: the job does not exist, not yet or not any more.
MOVES: dict[tuple[JobStatus | None, Move, str], JobStatus | None] = {
    (None, Move.ENQUEUE, ""): P,
    (None, Move.ENQUEUE, "a parent has failed, and it was to end then"): X,
    (P, Move.CLAIM, ""): A,
    (R, Move.CLAIM, ""): A,
    (F, Move.CLAIM, "requeued by a foreign tool"): A,
    (A, Move.SETTLE, End.COMPLETE): C,
    (A, Move.SETTLE, End.ADVANCE): P,
    (A, Move.SETTLE, End.RETRY): R,
    (A, Move.SETTLE, End.SNOOZE): P,
    (A, Move.SETTLE, End.BURY): F,
    (A, Move.SETTLE, End.CANCEL): X,
    (A, Move.SETTLE, End.DIVERT): P,
    (A, Move.RELEASE, "put back"): P,
    (A, Move.RELEASE, "poison"): F,
    (A, Move.RELEASE, "cancelled meanwhile"): X,
    (P, Move.CANCEL, ""): X,
    (R, Move.CANCEL, ""): X,
    (A, Move.CANCEL, "asked; the holder settles"): A,
    (F, Move.REVIVE, ""): P,
    (P, Move.MOVE, ""): P,
    (R, Move.MOVE, ""): R,
    (F, Move.MOVE, "out of the DLQ"): P,
    (A, Move.MOVE, "taken from its worker"): P,
    (A, Move.MOVE, "somebody had cancelled it"): X,
    (P, Move.PRIORITISE, ""): P,
    (R, Move.PRIORITISE, ""): R,
    (A, Move.PRIORITISE, "noted for later"): A,
    (F, Move.PRIORITISE, "noted for later"): F,
    **{(state, Move.PURGE, ""): None for state in (P, R, C, F, X)},
    (P, Move.DEPEND, "waits for more, or fewer, others"): P,
    (R, Move.DEPEND, "waits for more, or fewer, others"): R,
    (P, Move.INFORM, "those it waited for have ended"): P,
    (R, Move.INFORM, "those it waited for have ended"): R,
    (P, Move.INFORM, "one failed, and it was to end then"): X,
    (R, Move.INFORM, "one failed, and it was to end then"): X,
    (A, Move.ADOPT, "its foreign worker is gone"): P,
    (A, Move.ADOPT, "poison"): F,
    (P, Move.ADOPT, "lost on its way back"): P,
    (R, Move.ADOPT, "lost on its way back"): R,
}


def after(state: JobStatus | None, move: Move, how: str = "") -> JobStatus | None:
    """The state that follows, or ``None`` when the table does not allow the move, or the job is gone after it."""
    return MOVES.get((state, move, how))
