"""What our own runner does for a handler: sandbox, logger, the news that the run is to end.

The runner protocol has no word for progress: what a handler says of it is dropped here.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from rrqd.bridge.protocol import Request
from rrqd.runner import StopSign


class RunAid(StopSign):
    """The runner's side of one request. Used from the loop, or from the one thread that runs the handler."""

    __slots__ = ("_limit", "_path", "_request")

    def __init__(self, request: Request, limit: Callable[[Request, float], None]) -> None:
        super().__init__()
        self._request = request
        self._limit = limit
        self._path: Path | None = None

    def limit(self, seconds: float) -> None:
        """End the run so many seconds from now, unless its own deadline comes first."""
        self._limit(self._request, seconds)

    def sandbox(self) -> Path:
        """A folder of the run's own."""
        if self._path is None:
            self._path = Path(tempfile.mkdtemp(prefix="rrqd-run-"))
        return self._path

    def heartbeat(self) -> None:
        """Nothing: no word for it."""

    def progress(self, value: float | None, message: str | None, data: Mapping[str, Any] | None) -> None:
        """Nothing: no word for it."""

    def log(self) -> Any:
        """A logger bound to the job."""
        request = self._request
        return structlog.get_logger().bind(
            job_id=request.job_id, function=request.function_name, attempt=request.context.attempt
        )

    def clean_up(self) -> None:
        """The run is over."""
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
