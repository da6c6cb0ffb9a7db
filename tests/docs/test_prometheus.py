"""The alert rules and the Grafana dashboard before a real Prometheus that scrapes a real daemon: everything that they
ask for can be asked, and there is something to be seen. Without Prometheus it says so and is skipped."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from rrqd.client import SyncRRQClient
from tests.docs.test_monitoring import RULES, expressions
from tests.support.daemon import Daemon, quiet_port
from tests.support.wait import until

PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
MISSING = "" if PROMETHEUS and PROMTOOL else "Prometheus is not installed (Debian: the package prometheus)"
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

JOBS = """
import os

from rrqd import Registry

registry = Registry()


@registry.handler("send_mail")
async def send_mail(request):
    return "sent"


@registry.handler("fail")
async def fail(request):
    raise LookupError("no such customer")


@registry.handler("crash")
async def crash(request):
    os.abort()
"""
SELECTOR = re.compile(r"rrqd_\w+(?:\{[^}]*\})?")
PLACEHOLDERS = {"$instance": ".*", "$__rate_interval": "1m"}
"""What Grafana puts in."""
SCRAPES = """
global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: rrqd
    static_configs: [{{targets: ["{target}"]}}]
"""
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """One that has seen everything that alerts are about."""
    cron = [{"name": "nightly", "function_name": "send_mail", "schedule": "0 0 3 * * *"}]
    rrq = {"default_max_retries": 1, "cron_jobs": cron}
    with Daemon({"default": {"processes": 1}}, http=True, stand_ins=False, jobs=JOBS, rrq=rrq, max_stalls=1) as daemon:
        daemon.expect_log("rrqd.ready")
        with SyncRRQClient(config={"redis_dsn": f"redis://127.0.0.1:{daemon.port}/0"}) as client:
            httpx.post(
                f"http://{daemon.rrqd['http']}/api/v1/actions/queue.pause", json={"queue": "idle"}
            ).raise_for_status()
            client.enqueue("send_mail", {"queue_name": "idle"})
            for function in ("send_mail", "fail", "crash"):
                client.wait_for_completion(client.enqueue(function), timeout_seconds=20)
        yield daemon


@pytest.fixture(scope="module")
def ask(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """A question to the Prometheus that has scraped it a few times: path and parameters -> what it answers."""
    folder, port = tmp_path_factory.mktemp("prometheus"), quiet_port()
    (folder / "prometheus.yml").write_text(SCRAPES.format(rules=RULES, target=daemon.rrqd["http"]))
    where = (f"--web.listen-address=127.0.0.1:{port}", f"--storage.tsdb.path={folder / 'data'}")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(PROMETHEUS), f"--config.file={folder / 'prometheus.yml'}", *where], stdout=log, stderr=log
        )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1/", timeout=10) as client:

        def ask(path: str, **words: str) -> Any:
            answer = client.get(path, params=words).json()
            assert answer["status"] == "success", (words, answer["error"])
            return answer["data"]

        def scrapes() -> bool:
            try:
                seen = ask("query", query="count_over_time(rrqd_ready[1m])")["result"]
            except (httpx.HTTPError, ValueError):
                return False
            return any(float(one["value"][1]) >= 3 for one in seen)

        try:
            until(scrapes, 30, f"three scrapes; see {folder / 'log'}", every_seconds=0.1)
            yield ask
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def asked() -> dict[str, str]:
    """The expressions, as they come to Prometheus."""
    found = {}
    for where, expression in expressions().items():
        for name, value in PLACEHOLDERS.items():
            expression = expression.replace(name, value)
        found[where] = expression
    return found


def test_a_scrape_is_as_prometheus_likes_it(daemon: Daemon) -> None:
    text = httpx.get(f"http://{daemon.rrqd['http']}/metrics").content
    said = subprocess.run([str(PROMTOOL), "check", "metrics"], input=text, capture_output=True, timeout=30)
    assert (said.returncode, said.stdout + said.stderr) == (0, b"")


def test_whatever_is_asked_for_is_there_to_be_seen(ask: Ask) -> None:
    """Each series that an expression picks, by the labels that it picks it by."""
    picked = {selector for expression in asked().values() for selector in SELECTOR.findall(expression)}
    assert len(picked) > 15
    assert [one for one in sorted(picked) if not ask("query", query=one)["result"]] == []


def test_every_panel_shows_something(ask: Ask) -> None:
    panels = {where: expression for where, expression in asked().items() if "/" in where}
    assert len(panels) > 10
    assert [where for where, expression in panels.items() if not ask("query", query=expression)["result"]] == []


def test_every_rule_is_reckoned_and_those_that_hold_are_told(ask: Ask) -> None:
    def rules() -> dict[str, dict[str, Any]]:
        found = {rule["name"]: rule for group in ask("rules")["groups"] for rule in group["rules"]}
        return found if all(rule["health"] != "unknown" for rule in found.values()) else {}

    found = until(rules, 30, "all rules to be reckoned", every_seconds=0.1)
    assert {name: rule.get("lastError") for name, rule in found.items() if rule["health"] != "ok"} == {}
    assert len(found) == 13
    assert found["RrqdQueueForgotten"]["state"] == "pending"  # an hour has not passed
    assert {found[name]["state"] for name in ("RrqdNotReady", "RrqdGone", "RrqdStoreAway")} == {"inactive"}
