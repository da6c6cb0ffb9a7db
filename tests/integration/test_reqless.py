"""reqless' face: the names and arguments of its Python client, over our store."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
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
from rrqd.store import Store
from tests.support import shop
from tests.support.moves import hand
from tests.support.reqless_face import job_of
from tests.support.wait import until

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


def test_a_job_goes_on_under_the_rules_of_its_next_queue(client: reqless.Client, queue: reqless.Queue) -> None:
    after = client.queues[f"{queue.name}-after"]
    after.throttle.set_maximum(1)
    first, second = queue.put(GNOME, "{}"), queue.put(GNOME, "{}")
    ahead = after.put(ORDER, "{}", delay=3600)
    one, two = queue.pop(2)
    assert (one.complete(after.name, depends=[ahead, "gone"]), after.jobs.depends()) == ("depends", [first])
    assert two.complete(after.name) == "waiting"
    assert job_of(client, first).undepend(ahead)
    assert after.pop().jid == first
    assert (after.pop(), after.throttle.locks(), after.counts["waiting"]) == (None, [first], 1)
    after.throttle.set_maximum(2)
    assert after.pop().jid == second


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
    assert [one["what"] for one in job.history] == ["put", "popped", "done", "put", "popped", "done"]


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


# -- order, time, limits ---------------------------------------------------------------------------------------


def test_priorities_order_a_queue_and_can_be_changed(client: reqless.Client, queue: reqless.Queue) -> None:
    low, first, second, high = (queue.put(ORDER, "{}", priority=n) for n in (-1, None, None, 2))
    job_of(client, low).priority = 10_000_000.5

    assert [job.jid for job in queue.peek(count=10)] == [low, high, first, second]
    assert queue.peek().jid == low
    assert [job.jid for job in queue.pop(3)] == [low, high, first]


def test_equal_priorities_keep_their_order_at_any_number(client: reqless.Client, queue: reqless.Queue) -> None:
    jids = [queue.put(ORDER, "{}", priority=100_000_000) for _ in range(5)]
    job_of(client, jids[2]).priority = 100_000_000

    assert [job.jid for job in queue.pop(5)] == jids


def test_a_recurring_job_is_made_when_its_time_has_come(client: reqless.Client, queue: reqless.Queue) -> None:
    jid = queue.recur(ORDER, '{"n": [ ]}', interval=3600, offset=0, priority=4, tags=["cron"], retries=2, backlog=1)
    template = client.jobs[jid]
    assert isinstance(template, reqless.RecurringJob)
    assert (template.klass, template.interval, template.data, template.count) == (shop.Order, 3600, '{"n": [ ]}', 0)
    assert (queue.jobs.recurring(), queue.counts["recurring"], template.retries) == ([jid], 1, 2)

    first = queue.pop()
    assert (first.jid, first.data, first.tags, first.spawned_from_jid) == (f"{jid}-1", '{"n": [ ]}', ["cron"], jid)
    assert queue.pop() is None
    template.interval, template.priority, template.data = 60, 1, {"n": 2}
    assert (template.tag("more"), template.untag("cron")) == (["cron", "more"], ["more"])
    template.move("elsewhere")
    seen = client.jobs[jid]
    assert isinstance(seen, reqless.RecurringJob)
    assert (seen.count, seen.priority, seen.data, seen.queue_name) == (1, 1, '{"n":2}', "elsewhere")
    assert 0 < seen.next - time.time() <= 60
    assert (seen.cancel(), client.jobs[jid]) == (True, None)


def test_dependencies_hold_a_job_back_until_all_have_completed(client: reqless.Client, queue: reqless.Queue) -> None:
    other = client.queues[f"{queue.name}-other"]
    parents = [queue.put(ORDER, "{}"), other.put(ORDER, "{}")]
    child = queue.put(ORDER, "{}", depends=[*parents, "gone"], delay=0)
    assert (job_of(client, child).state, queue.jobs.depends()) == ("depends", [child])
    assert sorted(job_of(client, child).dependencies) == sorted(parents)
    assert job_of(client, parents[0]).dependents == [child]

    with pytest.raises(reqless.ReqlessError, match="depend on it"):
        client.cancel(parents[0])
    queue.pop().complete()
    assert queue.pop() is None
    job_of(client, child).undepend(all=True)
    assert queue.pop().jid == child
    late = queue.put(ORDER, "{}", depends=[parents[1]])
    with pytest.raises(reqless.ReqlessError, match="waits for job"):
        job_of(client, parents[1]).depend(late)


def test_throttles_limit_what_runs_and_wake_who_waits(client: reqless.Client, queue: reqless.Queue) -> None:
    api = client.throttles[f"api-{queue.name}"]
    assert (api.ttl(), api.maximum()) == (-2, 0)
    api.set_maximum(1, expiration=100)
    assert (api.maximum(), 98 < api.ttl() <= 100) == (1, True)
    first, second, third = (queue.put(ORDER, "{}", throttles=[api.name, "ql:q:mine"]) for _ in range(3))

    running = queue.pop()
    assert (running.jid, queue.pop(), api.locks(), api.pending()) == (first, None, [first], [second, third])
    assert (queue.counts["throttled"], job_of(client, second).state) == (2, "throttled")
    running.complete()
    again = queue.pop()
    assert again.jid == second
    again.move(f"{queue.name}-elsewhere")  # a move lets go of what is held
    assert queue.pop().jid == third
    api.delete()
    queue.throttle.set_maximum(1)
    fourth, _ = queue.put(ORDER, "{}"), queue.put(ORDER, "{}")
    assert (queue.pop().jid, queue.pop(), queue.throttle.locks()) == (fourth, None, [fourth])


def test_a_paused_queue_gives_nothing(client: reqless.Client, queue: reqless.Queue) -> None:
    queue.put(ORDER, "{}")
    queue.pause()
    assert (queue.pop(), queue.counts["paused"]) == (None, True)
    queue.unpause()
    held = queue.pop()
    queue.pause(stop_jobs=True)
    assert (queue.counts["running"], job_of(client, held.jid).state) == (0, "waiting")
    with pytest.raises(reqless.LostLockError):
        held.complete()


async def test_jobs_of_a_lapsed_lease_are_stalled(client: reqless.Client, queue: reqless.Queue, store: Store) -> None:
    jid = queue.put(ORDER, "{}")
    other = await hand(store, "dead", "dead-node", queues=[queue.name])
    assert [job.id for job in await other.take()] == [jid]
    await store.renew("dead-node", 1)
    until(lambda: queue.jobs.stalled() == [jid], 5, "the lease to end")
    assert (queue.counts["stalled"], queue.counts["running"], len(queue)) == (1, 0, 1)
    assert client.workers["dead"] == {"jobs": [], "stalled": [jid]}
    (dead,) = [one for one in client.workers.counts if one["name"] == "dead"]
    assert (dead["jobs"], dead["stalled"], dead["seen"] < 10) == (0, 1, True)
    alive = await hand(store, "alive", "living-node", queues=[queue.name])
    assert await alive.take() == []
    with pytest.raises(reqless.ReqlessError, match="alive lives"):
        await asyncio.to_thread(client.workers.forget, "nobody", "dead", "alive")
    assert {"dead", "alive"} & {one["name"] for one in client.workers.counts} == {"alive"}
    assert job_of(client, jid).state == "waiting"


# -- moves -----------------------------------------------------------------------------------------------------


def test_who_holds_a_job_fails_and_retries_it(client: reqless.Client, queue: reqless.Queue) -> None:
    jid = queue.put(ORDER, '{"n": 1}', retries=1)
    job = queue.pop()
    job.data = {"n": 2}
    assert job.heartbeat() > time.time()
    job.log("half way", {"rows": 12})
    assert (job.retry(), job.decided) == (0, True)
    with pytest.raises(reqless.LostLockError):
        job.complete()

    job = queue.pop()
    assert (job.data, job.retries_left) == ('{"n":2}', 0)
    assert job.retry(group="worn-out", message="no more") == -1
    failed = job_of(client, jid)
    assert (failed.failure["group"], failed.failure["message"], failed.retries_left) == ("worn-out", "no more", -1)
    assert {"half way", "retried", "failed"} <= {one["what"] for one in failed.history}
    assert client.unfail("worn-out", f"{queue.name}-again") == 1
    again = client.queues[f"{queue.name}-again"].pop()
    with pytest.raises(reqless.ReqlessError, match="group cannot be blank"):
        again.fail("", "no use")
    again.fail("odd", "no use")
    again = job_of(client, jid)
    assert again.failure == {**again.failure, "group": "odd", "message": "no use"}
    again.move(queue.name)
    assert (queue.pop().jid, client.jobs.failed("odd")["total"]) == (jid, 0)


def test_a_job_that_was_taken_away_is_lost_to_who_held_it(client: reqless.Client, queue: reqless.Queue) -> None:
    queue.put(ORDER, "{}", retries=1)
    first = queue.pop()
    job_of(client, first.jid).timeout()
    with pytest.raises(reqless.LostLockError):
        first.heartbeat()
    again = queue.pop()
    assert (again.jid, again.retries_left) == (first.jid, 1)
    client.cancel(again.jid)
    with pytest.raises(reqless.LostLockError, match="cancelled"):
        again.heartbeat()
    assert client.jobs[again.jid] is None


def test_a_put_of_an_id_that_is_there_is_that_job_from_now_on(client: reqless.Client, queue: reqless.Queue) -> None:
    other = client.queues[f"{queue.name}-other"]
    jid = queue.put(ORDER, "{}", jid=f"mine-{queue.name}", tags=["old"])
    child = queue.put(ORDER, "{}", depends=[jid], priority=-5)
    held = queue.pop()
    assert other.put(ORDER, '{"new": 1}', jid=jid, tags=["new"]) == jid
    assert (job_of(client, jid).data, job_of(client, jid).tags) == ('{"new": 1}', ["new"])
    with pytest.raises(reqless.LostLockError):
        held.complete()
    other.pop().complete()
    assert queue.pop().jid == child
    other.requeue(ORDER, "{}", jid=jid)
    assert (job_of(client, jid).state, len(other)) == ("waiting", 1)
    with pytest.raises(reqless.ReqlessError, match="no job"):
        other.requeue(ORDER, "{}", jid="nobody")


# -- tags, tracking, events ----------------------------------------------------------------------------------------


def test_tags_are_searched_and_counted(client: reqless.Client, queue: reqless.Queue) -> None:
    tag = f"tag-{queue.name}"
    first, second = queue.put(ORDER, "{}", tags=[tag]), queue.put(ORDER, "{}")
    assert job_of(client, second).tag(tag, "other") == [tag, "other"]
    assert job_of(client, second).tag(tag) == [tag, "other"]
    assert client.jobs.tagged(tag) == {"total": 2, "jobs": [second, first]}
    assert job_of(client, second).untag("other") == [tag]
    assert tag in client.tags(count=1000)


def test_events_tell_of_tracked_jobs(client: reqless.Client, queue: reqless.Queue) -> None:
    told: list[tuple[str, str]] = []
    ended = threading.Event()
    for name in ("popped", "completed", "failed", "canceled", "put", "stalled", "track", "untrack"):
        client.events.on(name, lambda jid, name=name: told.append((name, jid)))
    client.events.on("untrack", lambda jid: ended.set())
    client.events.off("put")
    with pytest.raises(NotImplementedError, match="exploded"):
        client.events.on("exploded", print)

    jid, silent = queue.put(ORDER, "{}"), queue.put(ORDER, "{}")
    with client.events.thread():
        assert (client.track(jid), client.track(jid)) == (True, False)
        assert {jid, silent} & {job.jid for job in client.jobs.tracked()["jobs"]} == {jid}
        queue.pop().fail("odd", "why")
        client.unfail("odd", queue.name)
        silent_job, job = queue.pop(2)
        silent_job.complete()
        job.timeout()
        again = queue.pop()
        again.complete(f"{queue.name}-after")
        client.cancel(jid)
        client.queues[f"{queue.name}-more"].put(ORDER, "{}", jid=jid)
        assert client.track(jid)
        assert job_of(client, jid).untrack()
        assert ended.wait(10)
    assert told == [
        (event, jid)
        for event in (
            "track", "popped", "failed", "popped", "stalled", "popped", "completed", "canceled", "track",
        )
    ]  # fmt: skip
    assert silent not in dict(told).values()
    with pytest.raises(reqless.ReqlessError, match="no job"):
        client.track("nobody")


# -- configuration --------------------------------------------------------------------------------------------


def test_configuration_is_a_mapping_in_the_store(client: reqless.Client, queue: reqless.Queue) -> None:
    config = client.config
    config.clear()
    config["application"] = "shop"
    config.update({"heartbeat": 30, "jobs-history": 3600, f"{queue.name}-heartbeat": 5.5})
    assert config.all == {
        "application": "shop",
        "heartbeat": 30.0,
        "jobs-history": 3600,
        f"{queue.name}-heartbeat": 5.5,
    }
    assert (queue.heartbeat, client.queues["other"].heartbeat, len(config)) == (5.5, 30.0, 4)
    queue.heartbeat = 7
    assert (config[f"{queue.name}-heartbeat"], config.get("nothing", 1), "application" in config) == (7.0, 1, True)
    del config["heartbeat"]
    assert config.pop("application") == "shop"
    with pytest.raises(KeyError):
        del config["heartbeat"]
    with pytest.raises(reqless.ReqlessError, match="history_seconds must be a whole number"):
        config["jobs-history"] = "long"
    config.clear()
    assert config.all == {}


async def test_completed_jobs_are_kept_as_long_as_the_configuration_says(
    client: reqless.Client, queue: reqless.Queue, place: Connection, store: Store
) -> None:
    async def kept(jid: str) -> int:
        return int(await (await store.link()).call("TTL", store.keys.job(jid)))

    week, hour, alike = (queue.put(ORDER, "{}") for _ in range(3))
    queue.pop().complete()
    client.config["jobs-history"] = 3600
    queue.stats()  # tells, and hears
    queue.pop().complete()
    await asyncio.to_thread(work, place, queue)
    assert [round(await kept(jid), -2) for jid in (week, hour, alike)] == [604_800, 3600, 3600]
    client.config.clear()


def test_named_lists_of_queues_are_kept(client: reqless.Client) -> None:
    patterns = client.queue_patterns
    patterns.set_queue_identifier_patterns({"night": ["reports-*", "!reports-slow"], "gone": ["x"]})
    patterns.set_queue_identifier_patterns({"night": ["reports-*", "!reports-slow"], "none": []})
    assert patterns.get_queue_identifier_patterns() == {"default": ["*"], "night": ["reports-*", "!reports-slow"]}
    assert "@night" not in client.config
    with pytest.raises(reqless.ReqlessError, match="names another list"):
        patterns.set_queue_identifier_patterns({"bad": ["@night"]})
    patterns.set_queue_identifier_patterns({})


def test_buckets_of_queues_are_kept(client: reqless.Client) -> None:
    patterns, bucket = client.queue_patterns, reqless.QueuePriorityPattern
    assert patterns.get_queue_priority_patterns() == []
    patterns.set_queue_priority_patterns([bucket(["vip-*", "!vip-slow"]), bucket(["default"], True), bucket(["bulk"])])
    assert patterns.get_queue_priority_patterns() == [
        bucket(["vip-*", "!vip-slow"]), bucket(["default"], True), bucket(["bulk"])
    ]  # fmt: skip
    patterns.set_queue_priority_patterns([bucket(["hi"], True)])
    assert patterns.get_queue_priority_patterns() == [bucket(["hi"], True), bucket(["default"])]
    assert "queue_buckets" not in client.config
    with pytest.raises(reqless.ReqlessError, match="names a list"):
        patterns.set_queue_priority_patterns([bucket(["@night"])])
    patterns.set_queue_priority_patterns([])
    assert patterns.get_queue_priority_patterns() == []


# -- programs and their trouble ------------------------------------------------------------------------------------


def test_what_a_program_held_goes_back_when_it_closes(client: reqless.Client, queue: reqless.Queue) -> None:
    jid = queue.put(ORDER, "{}")
    assert queue.pop().jid == jid
    client.close()
    until(lambda: job_of(client, jid).state == "waiting", 5, "the job to be back")
    job = queue.pop()
    job.process()
    assert job_of(client, jid).state == "complete"


def test_what_can_not_be_is_refused_and_changes_nothing(client: reqless.Client, queue: reqless.Queue) -> None:
    class Inner:
        pass

    for call, why in (
        (lambda: queue.put(Inner, "{}"), "inside another function"),
        (lambda: queue.put(ORDER, object()), "JSON"),
        (lambda: queue.put(ORDER, "{}", priority="high"), "priority"),  # type: ignore[arg-type]
        (lambda: queue.recur(ORDER, "{}"), "interval"),
        (lambda: job_of(client, queue.put(ORDER, "{}", delay=60)).timeout(), "does not run"),
    ):
        with pytest.raises(reqless.ReqlessError, match=why):
            call()
    assert queue.counts["waiting"] == 0


def test_the_address_and_redis_pys_options_are_taken() -> None:
    client = reqless.Client("redis://localhost:1", db=3, decode_responses=True)
    assert client.place._dsn == "redis://localhost:1?db=3"
