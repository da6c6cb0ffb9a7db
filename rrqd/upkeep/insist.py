"""Asking a server that comes and goes: until it answers, and listening to it for as long as it can be heard.

Rule 1: nothing here gives up; whoever calls it cancels it.
Rule 2: what losing and finding the server means is the caller's affair; it is told each time.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from rrqd.exc import NotLetIn, StoreError, StoreUnavailable
from rrqd.store.connection import ServerSaid
from rrqd.store.listening import Ear

T = TypeVar("T")

#: How often an unreachable server is tried, with jitter; quick, because jobs wait.
RETRY_SECONDS = (0.05, 1.0)
#: Before one is asked again that does not allow listening.
DEAF_SECONDS = 300.0


async def insist(
    call: Callable[[], Awaitable[T]], *, lost: Callable[[StoreError], None], reached: Callable[[], None]
) -> T:
    """Call until there is an answer. ``lost`` is told of each attempt in vain, ``reached`` before the answer."""
    pause = RETRY_SECONDS[0]
    while True:
        try:
            answer = await call()
        except StoreError as fault:
            lost(fault)
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, RETRY_SECONDS[1])
        else:
            reached()
            return answer


async def listen(ear: Ear, on_any: Callable[[], None], log: Any) -> None:
    """Hear of touched queues, for ever; where the server does not allow that, idle workers poll slowly instead."""
    while True:
        try:
            await ear.listen(on_any)
        except (StoreUnavailable, NotLetIn):
            await asyncio.sleep(random.uniform(*RETRY_SECONDS))
        except (ServerSaid, StoreError) as fault:
            log.warning("listening.refused", error=str(fault), what_now="idle workers poll instead")
            await asyncio.sleep(DEAF_SECONDS)
