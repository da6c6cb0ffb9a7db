"""The first API's forms in the store: its hashes are run with their arguments, and its own code can read ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rrqd.classic import Job, JobRegistry, JobStatus, JobStore, RRQClient, RRQSettings, RRQWorker
from rrqd.config.settings import PoolSettings, Settings
from rrqd.exc import JobExists
from rrqd.handlers import LoadedHandlers
from rrqd.registry import Registry
from rrqd.standalone import Attendant
from rrqd.store import Store
from tests.support.moves import hand, known, raw
from tests.support.wait import until_async


@pytest.fixture
async def client(store: Store, dsn: str) -> AsyncIterator[RRQClient]:
    client = RRQClient(RRQSettings(redis_dsn=dsn, base_retry_delay_seconds=0.01))
    yield client
    await client.close()


async def burst(client: RRQClient, **handlers: Callable[..., Any]) -> RRQWorker:
    registry = JobRegistry()
    for name, handler in handlers.items():
        registry.register(name, handler)
    worker = RRQWorker(client.settings, registry, burst=True)
    await asyncio.wait_for(worker.run(), 20)
    return worker


async def test_a_job_is_written_as_the_first_api_writes_it(store: Store, client: RRQClient) -> None:
    made = await client.enqueue("f", 1, "two", when=datetime(2026, 1, 1, tzinfo=UTC), _unique_key="k")

    assert made is not None
    fields = (await known(store, made.id)).fields
    assert fields["job_args"] == '[1,"two"]'
    assert fields["job_kwargs"] == '{"when":"2026-01-01T00:00:00Z"}'
    assert "job_params" not in fields
    told = ("status", "max_retries", "job_timeout_seconds", "result_ttl_seconds", "job_unique_key", "dlq_name")
    assert [fields[name] for name in told] == ["PENDING", "5", "300", "86400", "k", "rrq:dlq:default"]
    assert made.job_args == [1, "two"]
    assert made.queue_name == "rrq:queue:default"


async def test_handlers_get_the_context_and_their_arguments(client: RRQClient) -> None:
    seen: list[Any] = []

    async def note(ctx: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        seen.append((ctx, args, kwargs))

    made = await client.enqueue("note", 1, [2], three={"four": None})
    worker = await burst(client, note=note)

    assert made is not None
    (ctx, args, kwargs) = seen[0]
    assert (args, kwargs) == ((1, [2]), {"three": {"four": None}})
    assert sorted(ctx) == ["enqueue_time", "job_id", "job_try", "queue_name", "rrq_client", "settings", "worker_id"]
    assert (ctx["job_id"], ctx["job_try"], ctx["worker_id"]) == (made.id, 1, worker.worker_id)
    assert ctx["settings"] is client.settings
    assert worker.worker_id.startswith("rrq_worker_")


async def test_a_result_that_json_has_no_word_for_becomes_its_text(store: Store, client: RRQClient) -> None:
    async def odd(ctx: dict[str, Any]) -> Any:
        return {"left": timedelta(seconds=5), "set": {1}}

    made = await client.enqueue("odd")
    await burst(client, odd=odd)

    assert made is not None
    assert (await known(store, made.id)).result == {"left": "0:00:05", "set": "{1}"}


async def test_a_timeout_is_final_and_other_failures_are_tried_again(store: Store, client: RRQClient) -> None:
    tries: list[int] = []

    async def hang(ctx: dict[str, Any]) -> None:
        await asyncio.sleep(60)

    async def fail(ctx: dict[str, Any]) -> None:
        tries.append(ctx["job_try"])
        raise OSError("no luck")

    late = await client.enqueue("hang", _job_timeout_seconds=1, _max_retries=5)
    unlucky = await client.enqueue("fail", _max_retries=2)
    strange = await client.enqueue("nobody", _max_retries=5)
    assert late is not None
    assert unlucky is not None
    assert strange is not None
    await burst(client, hang=hang, fail=fail)

    async def all_failed() -> bool:
        jobs = [await client.job_store.get_job_definition(one.id) for one in (late, unlucky, strange)]
        return all(job is not None and job.status is JobStatus.FAILED for job in jobs)

    if not await all_failed():
        await burst(client, hang=hang, fail=fail)  # the second attempt came due when the burst had ended
    assert await all_failed()
    assert tries == [1, 2]
    assert sorted(await store.dlq_list()) == sorted([late.id, unlucky.id, strange.id])


async def test_a_unique_key_is_free_again_when_its_job_has_ended(client: RRQClient) -> None:
    async def noop(ctx: dict[str, Any]) -> None:
        return None

    first = await client.enqueue("noop", _unique_key="once")
    assert first is not None
    assert await client.enqueue("noop", _unique_key="once") is None
    assert await client.job_store.get_unique_lock_holder("once") == first.id
    assert 21_000 < await client.job_store.get_lock_ttl("once") <= 21_600
    await burst(client, noop=noop)
    assert await client.enqueue("noop", _unique_key="once") is not None


async def test_the_lock_of_a_unique_job_of_a_real_producer_is_freed_by_its_end(store: Store, client: RRQClient) -> None:
    async def noop(ctx: dict[str, Any]) -> None:
        return None

    job_store = client.job_store
    for job_id, holder in (("mine", "mine"), ("other", "somebody")):
        await job_store.save_job_definition(Job(id=job_id, function_name="noop", job_unique_key=job_id))
        assert await job_store.acquire_unique_job_lock(job_id, holder, 600)
        await job_store.add_job_to_queue("default", job_id, 0)
    await burst(client, noop=noop)

    assert (await known(store, "mine")).status == "COMPLETED"
    assert await job_store.get_unique_lock_holder("mine") is None
    assert await job_store.get_unique_lock_holder("other") == "somebody"


async def test_an_id_begins_anew_when_its_job_has_ended_and_not_before(store: Store, client: RRQClient) -> None:
    async def say(ctx: dict[str, Any], word: str) -> str:
        return word

    first = await client.enqueue("say", "one", _job_id="same")
    waiting = await client.enqueue("say", "two", _job_id="same")
    assert first is not None
    assert waiting is not None
    assert waiting.job_args == ["one"]
    assert await store.queue_page("default", 0, 9) == ["same"]

    worker = await hand(store)
    (taken,) = await worker.take()
    with pytest.raises(JobExists):
        await client.enqueue("say", "three", _job_id="same")
    await worker.settle(taken)

    await client.enqueue("say", "four", _job_id="same")
    await burst(client, say=say)
    assert (await known(store, "same")).result == "four"


async def test_a_failed_job_whose_id_begins_anew_leaves_the_dead_letters(store: Store, client: RRQClient) -> None:
    async def say(ctx: dict[str, Any], word: str) -> str:
        return word

    await client.enqueue("nobody", _job_id="same")
    await burst(client, say=say)
    assert await store.dlq_list() == ["same"]
    await client.enqueue("say", "again", _job_id="same")
    assert await store.dlq_list() == []


async def test_a_hash_of_the_first_api_is_run_with_its_arguments_by_any_worker(store: Store, dsn: str) -> None:
    registry = Registry()
    seen: list[Any] = []

    @registry.handler("f")
    async def f(request: Any) -> None:
        seen.append((request.args, request.params))

    job_store = JobStore(RRQSettings(redis_dsn=dsn))
    job = Job(function_name="f", job_args=[1, 2], job_kwargs={"key": "word"}, queue_name="rrq:queue:default")
    await job_store.save_job_definition(job)
    await job_store.add_job_to_queue("rrq:queue:default", job.id, datetime.now(UTC).timestamp() * 1000)
    settings = Settings.model_validate({"rrq": {"redis_dsn": dsn}})
    attendant = Attendant(settings, PoolSettings(handlers="tests:registry"), LoadedHandlers(registry))
    await attendant.run(horizon_seconds=0)
    await job_store.aclose()

    assert seen == [([1, 2], {"key": "word"})]
    assert (await known(store, job.id)).status == "COMPLETED"


async def test_arguments_that_are_no_list_bury_the_job_with_the_reason(store: Store, client: RRQClient) -> None:
    job_store = client.job_store
    await job_store.save_job_definition(Job(id="odd", function_name="f"))
    await raw(store, "HSET", "rrq:job:odd", "job_args", '{"a":1}')
    await job_store.add_job_to_queue("default", "odd", 0)
    await burst(client)

    assert (await known(store, "odd")).last_error == "job_args must be a JSON list, not dict."


async def test_a_stopped_worker_gives_back_what_does_not_end_in_time(store: Store, dsn: str) -> None:
    running = asyncio.Event()

    async def long(ctx: dict[str, Any]) -> None:
        running.set()
        await asyncio.sleep(60)

    registry = JobRegistry()
    registry.register("long", long)
    settings = RRQSettings(redis_dsn=dsn, worker_shutdown_grace_period_seconds=0.2)
    worker = RRQWorker(settings, registry)
    made = await worker.client.enqueue("long")
    assert made is not None
    task = asyncio.create_task(worker.run())
    await asyncio.wait_for(running.wait(), 10)
    assert worker.status == "running"
    worker.stop()
    await asyncio.wait_for(task, 10)
    assert (await known(store, made.id)).status == "PENDING"


async def test_handlers_registered_while_it_runs_are_found(client: RRQClient) -> None:
    registry = JobRegistry()
    worker = RRQWorker(client.settings, registry)
    task = asyncio.create_task(worker.run())
    registry.register("late", lambda ctx: ctx["job_try"])
    made = await client.enqueue("late")
    assert made is not None

    async def completed() -> bool:
        job = await client.job_store.get_job_definition(made.id)
        return job is not None and job.status is JobStatus.COMPLETED and job.result == 1

    await until_async(completed, 10, "the job to run")
    worker.stop()
    await task
