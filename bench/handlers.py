"""The handlers of all benchmarks. The bench copies this file into a program's folder as ``jobs.py``; for the real rrq
with the package's name replaced, so that both run the same lines."""

from __future__ import annotations

import socket
import struct
import time

from rrqd.registry import Registry
from rrqd.runner import ExecutionRequest
from rrqd.runner_settings import PythonRunnerSettings

registry = Registry()
settings = PythonRunnerSettings(registry=registry)
_voice: socket.socket | None = None


async def nothing(request: ExecutionRequest) -> None:
    """The cheapest job there is."""


async def stamp(request: ExecutionRequest) -> None:
    """Says when it began, by a datagram to whoever asked."""
    began_ns = time.monotonic_ns()
    global _voice
    if _voice is None:
        _voice = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    _voice.sendto(struct.pack("<qq", request.params["nth"], began_ns), request.params["to"])


async def frame(request: ExecutionRequest) -> int:
    """A little work with the heavy modules, if they are there."""
    try:
        import pandas
    except ImportError:
        return 0
    table = pandas.DataFrame({"a": range(1000), "b": range(1000)})
    return int(table.groupby(table.a % 7).b.sum().max())


for handler in (nothing, stamp, frame):
    registry.register(handler.__name__, handler)
