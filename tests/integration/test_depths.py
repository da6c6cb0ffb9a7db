"""How full queues are: the same figures whatever the kind of job, and few questions where there is nothing."""

from __future__ import annotations

from rrqd.model.job import NewJob
from rrqd.store import Store


def job(name: str, queue: str, **more: object) -> NewJob:
    return NewJob(id=name, function="f", queue=queue, **more)  # type: ignore[arg-type]


async def commands(store: Store, queues: list[str]) -> int:
    """What a look costs the server, by its own count."""
    before = int((await store.info())["total_commands_processed"])
    await store.queue_depths(queues)
    return int((await store.info())["total_commands_processed"]) - before


async def test_jobs_of_all_kinds_count(store: Store) -> None:
    await store.enqueue_many([
        job("plain", "a"), job("later", "a", delay_ms=60_000),
        job("high", "b", priority=5), job("low", "b", priority=-5),
        job("ranked later", "b", priority=5, delay_ms=60_000),
        job("parent", "c"), job("child", "c", parents=("parent",)),
    ])  # fmt: skip
    depths = await store.queue_depths(["a", "b", "c", "empty"])
    assert [(one.waiting, one.due, one.dependent) for one in depths] == [(2, 1, 0), (3, 2, 0), (1, 1, 1), (0, 0, 0)]
    b = depths[1]
    assert 0 <= b.oldest_due_age_seconds < 60


async def test_an_empty_queue_costs_one_question(store: Store) -> None:
    await store.enqueue_many([job("x", "full")])
    few = await commands(store, ["full"])
    many = await commands(store, ["full", *(f"empty{n}" for n in range(100))])
    assert many - few == 102
