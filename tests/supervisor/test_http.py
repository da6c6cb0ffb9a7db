"""The daemon's HTTP face in every state that matters: what a probe, a scraper and a stranger get."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import psutil
import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from rrqd.client import SyncRRQClient
from rrqd.job import JobResult
from rrqd.web.patience import MOST_CONNECTIONS
from tests.support.daemon import Daemon, quiet_port
from tests.support.server import Server
from tests.support.wait import BUSY_SECONDS, until

PROBE_SECONDS = 1.0
"""What an orchestrator gives a probe if nobody says otherwise."""

JOBS = """
import os
from pathlib import Path

from rrqd.runner_settings import PythonRunnerSettings
from tests.support.told import registry


def on_startup():
    if Path(__file__).with_name("broken").exists():
        raise RuntimeError("the licence has run out")


frail = PythonRunnerSettings(registry=registry, on_startup=on_startup)
"""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """One daemon for all: a pool that works and a pool that can be broken. Every test leaves it well."""
    pools = {
        "default": {"processes": 2, "queues": ["default", "counted", "busy"]},
        "frail": {"processes": 1, "queues": ["frail"], "handlers": "jobs:frail"},
    }
    rrq = {"base_retry_delay_seconds": 0.05}
    with Daemon(http=True, pools=pools, stand_ins=False, jobs=JOBS, rrq=rrq, lease_seconds=2.0) as daemon:
        daemon.expect_log("rrqd.ready")
        yield daemon
        assert daemon.stop() == 0


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    @property
    def data(self) -> Any:
        return json.loads(self.body)


def ask(daemon: Daemon, path: str, method: str = "GET", **headers: str) -> Answer:
    began = time.monotonic()
    connection = http.client.HTTPConnection(daemon.rrqd["http"], timeout=10)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, body, time.monotonic() - began)


def is_ready(daemon: Daemon, seconds: float = 15) -> None:
    until(lambda: ask(daemon, "/readyz").status == 200, seconds, "the daemon to be ready")


def unready(daemon: Daemon, what: str, seconds: float = 15) -> dict[str, Any]:
    """Wait until /readyz says no for this reason; the problem, which says everything that it should."""

    def look() -> list[dict[str, Any]]:
        answer = ask(daemon, "/readyz")
        assert answer.seconds < PROBE_SECONDS + BUSY_SECONDS
        return [one for one in answer.data["problems"] if answer.status == 503 and one["what"] == what]

    problem = until(look, seconds, f"/readyz to say: {what}")[0]
    assert all(problem[key] for key in ("what", "where", "why", "what_to_do"))
    return problem


def lives(daemon: Daemon) -> None:
    """Nobody should restart it, and a probe hears so in time."""
    for path in ("/livez", "/startupz"):
        answer = ask(daemon, path)
        assert (answer.status, answer.data) == (200, {"ok": True, "problems": []})
        assert answer.seconds < PROBE_SECONDS + BUSY_SECONDS


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def families(daemon: Daemon) -> dict[str, Metric]:
    return {family.name: family for family in parse_text(ask(daemon, "/metrics").body.decode())}


def samples(daemon: Daemon, *kinds: str) -> Samples:
    """All samples, or those of metrics of these kinds. None is there twice: Prometheus would take neither."""
    wanted = [family for family in families(daemon).values() if not kinds or family.type in kinds]
    found = [sample for family in wanted for sample in family.samples]
    unique = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in found}
    assert len(unique) == len(found)
    return unique


def value(found: Samples, name: str, **labels: str) -> float:
    return found.get((name, frozenset(labels.items())), 0.0)


def client(daemon: Daemon) -> SyncRRQClient:
    return SyncRRQClient(config={"redis_dsn": f"redis://127.0.0.1:{daemon.port}/0"}, timeout_seconds=20)


def tell(asking: SyncRRQClient, do: str = "ok", queue: str = "default", **words: Any) -> str:
    options = {"max_retries": words.pop("max_retries", 1), **words.pop("options", {})}
    return asking.enqueue("told", {"params": {"do": do, **words}, "queue_name": queue, **options})


def end(asking: SyncRRQClient, job_id: str) -> JobResult:
    found = asking.wait_for_completion(job_id, timeout_seconds=20)
    assert found is not None
    return found


def child(daemon: Daemon, title: str) -> int:
    return next(pid for name, pid in daemon.children().items() if name.startswith(title))


# -- manners -----------------------------------------------------------------------------------------------


def test_a_daemon_that_is_well_says_so_everywhere(daemon: Daemon) -> None:
    is_ready(daemon)
    lives(daemon)
    ready = ask(daemon, "/readyz")
    assert ready.data == {"ok": True, "problems": []}
    assert ready.headers["content-type"] == "application/json"
    assert ready.headers["cache-control"] == "no-store"
    health = ask(daemon, "/healthz")
    assert health.status == 200
    assert [health.data[key] for key in ("ok", "live", "ready", "started")] == [True] * 4
    assert health.data["pools"]["default"] == {"processes": 2, "ready": 2, "queues": ["default", "counted", "busy"]}
    index = ask(daemon, "/").body.decode()
    assert re.findall(r"(?m)^/\w+", index) == ["/metrics", "/livez", "/readyz", "/startupz", "/healthz", "/api"]


def test_only_looking_is_allowed_and_other_paths_are_404(daemon: Daemon) -> None:
    for method in ("POST", "PUT", "DELETE"):
        refused = ask(daemon, "/readyz", method)
        assert (refused.status, sorted(refused.headers["allow"].split(", "))) == (405, ["GET", "HEAD"])
        assert refused.data == {"ok": False, "error": "Method Not Allowed", "path": "/readyz"}
    unknown = ask(daemon, "/readyzz")
    assert (unknown.status, unknown.headers["content-type"]) == (404, "application/json")
    assert unknown.data == {"ok": False, "error": "Not Found", "path": "/readyzz"}
    head = ask(daemon, "/livez", "HEAD")
    assert (head.status, head.body) == (200, b"")


def test_a_page_of_somebody_else_can_not_ask_through_a_browser(daemon: Daemon) -> None:
    refused = ask(daemon, "/metrics", Host="rebound.example")
    assert refused.status == 400
    assert "'rebound.example'" in refused.data["error"]
    for host in ("localhost", "localhost:9464", "127.0.0.1:80", "[::1]:9464", "LOCALHOST"):
        assert ask(daemon, "/livez", Host=host).status == 200


def test_nonsense_is_refused_and_nobody_else_notices(daemon: Daemon) -> None:
    for nonsense in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"GET /livez HTTP/9.9\r\n\r\n", b"\r\n" * 50):
        with _connect(daemon) as link:
            link.sendall(nonsense)
            link.shutdown(socket.SHUT_WR)
            assert link.recv(4096)[:12] in (b"", b"HTTP/1.1 400")
    lives(daemon)


def _connect(daemon: Daemon) -> socket.socket:
    host, _, port = daemon.rrqd["http"].partition(":")
    return socket.create_connection((host, int(port)), timeout=15)


def test_slow_clients_keep_nobody_out_and_are_hung_up_on(daemon: Daemon) -> None:
    slow = [_connect(daemon) for _ in range(MOST_CONNECTIONS + 50)]
    try:
        for link in slow:
            try:
                link.sendall(b"GET /livez HTT")
            except OSError:
                pass  # hung up on already, to make room
        lives(daemon)
        assert ask(daemon, "/metrics").status == 200
        began = time.monotonic()
        try:
            assert slow[-1].recv(64) == b""
        except ConnectionResetError:
            pass
        assert time.monotonic() - began < 8 + BUSY_SECONDS
    finally:
        for link in slow:
            link.close()
    web = psutil.Process(child(daemon, "web"))
    until(lambda: len(web.net_connections()) < 20, 10, "the connections to be closed")


# -- states ------------------------------------------------------------------------------------------------


def test_a_server_that_hangs_makes_it_unready_but_not_dead(daemon: Daemon) -> None:
    server = child(daemon, "valkey")
    os.kill(server, signal.SIGSTOP)
    try:
        problem = unready(daemon, "the server cannot be reached")
        assert problem["where"] == "store"
        lives(daemon)
        found = samples(daemon)
        assert value(found, "rrqd_store_up") == 0.0
        assert not any(name == "rrqd_queue_jobs" for name, _ in found), "old numbers are worse than none"
        health = ask(daemon, "/healthz")
        assert (health.status, health.data["live"], health.data["ready"]) == (503, True, False)
    finally:
        os.kill(server, signal.SIGCONT)
    is_ready(daemon)
    assert value(samples(daemon), "rrqd_store_up") == 1.0
    with client(daemon) as asking:
        assert end(asking, tell(asking)).status == "COMPLETED"


def test_a_server_that_dies_is_seen_and_comes_back(daemon: Daemon) -> None:
    mark = daemon.mark()
    os.kill(child(daemon, "valkey"), signal.SIGKILL)
    daemon.expect_log("valkey.ready", since=mark)
    lives(daemon)
    is_ready(daemon)
    with client(daemon) as asking:
        assert end(asking, tell(asking)).status == "COMPLETED"
    assert value(samples(daemon), "rrqd_process_exits_total", process="valkey", reason="crash-signal") >= 1


def test_a_lease_that_is_not_renewed_makes_it_unready(daemon: Daemon) -> None:
    steward = child(daemon, "steward")
    os.kill(steward, signal.SIGSTOP)
    try:
        assert unready(daemon, "the node's lease is not live")["where"] == "store"
        lives(daemon)
        assert value(samples(daemon), "rrqd_lease_remaining_seconds") <= 0
    finally:
        os.kill(steward, signal.SIGCONT)
    is_ready(daemon)
    assert 0 < value(samples(daemon), "rrqd_lease_remaining_seconds") <= 2.0


def test_a_pool_without_a_worker_makes_it_unready_and_is_named_with_the_reason(daemon: Daemon) -> None:
    broken = daemon.folder / "broken"
    broken.touch()
    try:
        os.kill(child(daemon, "worker frail/0"), signal.SIGKILL)

        def told() -> bool:
            problem = unready(daemon, "pool frail has no ready worker")
            return str(problem["why"]) == "RuntimeError: the licence has run out"

        until(told, 10, "the reason to be told")
        lives(daemon)
        with client(daemon) as asking:
            assert end(asking, tell(asking)).status == "COMPLETED", "the other pool works"
    finally:
        broken.unlink()
    is_ready(daemon, 30)
    assert value(samples(daemon), "rrqd_process_exits_total", process="worker:frail", reason="boot-error") >= 1


def test_a_reload_that_failed_is_told_and_changes_nothing(daemon: Daemon) -> None:
    config = daemon.folder / "rrq.toml"
    text = config.read_text()
    is_ready(daemon)
    try:
        config.write_text(text + "\n[rrqd.pools.more]\nhandlers = 7\n")
        daemon.signal(signal.SIGHUP)

        def told() -> list[dict[str, Any]]:
            problems = ask(daemon, "/healthz").data["problems"]
            return [one for one in problems if one["what"] == "the last reload failed"]

        problem = until(told, 10, "the failed reload to be told")[0]
        assert "[rrqd.pools.more] handlers" in problem["why"]
        assert problem["fails"] == []
        assert ask(daemon, "/readyz").status == 200
        assert value(samples(daemon), "rrqd_config_last_reload_successful") == 0.0
    finally:
        config.write_text(text)
    daemon.signal(signal.SIGHUP)
    until(lambda: value(samples(daemon), "rrqd_generation") == 2.0, 20, "the next generation")
    until(lambda: ask(daemon, "/healthz").data["problems"] == [], 20, "everything to be well")
    assert value(samples(daemon), "rrqd_config_last_reload_successful") == 1.0
    assert value(samples(daemon), "rrqd_config_last_reload_timestamp_seconds") == pytest.approx(time.time(), abs=60)


def test_a_daemon_that_waits_for_its_server_has_not_started_but_lives_and_goes_on() -> None:
    server = Server(port=quiet_port())
    try:
        server.stop()
        with Daemon(
            http=True,
            pools={"default": {"processes": 1}},
            stand_ins=False,
            embedded="never",
            rrq={"redis_dsn": server.dsn},
        ) as daemon:
            daemon.expect_log("store.lost")
            daemon.expect_log("web.ready")
            unready(daemon, "still starting")
            assert "Connection refused" in unready(daemon, "the server cannot be reached")["why"]
            assert ask(daemon, "/livez").status == 200
            started = ask(daemon, "/startupz")
            assert (started.status, started.data["problems"][0]["what"]) == (503, "still starting")
            server.start()
            daemon.expect_log("rrqd.ready")
            is_ready(daemon)
            lives(daemon)
            assert daemon.stop() == 0
    finally:
        server.remove()


def test_while_it_drains_it_is_not_ready_and_not_to_be_restarted() -> None:
    pools = {"default": {"processes": 1}}
    with Daemon(http=True, pools=pools, stand_ins=False, jobs=JOBS) as daemon:
        daemon.expect_log("rrqd.ready")
        with client(daemon) as asking:
            job_id = tell(asking, "sleep", seconds=2)
            until(lambda: value(samples(daemon), "rrqd_jobs_in_flight", pool="default") == 1, 10, "the job to run")
            daemon.signal(signal.SIGTERM)
            assert unready(daemon, "stopping")["fails"] == ["ready"]
            lives(daemon)
            assert ask(daemon, "/healthz").data["mode"] == "stop"
            assert end(asking, job_id).result == "slept"
        assert daemon.wait() == 0


# -- metrics -----------------------------------------------------------------------------------------------


def test_metrics_are_what_prometheus_reads_in_both_of_its_languages(daemon: Daemon) -> None:
    plain = ask(daemon, "/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=")
    modern = ask(daemon, "/metrics", Accept="application/openmetrics-text;version=1.0.0;q=0.9,text/plain;q=0.5")
    assert modern.headers["content-type"].startswith("application/openmetrics-text")
    first = {family.name: family.type for family in parse_text(plain.body.decode())}
    second: dict[str, Metric] = {family.name: family for family in parse_openmetrics(modern.body.decode())}  # type: ignore[no-untyped-call]
    assert all(name.startswith("rrqd_") for name in first)
    assert {name.removesuffix("_info") for name in first} == set(second)
    assert all(family.documentation for family in second.values())
    assert value(samples(daemon), "rrqd_build_info", version=ask(daemon, "/healthz").data["version"]) == 1.0


def test_runs_are_counted_exactly_by_queue_function_and_outcome(daemon: Daemon) -> None:
    before = samples(daemon)
    with client(daemon) as asking:
        ids = [tell(asking, queue="counted") for _ in range(7)]
        ids += [tell(asking, "fail", "counted") for _ in range(3)]
        ids += [tell(asking, "fail until", "counted", attempt=3, max_retries=5)]
        ids += [tell(asking, "retry until", "counted", attempt=2, seconds=0.01, max_retries=5)]
        ids += [tell(asking, "sleep", "counted", seconds=30, options={"job_timeout_seconds": 1})]
        ids += [asking.enqueue("nobody", {"queue_name": "counted"})]
        marker = str(daemon.folder / "snoozed")
        ids += [tell(asking, "snooze once", "counted", marker=marker, seconds=0.05)]
        stopped = tell(asking, "sleep", "counted", seconds=60)
        until(lambda: getattr(asking.get_job_status(stopped), "status", "") == "ACTIVE", 10, "the job to run")
        asking.cancel(stopped)
        for job_id in [*ids, stopped]:
            end(asking, job_id)
    after = samples(daemon)

    def gained(name: str, **labels: str) -> float:
        return value(after, name, queue="counted", **labels) - value(before, name, queue="counted", **labels)

    wanted = {"success": 10, "error": 5, "retry": 1, "timeout": 1, "snooze": 1, "cancelled": 1}
    runs = {outcome: gained("rrqd_jobs_total", function="told", outcome=outcome) for outcome in wanted}
    assert runs == wanted
    assert gained("rrqd_jobs_total", function="unknown", outcome="fatal") == 1, "a name from outside is no label"
    total = sum(wanted.values())
    assert gained("rrqd_job_run_seconds_count", function="told") == total
    assert gained("rrqd_job_wait_seconds_count", function="told") == total
    assert gained("rrqd_job_run_seconds_bucket", function="told", le="+Inf") == total
    late = gained("rrqd_job_run_seconds_bucket", function="told", le="2.5") - gained(
        "rrqd_job_run_seconds_bucket", function="told", le="0.5"
    )
    assert late >= 1, "the one that ran into its timeout after a second"
    assert gained("rrqd_job_run_seconds_sum", function="told") >= 1.0


def test_a_histogram_never_falls_and_ends_with_its_count(daemon: Daemon) -> None:
    for family in families(daemon).values():
        if family.type != "histogram":
            continue
        rows: dict[tuple[str, str], list[float]] = {}
        counts: dict[tuple[str, str], float] = {}
        for sample in family.samples:
            key = (sample.labels["queue"], sample.labels["function"])
            if sample.name.endswith("_bucket"):
                rows.setdefault(key, []).append(sample.value)
            elif sample.name.endswith("_count"):
                counts[key] = sample.value
        assert {key: row[-1] for key, row in rows.items()} == counts
        assert all(row == sorted(row) for row in rows.values())


def test_what_waits_runs_and_lies_buried_is_told(daemon: Daemon) -> None:
    before = value(samples(daemon), "rrqd_dlq_jobs", dlq="default")
    with client(daemon) as asking:
        for _ in range(3):
            tell(asking, queue="idle")
        tell(asking, queue="idle", options={"defer_by_seconds": 600})
        end(asking, tell(asking, "fail"))
        running = [tell(asking, "sleep", "busy", seconds=60) for _ in range(4)]

        def seen() -> bool:
            found = samples(daemon)
            return (
                value(found, "rrqd_queue_jobs", queue="idle", state="due") == 3
                and value(found, "rrqd_queue_jobs", queue="idle", state="scheduled") == 1
                and value(found, "rrqd_queue_oldest_age_seconds", queue="idle") > 0.5
                and value(found, "rrqd_dlq_jobs", dlq="default") == before + 1
                and value(found, "rrqd_jobs_in_flight", pool="default") == 4
                and value(found, "rrqd_jobs_in_flight", pool="frail") == 0
            )

        assert until(seen, 10, "the gauges to tell what is there")
        for job_id in running:
            asking.cancel(job_id)
        until(lambda: value(samples(daemon), "rrqd_jobs_in_flight", pool="default") == 0, 10, "nothing to run")


def test_memory_of_every_process_is_told_and_shared_memory_is_shared(daemon: Daemon) -> None:
    is_ready(daemon)

    def told() -> dict[str, float]:
        found = samples(daemon)
        return {dict(labels)["name"]: pss for (name, labels), pss in found.items() if name == "rrqd_process_pss_bytes"}

    names = {"steward", "web", "valkey", "default", "frail", "default/0", "default/1", "frail/0"}
    found = until(lambda: told() if set(told()) == names else None, 20, "every process to be weighed")
    assert found is not None
    assert all(1_000_000 < pss < 500_000_000 for pss in found.values())
    worker = psutil.Process(child(daemon, "worker default/0"))
    assert found["default/0"] < worker.memory_info().rss, "what is shared with the mold counts in part"


def test_counters_never_go_backwards_over_the_death_of_who_counts(daemon: Daemon) -> None:
    with client(daemon) as asking:
        for job_id in [tell(asking, queue="counted") for _ in range(20)]:
            end(asking, job_id)
        before = samples(daemon, "counter", "histogram")
        crashed = value(before, "rrqd_process_exits_total", process="worker:default", reason="crash-signal")
        done = value(before, "rrqd_worker_jobs_done_total")
        assert done >= 20
        mark = daemon.mark()
        victims = [pid for title, pid in daemon.workers().items() if title.startswith("worker default/")]
        for pid in [*victims, child(daemon, "web")]:
            os.kill(pid, signal.SIGKILL)
        until(lambda: daemon.count_log("worker.ready", since=mark, pool="default") == 2, 15, "new workers")
        daemon.expect_log("web.ready", since=mark)
        is_ready(daemon)
        end(asking, tell(asking, queue="counted"))
        after = samples(daemon, "counter", "histogram")
    assert set(before) <= set(after)
    assert {key: (number, after[key]) for key, number in before.items() if after[key] < number} == {}
    assert value(after, "rrqd_worker_jobs_done_total") == done + 1
    exits = value(after, "rrqd_process_exits_total", process="worker:default", reason="crash-signal")
    assert exits == crashed + 2
    assert value(after, "rrqd_process_exits_total", process="web", reason="crash-signal") >= 1
    assert value(samples(daemon), "rrqd_processes", role="worker", phase="ready") == 3
