"""Jobs that wait for others: what a caller may write, and the order in which a batch of them is written. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from rrqd.exc import InvalidRequest
from rrqd.model import checks
from rrqd.model.job import NewJob

OPTIONS = frozenset({"depends_on", "on_parent"})
MAX_PARENTS = 1000


class OnParent(StrEnum):
    """What becomes of a job when one it waits for is buried or cancelled. HOLD: it goes on waiting, for the day the
    parent is revived and completes. CANCEL: it is cancelled. RUN: it has waited enough."""

    HOLD = "hold"
    CANCEL = "cancel"
    RUN = "run"


def read_parents(given: Mapping[str, Any]) -> tuple[tuple[str, ...], OnParent]:
    """The two options: ids without repetition, and the policy. Raises InvalidRequest."""
    asked = given.get("depends_on")
    if isinstance(asked, str):
        asked = [asked]
    if asked is not None and not isinstance(asked, Sequence):
        raise InvalidRequest(f"depends_on must be a list of job ids, not {type(asked).__name__}")
    parents = tuple(dict.fromkeys(checks.name(parent, "depends_on") for parent in asked or ()))
    if len(parents) > MAX_PARENTS:
        raise InvalidRequest(f"depends_on names {len(parents)} jobs; at most {MAX_PARENTS} are allowed")
    if parents and given.get("debounce_key") is not None:
        raise InvalidRequest("depends_on has no meaning beside debounce_key; leave one of them out")
    return parents, read_policy(given.get("on_parent"))


def read_policy(value: Any) -> OnParent:
    """``hold`` when nothing is said. Raises InvalidRequest."""
    try:
        return OnParent("hold" if value is None else value)
    except ValueError:
        words = ", ".join(repr(one.value) for one in OnParent)
        raise InvalidRequest(f"on_parent must be one of {words}, not {value!r}") from None


def parents_first(jobs: Sequence[NewJob]) -> list[int]:
    """Positions of the jobs in the order in which to write them: as given, but parents before their children.

    Raises InvalidRequest, naming the circle, when some wait for each other. Parents that are not in the batch are the
    server's business.
    """
    if not any(job.parents for job in jobs):
        return list(range(len(jobs)))
    at = {job.id: place for place, job in enumerate(jobs)}
    order: list[int] = []
    state: dict[int, bool] = {}  # False: its parents are being looked at; True: it has its place
    for start in range(len(jobs)):
        path = [start]
        while path:
            here = path[-1]
            state.setdefault(here, False)
            ahead = next((at[one] for one in jobs[here].parents if one in at and not state.get(at[one])), None)
            if ahead is None:
                path.pop()
                if not state[here]:
                    state[here] = True
                    order.append(here)
            elif ahead in state:
                circle = [jobs[place].id for place in path[path.index(ahead) :]]
                raise InvalidRequest(f"depends_on goes in a circle: {' -> '.join([*circle, circle[0]])}")
            else:
                path.append(ahead)
    return order
