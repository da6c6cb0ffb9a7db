"""Chores that mostly have nothing to do ask one thing between them, once a second."""

from __future__ import annotations

import re

from rrqd.store import Store
from rrqd.upkeep.chore import Occasion, OnOccasion
from rrqd.upkeep.kin import Kin
from tests.support.moves import hand, job, place_of, raw


async def calls(store: Store, command: str) -> int:
    """How often the server has run it."""
    text = (await raw(store, "INFO", "commandstats")).decode()
    found = re.search(rf"cmdstat_{command}:calls=(\d+)", text)
    return int(found[1]) if found else 0


async def test_with_nothing_there_all_of_them_cost_one_command_a_second(store: Store) -> None:
    occasion = Occasion(store)
    chores = [OnOccasion(Kin(store), occasion) for _ in range(3)]
    asked, scripts = await calls(store, "exists"), await calls(store, "evalsha")
    for now in (0.0, 0.5, 1.0, 1.5):
        for chore in chores:
            await chore.run_once(now)
    assert (await calls(store, "exists") - asked, await calls(store, "evalsha") - scripts) == (2, 0)


async def test_what_turns_up_is_done_within_the_second(store: Store) -> None:
    chore = OnOccasion(Kin(store), Occasion(store))
    await chore.run_once(0.0)
    await store.enqueue_many([job("parent"), job("child", parents=("parent",))])
    await raw(store, "HSET", store.keys.job("parent"), "status", "COMPLETED")  # as a real RRQ worker ends it

    await chore.run_once(0.5)
    assert await place_of(store, "child") == ["depends:default"]
    await chore.run_once(1.0)
    assert await place_of(store, "child") != ["depends:default"]


async def test_jobs_at_a_throttle_are_something(store: Store) -> None:
    assert not await store.has_upkeep()
    await store.enqueue_many([job("a", throttles=("t",)), job("b", throttles=("t",))])
    await store.set_throttle("t", 1)
    await (await hand(store)).take()
    assert await store.has_upkeep()
