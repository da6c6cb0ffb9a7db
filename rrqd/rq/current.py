"""The job whose function runs here: ``get_current_job()``."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rrqd.rq.job import Job

#: Looked up when asked for.
_current: contextvars.ContextVar[Callable[[], Job] | None] = contextvars.ContextVar("rrqd_rq_job", default=None)


def get_current_job(connection: Any = None) -> Job | None:
    """The job whose function calls this; None outside of one. ``connection`` is taken for RQ's sake."""
    del connection
    look = _current.get()
    return look() if look is not None else None


def in_a_job() -> bool:
    """Whether a job's function calls this."""
    return _current.get() is not None


@contextlib.contextmanager
def current(look: Callable[[], Job]) -> Iterator[None]:
    """Inside, :func:`get_current_job` answers what ``look`` answers."""
    before = _current.set(look)
    try:
        yield
    finally:
        _current.reset(before)
