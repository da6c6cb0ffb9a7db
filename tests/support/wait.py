"""Waiting for facts, in one place. No test sleeps for a while and hopes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

BUSY_SECONDS = 4.0
"""How much longer than promised a thing may take where the machine does something else as well. Less than what it would
take if the promise were broken, which is a time limit of its own or for ever."""
T = TypeVar("T")
_tick = threading.Event()


def until(fact: Callable[[], T], seconds: float, what: str, every_seconds: float = 0.02) -> T:
    """The first true answer of ``fact``; fails with ``what`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        answer = fact()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}; last answer: {answer!r}")
        _tick.wait(every_seconds)


async def until_async(fact: Callable[[], Awaitable[T]], seconds: float, what: str, every_seconds: float = 0.01) -> T:
    """The same for a fact that must be awaited."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        answer = await fact()
        if answer:
            return answer
        if loop.time() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}; last answer: {answer!r}")
        await asyncio.sleep(every_seconds)
