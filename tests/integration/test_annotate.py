"""annotate: a face's own field in a job, and never a job made by it."""

from __future__ import annotations

from rrqd.store import Store
from tests.support.moves import job


async def test_a_field_is_written_and_written_over(store: Store) -> None:
    await store.enqueue_many([job("a")])

    assert await store.annotate("a", "rrqd_meta", '{"step":1}')
    assert await store.annotate("a", "rrqd_meta", '{"step":2}')
    found, now_ms = await store.look("a")
    assert found is not None
    assert found.fields["rrqd_meta"] == '{"step":2}'
    assert now_ms > 1e12


async def test_a_job_that_is_not_there_is_not_made(store: Store) -> None:
    assert not await store.annotate("gone", "rrqd_meta", "{}")
    assert (await store.look("gone"))[0] is None


async def test_a_key_that_is_no_job_is_left_alone(store: Store) -> None:
    await (await store.link()).call("SET", "rrq:job:odd", "text")

    assert not await store.annotate("odd", "rrqd_meta", "{}")
    assert await (await store.link()).call("GET", "rrq:job:odd") == b"text"


async def test_the_front_of_a_queue_is_before_its_first_job_and_not_after_now(store: Store) -> None:
    empty = await store.front_ms("default")
    await store.enqueue_many([job("a")])
    (_, now_ms) = await store.look("a")

    assert empty <= now_ms
    assert await store.front_ms("default") < now_ms
    await store.enqueue_many([job("first", due_ms=await store.front_ms("default"))])
    assert await store.waiting_ids("default", due=True) == ["first", "a"]
