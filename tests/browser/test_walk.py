"""A walk through the dashboard in a real browser, against a daemon with real jobs: every page, light, dark and on a
phone, and every action by its form. Without a browser it says so and is skipped.

``RRQD_SCREENSHOTS=folder`` keeps pictures of every page.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from rrqd.client import SyncRRQClient
from tests.support.browser import MISSING, Browser, browsing
from tests.support.daemon import Daemon
from tests.support.wait import until

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

JOBS = """
import asyncio

from rrqd import Registry

registry = Registry()


@registry.handler("send_invoice")
async def send_invoice(request):
    request.log("invoice written", pages=2)
    return {"sent": True, "to": request.params.get("customer")}


@registry.handler("charge_card")
async def charge_card(request):
    raise LookupError(f"no such customer {request.params.get('customer')}")


@registry.handler("sync_stock")
async def sync_stock(request):
    request.progress(0.14, "17 of 120")
    await asyncio.sleep(120)
"""
THEMES = ("light", "dark")


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    cron = [{"name": "nightly-report", "function_name": "send_invoice", "schedule": "0 0 3 * * *"}]
    rrq = {"default_max_retries": 1, "cron_jobs": cron}
    with Daemon(
        {"default": {"processes": 2, "queues": ["default", "billing"]}}, http=True, stand_ins=False, jobs=JOBS, rrq=rrq
    ) as daemon:
        daemon.expect_log("rrqd.ready")
        yield daemon


@pytest.fixture(scope="module")
def world(daemon: Daemon) -> Iterator[dict[str, str]]:
    """Jobs in every state; name -> id."""
    with SyncRRQClient(config={"redis_dsn": f"redis://127.0.0.1:{daemon.port}/0"}) as client:
        client.throttles.set("printer", 0)
        for n in range(40):
            client.enqueue("send_invoice", {"params": {"customer": n}, "queue_name": "billing"})
        for n in range(6):
            client.enqueue(
                "charge_card", {"params": {"customer": n, "card": {"token": "hush"}}, "tags": ["vip", "night run"]}
            )
        jobs = {
            "done": client.enqueue("send_invoice", {"params": {"customer": 7}, "tags": ["vip"], "track": True}),
            "failed": client.enqueue("charge_card", {"params": {"customer": 99}, "queue_name": "billing"}),
            "runs": client.enqueue("sync_stock", {"params": {"shop": "Bern"}}),
            "later": client.enqueue("send_invoice", {"defer_by_seconds": 3600, "priority": 5}),
            "unread": client.enqueue("send_invoice", {"queue_name": "reports"}),
            "limited": client.enqueue("send_invoice", {"throttles": ["printer"]}),
        }
        jobs["child"] = client.enqueue("send_invoice", {"depends_on": [jobs["runs"]]})
        client.recurring.add("send_invoice", every_seconds=900, id="hourly-sync", options={"params": {"customer": 1}})
        for name in ("done", "failed"):
            client.wait_for_completion(jobs[name], timeout_seconds=20)
        until(lambda: client.get_job_status(jobs["runs"]).status == "ACTIVE", 10, "the long job to run")
        yield jobs


@pytest.fixture(scope="module")
def browser(daemon: Daemon, world: dict[str, str]) -> Iterator[Browser]:
    with browsing(f"http://{daemon.rrqd['http']}") as browser:
        yield browser


def pages(world: dict[str, str]) -> dict[str, str]:
    """Name of a picture -> path."""
    plain = (
        "queues",
        "jobs",
        "running",
        "failures",
        "dlq",
        "schedules",
        "throttles",
        "workers",
        "tags",
        "tracked",
        "audit",
        "config",
    )
    return {
        "overview": "", **{name: name for name in plain}, "queue": "queues/reports", "stats": "stats/billing",
        "throttle": "throttles/printer", "tag": f"tags/{quote('night run')}", "nowhere": "jobs/nobody",
        "matching": "matching?queue=billing&state=failed",
        **{f"job-{name}": f"jobs/{job}" for name, job in world.items()},
    }  # fmt: skip


def test_every_page_can_be_seen_read_and_used_by_all(browser: Browser, world: dict[str, str]) -> None:
    faults: list[str] = []
    for theme in THEMES:
        browser.page.emulate_media(color_scheme=theme)
        for name, path in pages(world).items():
            browser.go(path)
            faults += browser.faults()
            browser.picture(f"{name}-{theme}")
    browser.page.set_viewport_size({"width": 390, "height": 800})
    for name, path in pages(world).items():
        browser.go(path)
        wide = browser.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        faults += [f"{path} is {wide} px wider than a phone"] if wide > 0 else []
        browser.picture(f"{name}-phone")
    assert faults == []
    assert [one for one in browser.complaints if "jobs/nobody" not in one] == []
    browser.complaints.clear()


def test_every_action_is_done_by_its_form(browser: Browser, world: dict[str, str], daemon: Daemon) -> None:
    def done(path: str, button: str, **filled: str) -> None:
        browser.go(path)
        browser.press(button, **filled)

    done("throttles", "Set", throttle="scanner", limit="2")
    done("throttles/printer", "Set", limit="0")
    browser.go(f"jobs/{world['limited']}")
    browser.page.locator("li", has_text="printer").first.wait_for()
    done(f"jobs/{world['later']}", "Add", **{"tags*": "night owl"})
    done(f"jobs/{world['later']}", "Remove owl")
    done(f"jobs/{world['later']}", "Set", priority="9")
    done(f"jobs/{world['later']}", "Track")
    done(f"jobs/{world['later']}", "Move", queue="reports")
    done(f"jobs/{world['later']}", "Run now")
    for button in ("Pause", "Resume"):
        done("queues/reports", button)
    browser.go(f"jobs/{world['failed']}")
    browser.open("Enqueue a new job")
    browser.press("Enqueue", params='{"customer": 100}', queue="reports")
    new = browser.page.url.partition("?")[0].rpartition("/")[2]
    browser.open("Delete")
    browser.press("Delete for good")
    assert browser.page.url.split("?")[0].endswith("/queues/reports"), new
    done(f"jobs/{world['failed']}", "Retry")
    until(
        lambda: "FAILED" in browser.page.goto(f"{browser.base}/jobs/{world['failed']}").text(), 10, "it to fail again"
    )
    browser.go("failures")
    browser.page.locator("[name='type']").fill("LookupError")
    browser.page.get_by_role("button", name="Filter", exact=True).click()
    browser.open("Retry or delete all 7")
    browser.press("Retry all", "details", confirm="7", rate="100")
    for button in ("Pause", "Resume", "Run now"):
        done("schedules", button)
    assert "/jobs/" in browser.page.url
    done("schedules", "Remove")
    for button in ("Pause", "Resume"):
        done("workers", button)
    done("workers", "Scale", processes="3")
    until(lambda: "3 of 3 ready" in browser.page.goto(f"{browser.base}/workers").text(), 20, "the third worker")
    done("workers", "Restart")
    done("workers", "Stacks of all into the log")
    browser.go("queues/reports")
    browser.page.locator("[name='jobs']").first.check()
    browser.press("Cancel the chosen", confirm="1")
    done(f"jobs/{world['runs']}", "Cancel")
    done("throttles/printer", "Lift the limit")
    browser.go("queues/reports")
    browser.open("Clear the queue")
    browser.press("Clear", confirm="reports")
    browser.go("audit")
    assert browser.page.locator("tbody tr").count() >= 24
    assert browser.complaints == []


def test_a_page_looks_again_when_there_is_news_and_keys_lead_about(browser: Browser, daemon: Daemon) -> None:
    browser.go("queues")
    browser.page.get_by_text("live", exact=True).wait_for()
    with SyncRRQClient(config={"redis_dsn": f"redis://127.0.0.1:{daemon.port}/0"}) as client:
        client.enqueue("send_invoice", {"queue_name": "brand-new"})
    browser.page.get_by_role("link", name="brand-new").wait_for()
    browser.page.keyboard.press("w")
    browser.page.wait_for_url("**/workers")
    browser.page.keyboard.press("/")
    browser.page.keyboard.type("queue:brand-new")
    browser.page.keyboard.press("Enter")
    browser.page.wait_for_url("**/jobs?queue=brand-new")
