"""What reqless' own pages promise, and what it is known to do wrong, each seen from its names over our store."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import pytest

from rrqd import reqless
from rrqd.model.figures import SpreadFigures, bucket_of
from rrqd.reqless import looking
from rrqd.store import Store
from tests.support.moves import hand
from tests.support.reqless_face import face_of, job_of
from tests.support.wait import until

ORDER = "tests.support.shop.Order"


@pytest.fixture
def client(dsn: str) -> Iterator[reqless.Client]:
    with face_of(dsn) as client:
        yield client


@pytest.fixture
def queue(client: reqless.Client) -> reqless.Queue:
    """A queue of the test's own."""
    return client.queues[f"q-{uuid.uuid4()}"]


def state_of(client: reqless.Client, jid: str) -> str:
    return job_of(client, jid).state


def test_every_state_has_its_word_its_list_and_its_count(client: reqless.Client, queue: reqless.Queue) -> None:
    running, ended, failed = (queue.put(ORDER, "{}", priority=9) for _ in range(3))
    _, job, other = queue.pop(3)
    job.complete()
    other.fail("odd", "why")
    scheduled, depends = queue.put(ORDER, "{}", delay=60), queue.put(ORDER, "{}", depends=[running])
    client.sync.throttles.set(f"t-{queue.name}", 0)
    throttled = queue.put(ORDER, "{}", throttles=[f"t-{queue.name}"])
    assert queue.pop() is None
    waiting = queue.put(ORDER, "{}")
    recurring = queue.recur(ORDER, "{}", interval=60, offset=60)

    places = {"running": running, "scheduled": scheduled, "depends": depends, "throttled": throttled}
    for word, jid in places.items():
        assert (state_of(client, jid), getattr(queue.jobs, word)(), queue.counts[word]) == (word, [jid], 1), word
    assert [state_of(client, jid) for jid in (waiting, ended, failed)] == ["waiting", "complete", "failed"]
    template = client.jobs[recurring]
    assert template is not None
    assert (template.state, queue.counts["recurring"], queue.counts["waiting"]) == ("recur", 1, 1)
    assert len(queue) == 3, "those that run, wait and are scheduled"


def test_a_job_may_come_to_depend_on_more_and_on_less(client: reqless.Client, queue: reqless.Queue) -> None:
    first, second, child = (queue.put(ORDER, "{}", delay=0) for _ in range(3))
    assert job_of(client, child).depend(first, second)
    assert (state_of(client, child), sorted(job_of(client, child).dependencies)) == ("depends", sorted([first, second]))
    assert job_of(client, child).undepend(first)
    assert job_of(client, child).dependencies == [second]
    job_of(client, child).undepend(all=True)
    assert state_of(client, child) == "waiting"
    with pytest.raises(reqless.ReqlessError, match=r"all=True"):
        job_of(client, child).undepend()


def test_a_delay_counts_once_the_parents_are_done(client: reqless.Client, queue: reqless.Queue) -> None:
    parent = queue.put(ORDER, "{}")
    child = queue.put(ORDER, "{}", depends=[parent], delay=60)
    assert state_of(client, child) == "depends"
    queue.pop().complete()
    assert state_of(client, child) == "scheduled"


def let_pass(client: reqless.Client, jid: str, seconds: float) -> None:
    """As if the template had been made so long ago."""

    async def put_back(store: Store) -> None:
        one = await store.recurring(jid)
        assert one is not None
        earlier = f"{one.next_ms - seconds * 1000:.3f}"
        link = await store.link()
        await link.call("HSET", f"rrqd:recurring:{jid}", "next_ms", earlier)
        await link.call("ZADD", "rrqd:recurring", earlier, jid)

    client.ask(put_back)


def test_five_waits_of_a_minute_give_five_jobs(client: reqless.Client, queue: reqless.Queue) -> None:
    api = f"api-{queue.name}"
    jid = queue.recur(ORDER, "{}", interval=60, offset=60, throttles=[api])
    let_pass(client, jid, 300)
    assert [job.jid for job in queue.pop(10)] == [f"{jid}-{n}" for n in range(1, 6)]
    template = client.jobs[jid]
    assert isinstance(template, reqless.RecurringJob)
    assert (template.count, template.throttles, 0 < template.next - time.time() <= 60) == (5, [api], True)
    assert len(client.throttles[api].locks()) == 5

    short = queue.recur(ORDER, "{}", interval=60, backlog=2)
    let_pass(client, short, 1000)
    assert len([job for job in queue.pop(30) if job.spawned_from_jid == short]) == 2


def test_what_is_counted_can_be_let_go_by_hand(client: reqless.Client, queue: reqless.Queue) -> None:
    throttle = client.throttles[f"t-{queue.name}"]
    throttle.set_maximum(1)
    first, second = (queue.put(ORDER, "{}", throttles=[throttle.name]) for _ in range(2))
    assert queue.pop().jid == first
    assert queue.pop() is None
    assert (throttle.release(first), throttle.release(first), queue.pop().jid) == (1, 0, second)


@pytest.mark.parametrize("way", ["raised", "deleted"])
def test_whoever_waits_at_a_limit_is_let_go_when_it_changes(
    client: reqless.Client, queue: reqless.Queue, way: str
) -> None:
    throttle = client.throttles[f"t-{queue.name}"]
    throttle.set_maximum(1)
    _, second = (queue.put(ORDER, "{}", throttles=[throttle.name]) for _ in range(2))
    assert (queue.pop() is None, queue.pop()) == (False, None)
    throttle.set_maximum(5) if way == "raised" else throttle.delete()
    assert queue.pop().jid == second


def test_a_job_of_a_full_throttle_hides_nobody_behind_it(client: reqless.Client, queue: reqless.Queue) -> None:
    throttle = client.throttles[f"t-{queue.name}"]
    throttle.set_maximum(1)
    for _ in range(300):
        queue.put(ORDER, "{}", throttles=[throttle.name])
    free = queue.put(ORDER, "{}")
    assert free in (queue.pop().jid, queue.pop().jid), "not with the three hundredth pop"


def test_a_timeout_by_hand_is_free_and_a_retry_is_written_down(client: reqless.Client, queue: reqless.Queue) -> None:
    jid = queue.put(ORDER, "{}", retries=1)
    queue.pop()
    job_of(client, jid).timeout()
    assert job_of(client, jid).retries_left == 1
    assert queue.pop().retry(delay=0) == 0
    told = [entry["what"] for entry in job_of(client, jid).history]
    assert ("retried" in told, told.count("popped")) == (True, 2)
    assert job_of(client, jid).failure == {}


def test_cancelling_is_all_or_nothing_and_takes_dependents_along_when_they_are_named(
    client: reqless.Client, queue: reqless.Queue
) -> None:
    parent, other = queue.put(ORDER, "{}"), queue.put(ORDER, "{}")
    child = queue.put(ORDER, "{}", depends=[parent])
    with pytest.raises(reqless.ReqlessError, match=child):
        client.cancel(other, parent)
    assert state_of(client, other) == "waiting"
    assert client.cancel(parent, child, "nobody") == [parent, child, "nobody"]
    assert (client.jobs[parent], client.jobs[child]) == (None, None)


def test_data_are_never_read_on_their_way(client: reqless.Client, queue: reqless.Queue) -> None:
    text = '{"big": 9007199254740993, "none": [ ], "float": 1.10}'
    jid = queue.put(ORDER, "{}", retries=3)
    job = queue.pop()
    job.data = text
    job.heartbeat()
    assert job_of(client, jid).data == text
    job.retry()
    queue.pop().fail(f"odd-{queue.name}", "why")
    assert job_of(client, jid).data == text
    client.unfail(f"odd-{queue.name}", queue.name)
    assert (queue.pop().data, job_of(client, jid).failure) == (text, {})


def test_looking_changes_nothing(client: reqless.Client, queue: reqless.Queue) -> None:
    recurring = queue.recur(ORDER, "{}", interval=60)
    for _ in range(2):
        assert (queue.peek(), queue.counts["waiting"], len(queue)) == (None, 0, 0)
    template = client.jobs[recurring]
    assert isinstance(template, reqless.RecurringJob)
    assert template.count == 0


def test_tags_and_tracking_go_with_their_job(client: reqless.Client, queue: reqless.Queue) -> None:
    tag = f"tag-{queue.name}"
    jid = queue.put(ORDER, "{}", tags=[tag])
    job_of(client, jid).tag(tag)
    client.track(jid)
    client.cancel(jid)
    client.ask(lambda store: store.purge([jid]))
    assert client.jobs.tagged(tag)["jobs"] == []
    assert jid not in [job.jid for job in client.jobs.tracked()["jobs"]]
    assert tag not in client.tags(count=1000)


def test_times_lie_in_reqless_148_buckets() -> None:
    seconds = {0.4: 0, 1.2: 1, 59.9: 59, 61: 60, 3599: 118, 3601: 119, 90_000: 142, 700_000: 147}
    histogram = {bucket_of(one): 1 for one in seconds}
    figures = looking._spread(SpreadFigures(count=8, mean_seconds=1.0, sd_seconds=0.0, histogram=histogram))

    assert len(figures["histogram"]) == 148
    assert [nth for nth, jobs in enumerate(figures["histogram"]) if jobs] == list(seconds.values())


async def test_a_moved_job_frees_the_queue_it_left(client: reqless.Client, queue: reqless.Queue, store: Store) -> None:
    """Also when it is another worker's, which is told."""
    queue.throttle.set_maximum(1)
    first, second = queue.put(ORDER, "{}"), queue.put(ORDER, "{}")
    other = await hand(store, "other", queues=[queue.name])
    (taken,) = await other.take()
    assert (taken.id, queue.pop()) == (first, None)
    job_of(client, first).move(f"{queue.name}-elsewhere")
    assert queue.pop().jid == second
    assert await other.settle(taken) == "stale"
    until(lambda: queue.throttle.locks() == [second], 5, "the first to be let go of")


def test_what_happens_in_a_block_is_told_by_its_end(client: reqless.Client, queue: reqless.Queue) -> None:
    told: list[str] = []
    client.events.on("completed", told.append)
    jids = [queue.put(ORDER, "{}") for _ in range(20)]
    with client.events.thread():
        for jid in jids:
            client.track(jid)
        for job in queue.pop(20):
            job.complete()
    assert told == jids
