"""Dashboard and JSON API of a running daemon: what an operator sees and does, and what a stranger can't."""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import pytest

from rrqd.client import SyncRRQClient
from tests.support.commands import rrqd
from tests.support.daemon import Daemon, quiet_port
from tests.support.terminal import Terminal
from tests.support.wait import until

JOBS = """
import asyncio

from rrqd import Registry

registry = Registry()


@registry.handler("ok")
async def ok(request):
    return {"token": "seen", "n": 1}


@registry.handler("boom")
async def boom(request):
    raise ValueError(f"no such customer {request.params.get('n')}")


@registry.handler("nap")
async def nap(request):
    await asyncio.sleep(60)
"""
BOTH = [
    "jobs", "jobs?state=completed&since=1h", "matching?queue=default", "queues", "queues/default", "running",
    "failures", "dlq", "workers", "tags", "tracked", "audit", "schedules", "throttles", "stats/default",
]  # fmt: skip
PAGES = ["", "config", "stats", "functions/ok", *BOTH]
VIEWS = ["overview", "series", "functions", "functions/default", *BOTH]
HOSTILE = "<script>alert('x')</script>\"&"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    cron = [{"name": "nightly", "function_name": "ok", "schedule": "0 0 3 1 1 *"}]
    with Daemon(http=True, stand_ins=False, jobs=JOBS, rrq={"default_max_retries": 1, "cron_jobs": cron}) as daemon:
        daemon.expect_log("rrqd.ready")
        yield daemon
        assert daemon.stop() == 0


@pytest.fixture(scope="module")
def client(daemon: Daemon) -> Iterator[SyncRRQClient]:
    with SyncRRQClient(config={"redis_dsn": f"redis://127.0.0.1:{daemon.port}/0"}) as client:
        yield client


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    text: str

    @property
    def data(self) -> Any:
        return json.loads(self.text)


def ask(daemon: Daemon, path: str, method: str = "GET", body: str | None = None, **headers: str) -> Answer:
    connection = http.client.HTTPConnection(daemon.rrqd["http"], timeout=10)
    try:
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, said)
        answer = connection.getresponse()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode())
    finally:
        connection.close()


def page(daemon: Daemon, path: str, **headers: str) -> Answer:
    return ask(daemon, f"/{path}", accept="text/html", **headers)


def act(daemon: Daemon, name: str, words: Any, **headers: str) -> Answer:
    said = {"content_type": "application/json", **headers}
    return ask(daemon, f"/api/v1/actions/{name}", "POST", json.dumps(words), **said)


class Tags(HTMLParser):
    """The names of all elements, and whether any carries script or style of its own."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.inline: list[str] = []
        self.names: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        given = dict(attrs)
        if "style" in given or any(name.startswith("on") for name in given) or (tag == "script" and "src" not in given):
            self.inline.append(tag)


def test_every_page_answers_with_nothing_inline_and_nothing_from_elsewhere(daemon: Daemon) -> None:
    for path in PAGES:
        answer = page(daemon, path)
        assert answer.status == 200, path
        assert Tags(answer.text).inline == [], path
        assert answer.text.count("<h1>") == 1
        assert not re.search(r'(src|href)="(https?:)?//', answer.text), path
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
    for name in ("rrqd.css", "rrqd.js"):
        assert ask(daemon, f"/static/{name}").status == 200
    assert ask(daemon, "/static/app.py").status == 404


def test_every_view_of_the_api_answers_and_the_document_names_it(daemon: Daemon) -> None:
    document = ask(daemon, "/api/v1/openapi.json").data
    for view in VIEWS:
        answer = ask(daemon, f"/api/v1/{view}")
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json"), view
        asked = f"/api/v1/{view.partition('?')[0]}"
        assert any(re.fullmatch(re.sub(r"\{\w+\}", "default", path), asked) for path in document["paths"]), view


def test_a_failure_is_found_grouped_read_and_retried(daemon: Daemon, client: SyncRRQClient) -> None:
    jobs = [client.enqueue("boom", {"params": {"n": n, "password": "hush"}}) for n in range(3)]
    until(lambda: ask(daemon, "/api/v1/failures").data["total"] >= 3, 10, "three buried jobs")
    group = next(one for one in ask(daemon, "/api/v1/failures").data["groups"] if one["function"] == "boom")
    assert (group["count"], group["type"]) == (3, "ValueError")
    assert "no such customer" in page(daemon, "failures").text
    shown = page(daemon, f"jobs/{jobs[0]}").text
    assert "Traceback" in shown
    assert "hush" not in shown
    assert act(daemon, "dlq.retry", {"signature": group["signature"], "confirm": 2}).status == 409
    done = act(daemon, "dlq.retry", {"signature": group["signature"], "confirm": 3})
    assert (done.status, done.data["count"]) == (200, 3)
    until(lambda: ask(daemon, "/api/v1/failures").data["total"] >= 3, 10, "the three to be buried again")
    meant = f"state=failed&signature={group['signature']}"
    assert "These jobs" in page(daemon, "failures").text
    assert sorted(one["id"] for one in ask(daemon, f"/api/v1/jobs?{meant}").data["jobs"]) == sorted(jobs)
    assert ask(daemon, f"/api/v1/matching?{meant}").data["count"] == 3
    assert "Type 3 to confirm" in page(daemon, f"matching?{meant}").text
    assert act(daemon, "matching.retry", {"filter": meant, "confirm": 2}).status == 409
    assert act(daemon, "matching.retry", {"filter": "limit=3", "confirm": 3}).status == 422
    assert act(daemon, "matching.retry", {"filter": meant, "confirm": 3}).data == {
        "ok": True, "count": 3, "asked_for": 3,
    }  # fmt: skip
    newest = ask(daemon, "/api/v1/audit").data["actions"][0]
    assert (newest["who"], newest["action"], newest["count"]) == ("local", "matching.retry", 3)
    assert "dlq.retry" in page(daemon, "audit").text


def test_history_is_drawn_with_the_start_marked_and_is_there_as_a_table(daemon: Daemon, client: SyncRRQClient) -> None:
    client.wait_for_completion(client.enqueue("ok", {}), timeout_seconds=10)
    view = "/api/v1/series?queue=default&span=hours"
    until(lambda: ask(daemon, view).data["points"][-1]["completed"], 10, "the workers' report")
    assert [one["kind"] for one in ask(daemon, view).data["deploys"]] == ["start"]
    for place in ("?span=hours", "queues/default?span=hours"):
        names = Tags(shown := page(daemon, place).text).names
        assert (names.count("svg"), shown.count('class="mark"')) == (3, 3), place
        assert "<rect class=" in shown, place
        assert "As a table" in shown, place
    assert ask(daemon, "/api/v1/series?span=weeks").status == 422
    (row,) = [one for one in ask(daemon, "/api/v1/functions").data["functions"] if one["function"] == "ok"]
    assert ask(daemon, "/api/v1/functions/ok").data["days"][0]["completed"] == row["completed"] > 0
    assert 'href="functions/ok"' in page(daemon, "stats").text
    for place in ("functions/ok?days=7", "stats/default"):
        shown = page(daemon, place).text
        assert (Tags(shown).names.count("svg"), shown.count("<rect class=") >= 2) == (2, True), place
        assert "95% within" in shown, place


def test_a_queue_is_paused_and_resumed_by_the_form_on_its_page(daemon: Daemon, client: SyncRRQClient) -> None:
    form = {"content_type": "application/x-www-form-urlencoded"}
    words = urlencode({"queue": "default", "back": "queues?x=1"})
    answer = ask(daemon, "/do/queue.pause", "POST", words, **form)
    assert answer.status == 303
    assert answer.headers["location"].startswith("/queues?x=1&did=queue.pause&count=")
    job = client.enqueue("ok", {})
    assert job in page(daemon, "queues/default").text
    until(lambda: "queue default is paused" in page(daemon, "").text, 5, "a word of it on the first page")
    assert ask(daemon, "/do/queue.resume", "POST", words, **form).status == 303
    assert client.wait_for_completion(job, timeout_seconds=10).status == "COMPLETED"
    assert ask(daemon, f"/api/v1/jobs/{job}").data["result"] == {"token": "***", "n": 1}


def test_a_running_job_is_seen_and_cancelled(daemon: Daemon, client: SyncRRQClient) -> None:
    job = client.enqueue("nap", {"tags": ["night & day"]})
    until(lambda: job in {one["id"] for one in ask(daemon, "/api/v1/running").data["jobs"]}, 10, "the job to run")
    assert job in page(daemon, "running").text
    assert job in page(daemon, "tags/" + quote("night & day", "")).text
    assert act(daemon, "job.tag", {"job": job, "tags": ["late"]}).data["tags"] == ["night & day", "late"]
    assert act(daemon, "job.track", {"job": job}).data["count"] == 1
    assert job in page(daemon, "tracked").text
    assert act(daemon, "matching.cancel", {"filter": "state=active&function=nap", "confirm": 1}).data["count"] == 1
    until(lambda: ask(daemon, f"/api/v1/jobs/{job}").data["status"] == "CANCELLED", 10, "the cancel")
    assert act(daemon, "job.cancel", {"job": job}).data["said"] == "cancelled"  # asked for twice, it is so all the same
    found = ask(daemon, "/find?" + urlencode({"q": "queue:default error:no such"}))
    assert found.headers["location"] == "/jobs?queue=default&error=no+such"
    assert ask(daemon, "/api/v1/jobs?state=done").status == 422
    assert ask(daemon, "/api/v1/jobs?cursor=x").status == 422
    found = ask(daemon, "/find?" + urlencode({"q": f" {job} "}))
    assert (found.status, found.headers["location"]) == (303, f"/jobs/{job}")


def test_a_limit_is_set_seen_and_lifted_and_a_job_says_that_it_waits_for_it(
    daemon: Daemon, client: SyncRRQClient
) -> None:
    assert act(daemon, "throttle.set", {"throttle": "printer", "limit": 0}).status == 200
    job = client.enqueue("ok", {"throttles": ["printer"]})
    until(lambda: ask(daemon, "/api/v1/throttles/printer").data["waiting"] == [job], 10, "the job to wait")
    assert "printer" in page(daemon, "throttles").text
    assert "Why it waits" in page(daemon, f"jobs/{job}").text
    assert "printer" in ask(daemon, f"/api/v1/jobs/{job}").data["why"][0]["text"]
    child = client.enqueue("ok", {"depends_on": [job]})
    assert ask(daemon, f"/api/v1/jobs/{job}").data["children"] == [child]
    assert act(daemon, "throttle.delete", {"throttle": "printer"}).data["count"] == 1
    assert client.wait_for_completion(child, timeout_seconds=10).status == "COMPLETED"
    assert page(daemon, "throttles/nobody").status == 404


def test_the_timetable_is_seen_and_an_entry_paused_and_run_now(daemon: Daemon, client: SyncRRQClient) -> None:
    (row,) = ask(daemon, "/api/v1/schedules").data["cron"]
    assert (row["name"], row["fired"], row["paused"]) == ("nightly", 0, False)
    assert re.search(r"-01-01T03:00:00", row["next"])
    job = act(daemon, "cron.run", {"cron": "nightly"}).data["job"]
    assert client.wait_for_completion(job, timeout_seconds=10).status == "COMPLETED"
    assert act(daemon, "cron.pause", {"cron": "nightly"}).data["count"] == 1
    assert "paused" in page(daemon, "schedules").text
    assert act(daemon, "cron.resume", {"cron": "nightly"}).data["count"] == 1
    assert act(daemon, "cron.run", {"cron": "nobody"}).status == 404


def test_workers_are_scaled_and_restarted_from_their_page(daemon: Daemon) -> None:
    assert "Pool default: 2 of 2 ready" in page(daemon, "workers").text
    assert act(daemon, "pool.scale", {"pool": "default", "processes": 3}).data["processes"] == 3
    until(lambda: "Pool default: 3 of 3 ready" in page(daemon, "workers").text, 20, "the third")
    assert act(daemon, "pool.scale", {"pool": "default", "processes": 2}).status == 200
    assert act(daemon, "pool.restart", {"pool": "default", "slot": 0}).data["workers"] == ["default/0"]
    refused = act(daemon, "pool.pause", {"pool": "nobody"})
    assert (refused.status, "there is no pool" in refused.data["error"]) == (409, True)


def test_hostile_text_is_only_ever_text(daemon: Daemon, client: SyncRRQClient) -> None:
    client.enqueue("boom", {"params": {"n": HOSTILE, HOSTILE: HOSTILE}, "queue_name": "default", "tags": [HOSTILE]})
    until(lambda: "alert" in page(daemon, "failures").text, 10, "the failure")
    wanted = Tags(page(daemon, "").text).names.count("script")
    for path in [*PAGES, "tags/" + quote(HOSTILE, ""), "jobs/" + quote(HOSTILE, ""), f"queues?said={quote(HOSTILE)}"]:
        text = page(daemon, path).text
        assert Tags(text).names.count("script") == wanted, path
        assert "<script>alert" not in text


@pytest.mark.parametrize(
    ("name", "words", "status", "why"),
    [
        ("nothing", {}, 404, "there is no action 'nothing'"),
        ("job.cancel", {}, 422, "job is missing: the job's id"),
        ("job.cancel", {"job": "nobody"}, 404, "there is no job 'nobody'"),
        ("job.cancel", {"job": 1}, 422, "job must be a text"),
        ("job.cancel", {"job": "x", "why": "y"}, 422, "job.cancel knows no 'why'"),
        ("job.cancel", [1], 422, "the body must be a JSON object"),
        ("job.priority", {"job": "x", "priority": True}, 422, "priority must be a number"),
        ("jobs.cancel", {"jobs": ["a", "b"], "confirm": 1}, 409, "it is about 2 jobs, not 1"),
        ("pool.scale", {"pool": "default", "processes": 0}, 422, "processes must be 1 or more"),
    ],
)
def test_what_cannot_be_done_says_why(daemon: Daemon, name: str, words: Any, status: int, why: str) -> None:
    answer = act(daemon, name, words)
    assert answer.status == status
    assert why in answer.data["error"]


def test_attacks_change_nothing(daemon: Daemon) -> None:
    before = ask(daemon, "/api/v1/audit").data["actions"]
    words = {"queue": "default"}
    assert ask(daemon, "/api/v1/actions/queue.pause").status == 405
    assert act(daemon, "queue.pause", words, origin="http://evil.example").status == 403
    assert act(daemon, "queue.pause", words, sec_fetch_site="cross-site").status == 403
    assert act(daemon, "queue.pause", words, host="evil.example").status == 400
    assert act(daemon, "queue.pause", words, content_type="text/plain").status == 415
    form = {"content_type": "application/x-www-form-urlencoded", "origin": "http://evil.example"}
    assert ask(daemon, "/do/queue.pause", "POST", "queue=default&back=", **form).status == 403
    assert ask(daemon, "/api/v1/actions/queue.pause", "POST", "{", content_type="application/json").status == 422
    huge = json.dumps({"queue": "x" * 1_100_000})
    assert ask(daemon, "/api/v1/actions/queue.pause", "POST", huge, content_type="application/json").status == 413
    own = {"content_type": "application/x-www-form-urlencoded"}
    away = ask(daemon, "/do/queue.resume", "POST", "queue=default&back=//evil.example/", **own)
    assert away.headers["location"].startswith("/evil.example/")
    for query in ("limit=0", "limit=201", "limit=x", "offset=-1", "offset=99999999999999999999"):
        assert ask(daemon, f"/api/v1/dlq?{query}").status == 422
    after = ask(daemon, "/api/v1/audit").data["actions"]
    assert [one["action"] for one in after if one not in before] == ["queue.resume"]


def test_pages_are_told_when_to_look_again(daemon: Daemon) -> None:
    host, _, port = daemon.rrqd["http"].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as line:
        line.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        heard = b""
        while heard.count(b"event: tick") < 2:
            heard += line.recv(4096)
    assert b"text/event-stream" in heard
    assert b'"due":' in heard


def test_top_watches_it_in_a_terminal_and_acts(daemon: Daemon, client: SyncRRQClient) -> None:
    job = client.enqueue("nap", {})
    with Terminal(daemon, "top", "--every", "0.2", rows=24, columns=80) as terminal:
        terminal.expect("[queues]")
        terminal.press("2")
        terminal.expect(job)
        terminal.press("c")
        terminal.expect(f"cancel job {job}? y/n")
        terminal.press("y")
        until(lambda: ask(daemon, f"/api/v1/jobs/{job}").data["status"] == "CANCELLED", 10, "the cancel")
        terminal.press("q")
        assert terminal.wait() == 0


def test_top_says_why_it_cannot(daemon: Daemon) -> None:
    piped = rrqd(daemon, "top")
    assert (piped.code, piped.err) == (1, "rrqd: top needs a terminal; rrqd status --json is for programs\n")
    away = rrqd(daemon, "top", "--url", f"http://127.0.0.1:{quiet_port()}")
    assert (away.code, "does not answer" in away.err) == (69, True)
    assert rrqd(daemon, "top", "--url", "file:///etc/passwd").code == 2


def test_roles_hold_on_the_server_and_a_wide_address_is_closed_without_them(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"viewer vera {'v' * 20}\noperator olaf {'o' * 20}\n")
    with Daemon(http=True, stand_ins=False, web={"tokens_file": str(tokens), "local_role": "none"}) as daemon:
        daemon.expect_log("rrqd.ready")
        assert ask(daemon, "/livez").status == 200
        shut = page(daemon, "")
        assert (shut.status, "www-authenticate" in shut.headers) == (401, True)
        vera, olaf = f"Bearer {'v' * 20}", f"Bearer {'o' * 20}"
        shown = page(daemon, "workers", authorization=vera)
        assert (shown.status, '<form class="do"' in shown.text) == (200, False)
        assert act(daemon, "pool.pause", {"pool": "default"}, authorization=vera).status == 403
        assert act(daemon, "pool.pause", {"pool": "default"}, authorization=olaf).data["paused"] == ["default"]
        assert ask(daemon, "/api/v1/audit", authorization=vera).data["actions"][0]["who"] == "olaf"
        assert daemon.stop() == 0
