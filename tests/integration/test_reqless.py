"""reqless' face: the names and arguments of its Python client, over our store."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from rrqd import reqless
from rrqd.rq.connection import Connection
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
