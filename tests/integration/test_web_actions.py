"""What can be done from pages and API to jobs and queues; each leaves its entry in the audit."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from rrqd.model.lifecycle import End
from rrqd.model.recurring import Recurring
from rrqd.store import Store
from rrqd.web.actions.many import paced
from tests.support.moves import hand, job, known, place_of, raw
from tests.support.web import Site, site_on

SECRET = {"to": "a@b.c", "auth": {"Token": "hush"}}


@pytest.fixture
async def site(store: Store, dsn: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with site_on(dsn, tmp_path) as site:
        yield site


async def latest(site: Site) -> tuple[str, str, str, int]:
    """(who, action, target, count) of the latest entry of the audit."""
    entry = (await site.view("audit?limit=1"))["actions"][0]
    return entry["who"], entry["action"], entry["target"], entry["count"]


async def bury(
    store: Store, *ids: str, error: str = "no such customer 7", kind: str = "LookupError", **more: str
) -> None:
    await store.enqueue_many([job(one, max_retries=1, **more) for one in ids])
    worker = await hand(store, f"worker-{ids[0]}", queues=[more.get("queue", "default")])
    for claimed in await worker.take(len(ids)):
        await worker.settle(claimed, End.BURY, error=error, detail=json.dumps({"type": kind}).encode(), ttl_seconds=99)


async def test_a_recurring_job_is_run_out_of_turn(site: Site, store: Store) -> None:
    options = {"params": {"customer": 1}, "queue_name": "mail", "tags": ["vip"]}
    one = Recurring(id="hourly", function="sync", options=options, interval_ms=3_600_000, next_ms=0)
    await store.put_recurring(one, offset_ms=3_600_000)
    before = await store.recurring("hourly")
    made = await known(store, (await site.act("recurring.run", {"recurring": "hourly"})).json()["job"])
    assert (made.function, made.queue, made.params, made.tags) == ("sync", "mail", {"customer": 1}, ["vip"])
    assert made.fields["rrqd_recurring"] == "hourly"
    assert await store.recurring("hourly") == before
    assert await latest(site) == ("olaf", "recurring.run", "hourly", 1)
    assert (await site.act("recurring.run", {"recurring": "nobody"})).status_code == 404


async def test_a_job_is_enqueued_again_with_other_parameters_and_what_is_hidden_is_kept(
    site: Site, store: Store
) -> None:
    await store.enqueue_many([job("old", params=json.dumps(SECRET).encode(), queue="mail", tags=("vip",))])
    page = await site.page("jobs/old")
    assert "hush" not in page
    form = {"job": "old", "queue": "mail", "params": '{"to": "d@e.f", "auth": {"Token": "***"}}', "back": "jobs/old"}
    answer = await site.form("job.requeue", urlencode(form))
    new = re.fullmatch(r"/jobs/([0-9a-f-]{36})\?did=job.requeue&count=1", answer.headers["location"])[1]  # type: ignore[index]
    again = await known(store, new)
    assert again.params == {"to": "d@e.f", "auth": {"Token": "hush"}}
    assert (again.queue, again.tags, (await known(store, "old")).status) == ("mail", ["vip"], "PENDING")
    assert await latest(site) == ("olaf", "job.requeue", "old", 1)
    assert "hush" not in (await site.ask("api/v1/audit")).text
    like = (await site.act("job.requeue", {"job": "old", "queue": "other"})).json()["job"]
    assert ((await known(store, like)).params, (await known(store, like)).queue) == (SECRET, "other")


@pytest.mark.parametrize(
    ("words", "status", "why"),
    [
        ({"job": "nobody"}, 404, "there is no job 'nobody'"),
        ({"job": "old", "params": [1]}, 422, "params must be a JSON object"),
        ({"job": "old", "params": {"password": "***"}}, 422, "password is ***, which stands for a hidden value"),
        ({"job": "old", "params": {"n": "x" * 1_048_000}}, 422, "the limit is 1048576"),
        ({"job": "old", "queue": ""}, 422, "queue must be a text"),
    ],
)  # fmt: skip
async def test_what_makes_no_new_job_is_refused(
    site: Site, store: Store, words: dict[str, object], status: int, why: str
) -> None:
    await store.enqueue_many([job("old")])
    if why.startswith("the limit"):
        words = {**words, "params": {"n": "é" * 1_048_000}}
        assert (await site.act("job.requeue", words)).status_code == 413
        return
    answer = await site.act("job.requeue", words)
    assert (answer.status_code, why in answer.json()["error"]) == (status, True), answer.text
    assert (await site.view("audit"))["actions"] == []


async def test_a_job_is_deleted_unless_it_runs(site: Site, store: Store) -> None:
    await store.enqueue_many([job("runs"), job("waits"), job("too")])
    await (await hand(store)).take(1)
    assert (await site.act("job.delete", {"job": "waits"})).json()["count"] == 1
    assert (await store.get("waits"), await latest(site)) == (None, ("olaf", "job.delete", "waits", 1))
    refused = await site.act("job.delete", {"job": "runs"})
    assert (refused.status_code, refused.json()["error"]) == (409, "the job runs; cancel it first")
    assert (await site.act("job.delete", {"job": "waits"})).status_code == 404
    many = await site.act("jobs.delete", {"jobs": ["too", "runs"], "confirm": 2})
    assert many.json() == {"ok": True, "count": 1, "asked_for": 2}
    assert await latest(site) == ("olaf", "jobs.delete", "2 jobs", 1)


async def test_a_job_is_moved_made_due_and_taken_from_its_worker(site: Site, store: Store) -> None:
    await store.enqueue_many([job("late", delay_ms=60_000), job("runs")])
    assert "Run now" in await site.page("jobs/late")
    assert (await site.act("job.run", {"job": "late"})).json()["said"] == "moved"
    assert (await site.act("job.move", {"job": "late", "queue": "mail", "priority": 3})).status_code == 200
    (taken,) = await (await hand(store, "mailer", queues=["mail"])).take()
    assert (taken.id, await latest(site)) == ("late", ("olaf", "job.move", "late", 1))
    await (await hand(store)).take()
    assert (await site.act("job.run", {"job": "runs"})).json()["error"] == "the job is running"
    assert (await site.act("job.timeout", {"job": "runs"})).json()["said"] == "taken"
    assert (await known(store, "runs")).status == "PENDING"
    assert (await site.act("job.move", {"job": "nobody"})).status_code == 404


async def test_many_come_back_at_a_rate(site: Site, store: Store) -> None:
    await bury(store, *(f"j{n}" for n in range(30)))
    answer = await site.act("dlq.retry", {"confirm": 30, "rate": 10})
    assert (answer.json()["count"], answer.json()["seconds"]) == (30, 3.0)
    (depth,) = await store.queue_depths(["default"])
    assert depth.waiting == 30
    assert depth.due < 10
    ids = await store.queue_page("default", 0, 50)
    assert ids == [f"j{n}" for n in range(30)]
    due = [float(await raw(store, "ZSCORE", "rrq:queue:default", one)) for one in ids]
    assert 2700 <= due[-1] - due[0] <= 3200
    assert list(paced(["a", "b", "c"], 0.5)) == [(0, ["a"]), (2000, ["b"]), (4000, ["c"])]
    assert [len(part) for _, part in paced(["x"] * 50, 1000.0)] == [20, 20, 10]


async def test_a_queue_is_cleared_by_who_types_its_name(site: Site, store: Store) -> None:
    await store.enqueue_many(
        [job(f"j{n}", queue="mail", priority=n % 3 or None, delay_ms=n % 2 * 60_000) for n in range(250)]
    )
    await store.enqueue_many([job("other")])
    assert (await site.act("queue.clear", {"queue": "mail", "confirm": "250"})).status_code == 409
    assert (await site.act("queue.clear", {"queue": "mail", "confirm": "mail"})).json()["count"] == 250
    assert await latest(site) == ("olaf", "queue.clear", "mail", 250)
    assert await raw(store, "KEYS", "rrq:job:*") == [b"rrq:job:other"]
    assert (await site.act("queue.clear", {"queue": "mail", "confirm": "mail"})).json()["count"] == 0


async def test_failures_are_filtered_counted_retried_and_deleted(site: Site, store: Store) -> None:
    await bury(store, "a", "b", function="bill")
    await bury(store, "c", function="bill", error="the bank is closed", kind="OSError")
    await bury(store, "d", function="send", queue="mail")
    seen = await site.view("failures?function=bill&words=customer")
    assert (seen["matched"], seen["looked_at"], seen["total"], len(seen["groups"])) == (2, 4, 4, 1)
    assert seen["groups"][0]["queues"] == ["default"]
    page = await site.page("failures?function=bill&type=OSError")
    assert "the bank is closed" in page
    assert "no such customer" not in page
    for words, status in ({"function": "bill", "confirm": 4}, 409), ({"function": "nobody", "confirm": 0}, 404):
        assert (await site.act("dlq.retry", words)).status_code == status
    assert (await site.act("dlq.retry", {"function": "bill", "words": "customer", "confirm": 2})).json()["count"] == 2
    assert await latest(site) == ("olaf", "dlq.retry", "function=bill, words=customer", 2)
    assert await place_of(store, "a") == ["queue:default"]
    signature = (await site.view("failures?queue=mail"))["groups"][0]["signature"]
    form = urlencode({"signature": signature, "confirm": 1, "look": 1000, "back": "failures"})
    assert "1 job deleted." in await site.page((await site.form("dlq.delete", form)).headers["location"][1:])
    assert await store.get("d") is None
    assert (await site.act("dlq.delete", {"confirm": 1})).json()["count"] == 1
    assert await latest(site) == ("olaf", "dlq.delete", "all", 1)
    assert "No job is buried" in await site.page("failures")


async def test_a_job_is_let_go_of_a_parent(site: Site, store: Store) -> None:
    await store.enqueue_many([job("p"), job("q"), job("c", parents=("p", "q")), job("free")])
    assert (await site.page("jobs/c")).count("Wait no more") == 2
    assert (await site.act("job.undepend", {"job": "c", "parent": "p"})).json()["said"] == "waits"
    assert (await site.page("jobs/c")).count("Wait no more") == 1
    assert (await site.act("job.undepend", {"job": "c"})).json()["said"] == "ready"
    assert await place_of(store, "c") == ["queue:default"]
    assert await latest(site) == ("olaf", "job.undepend", "c", 1)
    assert (await site.act("job.undepend", {"job": "nobody"})).status_code == 404
    assert (await site.act("job.undepend", {"job": "free"})).status_code == 409


async def test_the_stores_configuration_is_seen_set_and_unset(site: Site, store: Store) -> None:
    assert "Nothing is set." in await site.page("config")
    form = {"key": "history_seconds", "value": "60", "queue": "mail", "back": "config"}
    assert (await site.form("config.set", urlencode(form))).headers["location"] == "/config?did=config.set&count=1"
    assert (await site.act("config.set", {"key": "@night", "value": "reports-* !slow"})).json()["count"] == 1
    assert await store.config() == {"history_seconds mail": "60", "@night": '["reports-*","!slow"]'}
    page = await site.page("config")
    assert "Unset @night" in page
    assert "<td>mail</td><td>60</td>" in page
    for wrong in (
        {"key": "history_second", "value": "1"}, {"key": "history_seconds", "value": "soon"},
        {"key": "@night", "value": "a", "queue": "mail"},
    ):  # fmt: skip
        assert (await site.act("config.set", wrong)).status_code == 422
    assert (await site.act("config.unset", {"key": "history_seconds", "queue": "mail"})).json()["count"] == 1
    assert (await site.act("config.unset", {"key": "history_seconds"})).json()["count"] == 0
    assert await store.config() == {"@night": '["reports-*","!slow"]'}
