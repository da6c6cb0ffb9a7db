"""Processes that SIGKILL does not end, as one that is stuck in the kernel: frozen, or held at its exit by a tracer."""

from __future__ import annotations

import ctypes
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.wait import until

FREEZER = Path("/sys/fs/cgroup/freezer")
_SEIZE, _DETACH, _TRACE_EXIT = 0x4206, 17, 0x40


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """In a frozen control group of version 1: it is in state D, and signals wait. Needs root and such groups."""
    group = FREEZER / f"rrqd-test-{secrets.token_hex(4)}"
    group.mkdir()
    (group / "cgroup.procs").write_text(str(pid))
    (group / "freezer.state").write_text("FROZEN")
    until(lambda: (group / "freezer.state").read_text().strip() == "FROZEN", 5, "the group to be frozen")
    try:
        yield
    finally:
        (group / "freezer.state").write_text("THAWED")
        for one in (group / "cgroup.procs").read_text().split():
            (FREEZER / "cgroup.procs").write_text(one)
        until(lambda: not (group / "cgroup.procs").read_text(), 5, "the group to be empty")
        group.rmdir()


def can_freeze() -> bool:
    return os.access(FREEZER / "cgroup.procs", os.W_OK)


@contextmanager
def held(pid: int) -> Iterator[None]:
    """It runs as ever, but whatever ends it, it stays until we let go. Only the thread that began may let go."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    # Each of its threads: a second SIGKILL wakes one of those that stand at their exit, but not all.
    threads = [int(number) for number in os.listdir(f"/proc/{pid}/task")]
    for thread in threads:
        if libc.ptrace(_SEIZE, thread, None, ctypes.c_void_p(_TRACE_EXIT)) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
    try:
        yield
    finally:
        for thread in threads:
            libc.ptrace(_DETACH, thread, None, None)
