"""What ran: a registry around the user's own that notes every run, and lets faults befall them."""

from __future__ import annotations

import dataclasses
import inspect
import threading
from collections.abc import Callable
from typing import Any

from rrqd.registry import Registered, Registry
from rrqd.rq.codec import encode
from rrqd.rq.reference import PREFIX, NameUnknown, allow_all, path_of
from rrqd.rq.running import DottedRegistry
from rrqd.runner import ExecutionRequest
from rrqd.testing.faults import Fault, Kill, befall


@dataclasses.dataclass(frozen=True)
class Ran:
    """One run of a handler."""

    function: str
    job_id: str
    attempt: int
    params: dict[str, Any]


def name_of(what: Any) -> str:
    """The function name in a job, without the sign between module and function: for comparing."""
    if isinstance(what, str):
        return what.removeprefix(PREFIX).replace(":", ".")
    of_django = getattr(what, "module_path", None)
    if isinstance(of_django, str):
        return f"django:{of_django}".replace(":", ".")
    named = getattr(what, "name", None)
    if isinstance(named, str):
        return named  # a task
    try:
        return path_of(what).replace(":", ".")
    except NameUnknown:
        return str(getattr(what, "__name__", what))


def fits(params: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a job's parameters have these values; what is not asked about may be anything."""
    if "args" in params or "kwargs" in params or "rq" in params:
        there, named = params.get("args", []), params.get("kwargs", {})
    else:
        there, named = [], params
    return (
        len(args) <= len(there)
        and all(_plain(wanted) == value for wanted, value in zip(args, there, strict=False))
        and all(name in named and _plain(wanted) == named[name] for name, wanted in kwargs.items())
    )


def _plain(wanted: Any) -> Any:
    """As it is written in a job. A wildcard (``ANY``) is left as it is."""
    try:
        return encode(wanted)
    except TypeError:
        return wanted


class Recorder(DottedRegistry):
    """Finds handlers by the user's registry and by dotted names. ``most``: a run beyond so many is refused."""

    def __init__(self, own: Registry, place: Any, kill: Kill, fault: Fault | None, most: int) -> None:
        super().__init__(allow_all, own_script=True, place=place)
        self.ran_jobs: list[Ran] = []
        self.overrun = threading.Event()
        self._own = own
        self._kill = kill
        self._fault = fault
        self._most = most
        self._befallen: set[str] = set()
        self.on_overrun: Callable[[], None] = lambda: None

    def get(self, name: str) -> Registered | None:
        entry = self._own.get(name) or super().get(name)
        if entry is None:
            return None
        handler = entry.handler

        def run(request: ExecutionRequest) -> Any:
            return self._run(handler, request)

        async def run_async(request: ExecutionRequest) -> Any:
            answer = self._run(handler, request)
            return await answer if inspect.isawaitable(answer) else answer

        chosen: Callable[..., Any] = run_async if entry.is_async else run
        return dataclasses.replace(entry, handler=chosen)

    def _run(self, handler: Callable[..., Any], request: ExecutionRequest) -> Any:
        name = name_of(request.function_name)
        self.ran_jobs.append(Ran(name, request.job_id, request.context.attempt, request.params))
        if len(self.ran_jobs) >= self._most:
            self.overrun.set()
            self.on_overrun()
        if self._fault is None or request.job_id in self._befallen:
            return handler(request)
        self._befallen.add(request.job_id)
        return befall(self._fault, request, handler, self._kill)
