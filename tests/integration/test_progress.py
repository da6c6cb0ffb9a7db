"""progress: only the holder of the token can say how far a job is."""

from __future__ import annotations

import pytest

from rrqd.model.lifecycle import End
from rrqd.runtime.outage import Outage
from rrqd.runtime.reports import Reports
from rrqd.runtime.request import Aid
from rrqd.store import Charge, Store
from rrqd.store.following import Follower
from tests.support.moves import hand, job, known, raw

HALF = b'{"value":0.5,"message":"half way"}'


async def test_a_note_is_kept_with_the_job_and_the_newest_wins(store: Store) -> None:
    await store.enqueue_many([job("a")])
    (claimed,) = await (await hand(store)).take()
    assert (await known(store, "a")).progress is None

    assert await store.progress([("a", claimed.token, b'{"value":0.1}')]) == ["ok"]
    assert await store.progress([("a", claimed.token, HALF)]) == ["ok"]

    assert (await known(store, "a")).progress == {"value": 0.5, "message": "half way"}


async def test_listeners_of_a_tracked_job_hear_of_it_as_it_was_said(store: Store) -> None:
    await store.enqueue_many([job("a", track=True), job("b")])
    first, second = await (await hand(store)).take()
    note = b'{"value":0.5,"data":{"empty":[],"big":9007199254740993}}'
    assert await store.progress([("a", first.token, note), ("b", second.token, HALF)]) == ["ok", "ok"]

    told = await Follower(store.finder, store.keys, "rrqd:test", last=10).before()
    assert [(one.event, one.job_id) for one in told] == [("enqueued", "a"), ("claimed", "a"), ("progress", "a")]
    assert told[-1].progress == {"value": 0.5, "data": {"empty": [], "big": 9007199254740993}}
    assert told[-1].queue == "default"


async def test_a_sign_of_life_leaves_what_was_said_as_it_is(store: Store) -> None:
    await store.enqueue_many([job("a")])
    (claimed,) = await (await hand(store)).take()
    reports = Reports(store, "worker-1", 60.0, Outage(None))
    aid = Aid(claimed, None, reports, lambda token, seconds: None)
    aid.heartbeat()
    await reports.send()
    assert ((await known(store, "a")).progress or {}).keys() == {"at"}
    aid.progress(2.0, "half way", {"row": 7})
    aid.heartbeat()
    await reports.send()

    said = (await known(store, "a")).progress or {}
    assert (said["value"], said["message"], said["data"]) == (1.0, "half way", {"row": 7})


async def test_a_stop_that_came_before_anybody_listened_says_why_all_the_same(store: Store) -> None:
    """A drain in the moment in which a handler's thread begins is no cancel: callbacks hang on the difference."""
    await store.enqueue_many([job("a")])
    (claimed,) = await (await hand(store)).take()
    aid = Aid(claimed, None, Reports(store, "worker-1", 60.0, Outage(None)), lambda token, seconds: None)
    heard: list[str] = []

    aid.stop("drain")
    aid.stop("cancel")  # the first one counts
    aid.when_stopped(heard.append)

    assert (heard, aid.cancelled()) == (["drain"], True)


async def test_a_stale_token_changes_nothing_and_is_told(store: Store) -> None:
    await store.enqueue_many([job("a"), job("b")])
    worker = await hand(store)
    first, second = await worker.take()

    notes = [("a", first.token - 1, HALF), ("b", second.token, HALF), ("nobody", 5, HALF)]
    assert await store.progress(notes) == ["stale", "ok", "stale"]

    assert (await known(store, "a")).progress is None
    assert (await known(store, "b")).progress is not None
    assert await store.get("nobody") is None


async def test_a_released_job_no_longer_listens_to_its_last_holder(store: Store) -> None:
    await store.enqueue_many([job("a")])
    (claimed,) = await (await hand(store)).take()
    await store.close_worker("worker-1", reason="x", charge=Charge.NOBODY)

    assert await store.progress([("a", claimed.token, HALF)]) == ["stale"]
    await (await hand(store, "worker-2")).take()
    assert await store.progress([("a", claimed.token, HALF)]) == ["stale"]
    assert (await known(store, "a")).progress is None


@pytest.mark.parametrize("end", [End.COMPLETE, End.RETRY, End.BURY, End.CANCEL, End.SNOOZE])
async def test_a_note_that_comes_after_the_end_is_stale(store: Store, end: End) -> None:
    await store.enqueue_many([job("a")])
    worker = await hand(store)
    (claimed,) = await worker.take()
    await worker.settle(claimed, end)

    assert await store.progress([("a", claimed.token, HALF)]) == ["stale"]


async def test_a_key_that_is_no_job_any_more_spoils_no_other_note(store: Store) -> None:
    await store.enqueue_many([job("a"), job("b")])
    first, second = await (await hand(store)).take()
    await raw(store, "DEL", "rrq:job:a")
    await raw(store, "SET", "rrq:job:a", "text")

    assert await store.progress([("a", first.token, HALF), ("b", second.token, HALF)]) == ["stale", "ok"]


async def test_a_full_server_still_takes_notes(store: Store) -> None:
    await store.enqueue_many([job("a")])
    (claimed,) = await (await hand(store)).take()
    await raw(store, "CONFIG", "SET", "maxmemory", "1")
    try:
        assert await store.progress([("a", claimed.token, HALF)]) == ["ok"]
    finally:
        await raw(store, "CONFIG", "SET", "maxmemory", "0")
