"""The next step of a job that goes on instead of ending: what a handler may ask for, checked. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from rrqd.exc import InvalidRequest
from rrqd.model import checks
from rrqd.model.family import read_parents
from rrqd.model.job import short_queue_name
from rrqd.runner import NextStep


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """Where the job goes on. ``None`` (and no parents): as it was. ``priority`` 0 takes it away."""

    queue: str | None = None
    function: str | None = None
    params: bytes | None = None
    delay_ms: int = 0
    parents: tuple[str, ...] = ()
    on_parent: str = "hold"
    priority: int | float | None = None


def read_step(asked: NextStep, max_bytes: int) -> Step:
    """The step a handler asked for. Raises InvalidRequest, which names the argument."""
    parents, on_parent = read_parents({"depends_on": asked.depends_on, "on_parent": asked.on_parent})
    return Step(
        queue=None if asked.queue is None else short_queue_name(checks.name(asked.queue, "queue")),
        function=None if asked.function is None else checks.name(asked.function, "function"),
        params=None if asked.params is None else _params(asked.params, max_bytes),
        delay_ms=round(checks.seconds(asked.delay_seconds, "delay_seconds") * 1000),
        parents=parents,
        on_parent=on_parent,
        priority=None if asked.priority is None else checks.priority(asked.priority) or 0,
    )


def _params(params: Any, max_bytes: int) -> bytes:
    if not isinstance(params, Mapping):
        raise InvalidRequest(f"params must be a mapping of names to values, not {type(params).__name__}")
    return checks.params_text(params, max_bytes, "max_result_bytes")
