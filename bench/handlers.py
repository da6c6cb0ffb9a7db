"""The handlers of all benchmarks. The bench copies this file into a program's folder as ``jobs.py``; for the real rrq
with the package's name replaced, so that both run the same lines."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
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


async def nap(request: ExecutionRequest) -> None:
    """Waits, as most jobs do."""
    await asyncio.sleep(request.params["seconds"])


async def block(request: ExecutionRequest) -> None:
    """Keeps its loop from turning; the interpreter runs on."""
    time.sleep(request.params["seconds"])  # noqa: ASYNC251 - that is the point


async def hold(request: ExecutionRequest) -> None:
    """Keeps the whole interpreter: no thread of the process runs Python meanwhile."""
    # A signal would end the sleep early; so another thread gets them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    ctypes.PyDLL(None).usleep(int(request.params["seconds"] * 1e6))
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def ledger(request: ExecutionRequest) -> None:
    """Writes down that it ran."""
    fd = os.open(request.params["file"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{request.job_id}\n".encode())
    os.close(fd)


async def booked(request: ExecutionRequest) -> None:
    """Writes down when a run begins and when it ends, and in which process."""
    fd = os.open(request.params["file"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(fd, f"begin {request.job_id} {os.getpid()} {type(settings).__module__.partition('.')[0]}\n".encode())
        await asyncio.sleep(request.params["seconds"])
        os.write(fd, f"end {request.job_id} {os.getpid()}\n".encode())
    finally:
        os.close(fd)


async def fail(request: ExecutionRequest) -> None:
    """Breaks."""
    raise ValueError("told to fail")


async def die(request: ExecutionRequest) -> None:
    """Takes its whole process along."""
    os._exit(3)


async def strange(request: ExecutionRequest) -> object:
    """Answers what is no JSON."""
    return object()


for handler in (nothing, stamp, frame, nap, block, hold, ledger, booked, fail, die, strange):
    registry.register(handler.__name__, handler)
