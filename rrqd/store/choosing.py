"""Finding jobs that are not named: those that wait, or have a tag, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial

from rrqd.store.records import Moved
from rrqd.store.store import Store

PAGE = 200


async def paged(page: Callable[..., Awaitable[list[str]]]) -> AsyncIterator[list[str]]:
    """All pages of a list of ids, by position: what is taken out of it meanwhile lets others be missed."""
    at = 0
    while ids := await page(offset=at, limit=PAGE):
        yield ids
        at += len(ids)


async def tagged_pages(store: Store, tag: str) -> AsyncIterator[list[str]]:
    """Ids of jobs with a tag, ended ones too, newest first."""

    async def page(offset: int, limit: int) -> list[str]:
        return (await store.tagged(tag, offset=offset, limit=limit)).ids

    async for ids in paged(page):
        yield ids


async def waiting_pages(store: Store, queues: Iterable[str]) -> AsyncIterator[list[str]]:
    """Ids of jobs that wait in these queues or for others of them; and of those that wait for a throttle, whatever
    queue they are of."""
    for name in queues:
        for places in (store.queue_page, store.waiting_for_others):
            async for ids in paged(partial(places, name)):
                yield ids
    for throttle in await store.throttle_names():
        async for ids in paged(partial(store.throttle_waiting, throttle)):
            yield ids


async def unfinished(store: Store, *, tag: str | None = None, queue: str | None = None) -> list[str]:
    """Ids of jobs that have not ended and have a tag, or wait in a queue, or both."""
    pages = tagged_pages(store, tag) if tag is not None else waiting_pages(store, [queue or ""])
    ids = list(dict.fromkeys([job_id async for page in pages for job_id in page]))
    found: list[str] = []
    for start in range(0, len(ids), PAGE):
        for job in await store.jobs(ids[start : start + PAGE]):
            if job is not None and not job.status.is_final and (queue is None or job.queue == queue):
                found.append(job.id)
    return found


async def unfail(store: Store, group: str, queue: str | None, most: int, delay_ms: int = 0) -> list[str]:
    """Bring the oldest buried jobs of a group back, at most so many; answers the ids of those that came."""
    ids = (await store.failed_in(group, limit=most, order="oldest")).ids
    said = await store.move(ids, queue=queue, delay_ms=delay_ms, states=("buried",))
    return [job_id for job_id, one in zip(ids, said, strict=True) if one is Moved.REVIVED]
