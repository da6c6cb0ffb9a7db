"""What this process is doing: its threads' stacks, and the tree of its asyncio tasks.

For `kill -USR1`, for the report about a suspicious worker, and for tests that want to know why they wait. Only the
source lines, never values: handlers have secrets in them.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Coroutine
from types import FrameType, GeneratorType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

DEPTH = 40
JOB_PREFIX = "job:"
"""A task that runs a job is named ``job:<id>``."""


def threads() -> list[dict[str, Any]]:
    """One entry for each Python thread: name, whether it is a daemon, and its stack, outermost call first."""
    frames = sys._current_frames()
    found = []
    for thread in threading.enumerate():
        frame = frames.get(thread.ident) if thread.ident is not None else None
        if frame is not None:
            found.append({"thread": thread.name, "daemon": thread.daemon, "stack": _stack(frame)})
    return found


def tasks(loop: asyncio.AbstractEventLoop) -> list[dict[str, Any]]:
    """One entry for each unfinished task of `loop`: its name, the job it runs, what it waits for, who waits for it."""
    import asyncio  # the master asks for threads only, and does not load asyncio

    found = []
    for task in sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name()):
        name = task.get_name()
        found.append(
            {
                "task": name,
                "job_id": name[len(JOB_PREFIX) :] if name.startswith(JOB_PREFIX) else None,
                "awaiting": chain(task.get_coro()),
            }
        )
    return found


def chain(coroutine: Any) -> list[str]:
    """The calls between a task and what it waits for, outermost first; the last entry is the awaited thing itself."""
    lines: list[str] = []
    current = coroutine
    while current is not None and len(lines) < DEPTH:
        frame, code, awaited = _inside(current)
        if frame is not None:
            lines.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}")
        elif code is not None:
            lines.append(f"{code.co_filename}:{code.co_firstlineno} {code.co_qualname} (not running)")
        else:
            lines.append(_describe(current))
        current = awaited
    return lines


def _inside(current: Any) -> tuple[FrameType | None, Any, Any]:
    if isinstance(current, Coroutine):
        return (
            getattr(current, "cr_frame", None),
            getattr(current, "cr_code", None),
            getattr(current, "cr_await", None),
        )
    if isinstance(current, GeneratorType):
        return current.gi_frame, current.gi_code, current.gi_yieldfrom
    return None, None, None


def _describe(thing: Any) -> str:
    kind = type(thing).__qualname__
    name = getattr(thing, "get_name", None)
    return f"{kind} {name()}" if callable(name) else kind


def _stack(frame: FrameType) -> list[str]:
    summary = traceback.extract_stack(frame, limit=DEPTH)
    return [f"{one.filename}:{one.lineno} {one.name}" for one in summary]


def text(entries: list[dict[str, Any]]) -> str:
    """For people: each entry with its stack below it."""
    lines = []
    for entry in entries:
        head = entry.get("thread") or entry.get("task") or "?"
        job = f" (job {entry['job_id']})" if entry.get("job_id") else ""
        lines.append(f"{head}{job}")
        lines += [f"  {line}" for line in entry.get("stack") or entry.get("awaiting") or []]
    return "\n".join(lines)
