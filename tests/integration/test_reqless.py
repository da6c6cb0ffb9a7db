"""reqless' face: the names and arguments of its Python client, over our store."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import Iterator

import pytest

from rrqd import reqless
from rrqd.config.pool_table import PoolSettings
from rrqd.config.settings import Settings
from rrqd.handlers import LoadedHandlers
from rrqd.rq.connection import Connection
from rrqd.rq.running import own_functions
from rrqd.standalone import Attendant
from tests.support import shop

ORDER, GNOME = "tests.support.shop.Order", "tests.support.shop.Gnome"


@pytest.fixture(scope="module")
def place(dsn: str) -> Iterator[Connection]:
    connection = Connection(dsn)
    yield connection
    connection.close()


@pytest.fixture
def client(place: Connection) -> Iterator[reqless.Client]:
    client = reqless.Client(place)
    yield client
    client.close()


@pytest.fixture
def queue(client: reqless.Client) -> reqless.Queue:
    """A queue of the test's own."""
    return client.queues[f"q-{uuid.uuid4()}"]


def job_of(client: reqless.Client, jid: str) -> reqless.Job:
    job = client.jobs[jid]
    assert isinstance(job, reqless.Job)
    return job


def test_a_job_is_put_popped_and_completed(client: reqless.Client, queue: reqless.Queue) -> None:
    jid = queue.put(shop.Order, '{"big": 9007199254740993, "none": [ ]}', priority=3, tags=["blue"], retries=2)
    job = job_of(client, jid)
    assert (job.state, job.klass_name, job.klass, job.priority) == ("waiting", ORDER, shop.Order, 3)
    assert (job.tags, job.original_retries, job.retries_left, job.queue_name) == (["blue"], 2, 2, queue.name)

    popped = queue.pop()
    assert popped.jid == jid
    assert popped.data == '{"big": 9007199254740993, "none": [ ]}'
    assert popped.ttl > 5
    assert (queue.counts["running"], queue.jobs.running(), len(queue)) == (1, [jid], 1)
    assert popped.worker_name in [one["name"] for one in client.workers.counts if one["jobs"] == 1]
    assert client.workers[popped.worker_name] == {"jobs": [jid], "stalled": []}
    assert popped.complete() == "complete"

    job = job_of(client, jid)
    assert (job.state, jid in client.jobs.complete(), len(queue), queue.pop()) == ("complete", True, 0, None)
    assert [one["what"] for one in job.history] == ["put", "popped", "done"]
    stats = queue.stats()
    assert (stats["run"]["count"], len(stats["wait"]["histogram"]), sum(stats["run"]["histogram"])) == (1, 148, 1)


def test_a_pipeline_by_hand(client: reqless.Client, queue: reqless.Queue) -> None:
    after = client.queues[f"{queue.name}-after"]
    jid, other = queue.put(shop.Gnome, "{}"), after.put(shop.Gnome, "{}", delay=60)
    first = queue.pop()
    first.data = '{"n":  1}'
    assert first.complete(after.name, delay=60) == "scheduled"
    assert (after.counts["scheduled"], after.jobs.scheduled()) == (2, [other, jid])
    assert job_of(client, jid).data == '{"n":  1}'


def work(place: Connection, *queues: reqless.Queue) -> None:
    """What a worker does with them, until nothing is left."""
    settings = Settings.model_validate({"rrq": {"redis_dsn": place.dsn}})
    pool = PoolSettings(handlers="tests:classes", queues=[queue.name for queue in queues], concurrency=1)
    handlers = LoadedHandlers(own_functions(place))
    asyncio.run(Attendant(settings, pool, handlers).run(horizon_seconds=0.0))


def test_a_job_class_with_a_method_a_queue_runs_in_workers(client: reqless.Client, place: Connection) -> None:
    dig, polish = client.queues["dig"], client.queues["polish"]
    jid = dig.put(shop.Gnome, '{"n": 1}')
    work(place, dig, polish)

    job = job_of(client, jid)
    assert (job.state, json.loads(job.data)) == ("complete", {"n": 1, "dug": True, "polished": True})
    assert [one["what"] for one in job.history] == ["put", "popped", "done", "popped", "done"]


@pytest.mark.parametrize(
    ("klass", "data", "group", "message"),
    [
        ("Order", '{"fail": "group"}', "no-stock", "we have none"),
        ("Order", '{"fail": "red"}', "{queue}-KeyError", "KeyError: 'red'"),
        ("Nothing", "{}", "{queue}-method-missing", "neither a method"),
        ("Absent", "{}", "{queue}-ImportError", "Failed to import"),
    ],
)
def test_what_goes_wrong_in_a_class_fails_its_job_in_a_group(
    client: reqless.Client, place: Connection, queue: reqless.Queue, klass: str, data: str, group: str, message: str
) -> None:
    jid = queue.put(f"tests.support.shop.{klass}", data)
    work(place, queue)

    job, group = job_of(client, jid), group.format(queue=queue.name)
    assert (job.state, job.failure["group"]) == ("failed", group)
    assert message in job.failure["message"]
    assert client.jobs.failed()[group] >= 1
    assert jid in [one.jid for one in client.jobs.failed(group)["jobs"]]
    client.unfail(group, queue.name)
    assert job_of(client, jid).state == "waiting"


def test_retries_are_used_up_and_the_job_lies_in_the_group_of_its_queue(
    client: reqless.Client, place: Connection, queue: reqless.Queue
) -> None:
    jid, once = queue.put(shop.Flaky, "{}", retries=2), queue.put(shop.Flaky, "{}", retries=0)
    work(place, queue)

    for one, runs in ((jid, 3), (once, 1)):
        job = job_of(client, one)
        assert (job.state, job.failure["group"]) == ("failed", f"failed-retries-{queue.name}")
        assert [entry["what"] for entry in job.history].count("popped") == runs


def test_a_class_has_a_sandbox_a_log_and_heartbeats(
    client: reqless.Client, place: Connection, queue: reqless.Queue
) -> None:
    jid = queue.put(shop.Order, {"sandbox": True})
    work(place, queue)

    job = job_of(client, jid)
    assert job.state == "complete", job.failure
    (line,) = [one for one in job.history if one["what"] == "wrote a file"]
    assert not os.path.exists(line["where"])
