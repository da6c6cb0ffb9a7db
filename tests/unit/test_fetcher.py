"""The fetcher: no wake-up is lost, no timer is left behind, and nobody waits for a suspect for ever."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from rrqd.runtime import fetcher
from rrqd.runtime.fetcher import Fetcher
from rrqd.store import Claim, ClaimState
from tests.support.wait import until_async

EMPTY = Claim(state=ClaimState.OK)


@pytest.fixture
def bell() -> Iterator[int]:
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    yield fd
    os.close(fd)


class Tried:
    """A fetcher, and how often it stirred its worker."""

    def __init__(self, slots: int, wake_fd: int = -1, idle_poll_seconds: float = 60.0) -> None:
        self.stirred = 0
        self.woken = 0
        self.fetcher = Fetcher(slots, wake_fd, idle_poll_seconds, self.stir, self.wake)

    def stir(self) -> None:
        self.stirred += 1

    def wake(self) -> None:
        self.woken += 1

    def claim(self, answer: Claim = EMPTY) -> None:
        asked = self.fetcher.room(0)
        self.fetcher.ask()
        self.fetcher.learn(answer, asked)


async def test_a_claim_never_takes_more_than_there_are_free_slots() -> None:
    it = Tried(10).fetcher
    assert [it.room(running) for running in (0, 4, 10, 11)] == [10, 6, 0, 0]


async def test_after_an_empty_claim_nothing_is_asked_until_somebody_calls(bell: int) -> None:
    tried = Tried(4, bell)
    tried.claim()
    assert tried.fetcher.room(0) == 0
    tried.fetcher.listen(0)
    os.eventfd_write(bell, 1)

    async def hungry() -> bool:
        return tried.fetcher.room(0) > 0

    await until_async(hungry, 2, "the wake-up to be heard")
    assert tried.woken == 1


async def test_a_call_that_comes_while_a_claim_is_under_way_is_not_lost(bell: int) -> None:
    tried = Tried(4, bell)
    asked = tried.fetcher.room(0)
    tried.fetcher.ask()
    tried.fetcher.listen(0)
    os.eventfd_write(bell, 1)

    async def woken() -> bool:
        return tried.woken == 1

    await until_async(woken, 2, "the wake-up to be heard")
    tried.fetcher.learn(EMPTY, asked)
    assert tried.fetcher.room(0) > 0


async def test_wake_ups_leave_one_timer_and_not_one_each(bell: int) -> None:
    tried = Tried(4, bell, idle_poll_seconds=0.2)
    for _ in range(50):
        tried.claim()
        tried.fetcher._now()
    tried.claim()
    before = tried.stirred
    await asyncio.sleep(0.4)
    assert tried.stirred - before == 1


async def test_room_is_kept_for_a_suspect_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "HOLD_SECONDS", 0.05)
    tried = Tried(4)
    tried.claim(Claim(state=ClaimState.OK, hold=True))
    assert tried.fetcher.room(3) == 0

    async def again() -> bool:
        return tried.fetcher.room(3) == 1

    await until_async(again, 2, "the room to be given free")


async def test_a_worker_that_has_not_asked_for_long_is_deaf() -> None:
    tried = Tried(1, idle_poll_seconds=0.05)
    assert not tried.fetcher.is_deaf()

    async def deaf() -> bool:
        return tried.fetcher.is_deaf()

    await until_async(deaf, 2, "the time to ask")
    tried.fetcher.learn(EMPTY, 0)
    assert not tried.fetcher.is_deaf()
