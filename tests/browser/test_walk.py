"""A walk through the dashboard in a real browser, against a daemon with real jobs: every page, light, dark and on a
phone, every link, and every action by its form. Without a browser it says so and is skipped.

``RRQD_SCREENSHOTS=folder`` keeps pictures of every page.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from urllib.parse import quote

import pytest
from starlette.routing import Match

from rrqd.client import SyncRRQClient
from rrqd.web.actions import ACTIONS
from rrqd.web.pages import Pages
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


@registry.handler("parse_feed")
async def parse_feed(request):
    raise ValueError("line 17 is no JSON")


@registry.handler("sync_stock")
async def sync_stock(request):
    request.progress(0.14, "17 of 120")
    await asyncio.sleep(3000)
"""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    cron = [{"name": "nightly-report", "function_name": "send_invoice", "schedule": "0 0 3 * * *"}]
    rrq = {"default_max_retries": 1, "default_job_timeout_seconds": 3600, "cron_jobs": cron}
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
        client.throttles.set("shop", 3)
        for n in range(40):
            client.enqueue("send_invoice", {"params": {"customer": n}, "queue_name": "billing"})
        for n in range(6):
            client.enqueue(
                "charge_card", {"params": {"customer": n, "card": {"token": "hush"}}, "tags": ["vip", "night run"]}
            )
        for _ in range(3):
            client.enqueue("parse_feed")
        for _ in range(5):
            client.enqueue("send_invoice", {"queue_name": "parked"})
        jobs = {
            "done": client.enqueue("send_invoice", {"params": {"customer": 7}, "tags": ["vip"], "track": True}),
            "failed": client.enqueue("charge_card", {"params": {"customer": 99}, "queue_name": "billing"}),
            "runs": client.enqueue("sync_stock", {"params": {"shop": "Bern"}, "throttles": ["shop"]}),
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
        browser.page.request.post(f"{browser.base}/api/v1/actions/queue.pause", data={"queue": "parked"})
        until(lambda: browser.view("dlq")["total"] == 10, 20, "ten buried jobs")
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
        "stats",
        "workers",
        "tags",
        "tracked",
        "audit",
        "config",
    )
    return {
        "overview": "", **{name: name for name in plain}, "queue": "queues/reports", "queue-stats": "stats/billing",
        "function": "functions/send_invoice", "throttle": "throttles/shop", "tag": f"tags/{quote('night run')}",
        "jobs-failed": "jobs?state=failed&function=charge_card", "matching": "matching?queue=billing&state=failed",
        "failures-some": "failures?type=ValueError", "nowhere": "jobs/nobody",
        **{f"job-{name}": f"jobs/{job}" for name, job in world.items()},
    }  # fmt: skip


def test_every_page_is_walked(world: dict[str, str]) -> None:
    table = SimpleNamespace(readings=None, rules=None, trends=None)
    routes = [
        route for route in Pages(table, "", list).routes() if not route.path.startswith(("/do/", "/static/", "/find"))
    ]
    walked = {
        route.path
        for path in pages(world).values()
        for route in routes
        if route.matches({"type": "http", "method": "GET", "path": f"/{path.partition('?')[0]}"})[0] is Match.FULL
    }
    assert {route.path for route in routes} == walked


@pytest.mark.parametrize(
    ("look", "rules"), [("light", []), ("dark", ["color-contrast"]), ("phone", ["scrollable-region-focusable"])]
)
def test_every_page_can_be_seen_read_and_used_by_all(
    browser: Browser, world: dict[str, str], look: str, rules: list[str]
) -> None:
    """By all rules of axe-core as it is first shown; dark and on a phone by those for which that is another page."""
    browser.page.emulate_media(color_scheme="dark" if look == "dark" else "light")
    browser.page.set_viewport_size({"width": 390 if look == "phone" else 1280, "height": 800})
    faults: list[str] = []
    for name, path in pages(world).items():
        browser.go(path)
        faults += browser.faults(*rules)
        wide = browser.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        faults += [f"{path} is {wide} px wider than the window"] if wide > 0 else []
        browser.picture(f"{name}-{look}")
    assert faults == []
    if look == "light":
        no_link_leads_nowhere(browser)
    assert [one for one in browser.complaints if "jobs/nobody" not in one] == []
    browser.complaints.clear()


def no_link_leads_nowhere(browser: Browser) -> None:
    assert len(browser.links) > 50
    answers = {link: browser.page.request.get(link).status for link in sorted(browser.links)}
    assert {link: status for link, status in answers.items() if status != 200} == {}


def test_every_action_is_done_by_its_form(browser: Browser, world: dict[str, str], daemon: Daemon) -> None:
    browser.page.set_viewport_size({"width": 1280, "height": 800})

    def done(path: str, button: str, within: str = "main", **filled: str) -> None:
        browser.go(path)
        browser.press(button, within, **filled)

    def buried(count: int) -> None:
        until(lambda: browser.view("dlq")["total"] == count, 20, f"{count} buried jobs")

    # limits
    done("throttles", "Set", throttle="scanner", limit="2")
    done("throttles/printer", "Set", limit="0")
    browser.go(f"jobs/{world['limited']}")
    browser.page.locator("li", has_text="printer").first.wait_for()
    done("throttles/printer", "Lift the limit")
    done("throttles/shop", "Count it no more")

    # one job
    done(f"jobs/{world['later']}", "Add", **{"tags*": "night owl"})
    done(f"jobs/{world['later']}", "Remove owl")
    done(f"jobs/{world['later']}", "Set", priority="9")
    done(f"jobs/{world['later']}", "Track")
    done(f"jobs/{world['later']}", "Move", queue="reports")
    done(f"jobs/{world['later']}", "Run now")
    done(f"jobs/{world['child']}", "Wait no more")
    browser.go(f"jobs/{world['failed']}")
    browser.open("Enqueue a new job")
    browser.press("Enqueue", params='{"customer": 100}', queue="reports")
    new = browser.page.url.partition("?")[0].rpartition("/")[2]
    assert browser.view(f"jobs/{new}")["params"] == {"customer": 100}
    browser.open("Delete")
    browser.press("Delete for good")
    assert browser.page.url.split("?")[0].endswith("/queues/reports"), new
    done(f"jobs/{world['failed']}", "Retry")
    buried(10)

    # chosen jobs, and all that a filter means
    browser.go("dlq")
    browser.page.locator("[name='jobs']").first.check()
    browser.press("Retry the chosen", confirm="1")
    buried(10)
    for button in ("Cancel the chosen", "Delete the chosen"):
        browser.go("queues/parked")
        browser.page.locator("[name='jobs']").first.check()
        browser.page.get_by_text("1 chosen.").wait_for()
        browser.press(button, confirm="1")
    browser.go("queues/parked")
    browser.page.get_by_label("choose all", exact=True).check()
    browser.page.get_by_text("3 chosen.").wait_for()
    done("matching?queue=parked", "Cancel those that have not ended", confirm="3")
    done("matching?queue=parked&state=cancelled", "Delete those that do not run", confirm="4")
    done("matching?state=failed&function=parse_feed", "Retry the buried ones", confirm="3")
    buried(10)

    # failures
    done("failures?type=ValueError", "Delete the group", confirm="3")
    browser.go("failures")
    browser.page.locator("[name='type']").fill("LookupError")
    browser.page.get_by_role("button", name="Filter", exact=True).click()
    browser.open("Retry or delete all 7")
    browser.press("Retry all", "details", confirm="7", rate="100")
    buried(7)

    # schedules, configuration, workers, queues
    done("config", "Set", key="@night", value="reports-* cleanup")
    done("config", "Unset @night")
    for button in ("Pause", "Resume", "Run now"):
        done("schedules", button)
    assert "/jobs/" in browser.page.url
    done("schedules", "Run now", "table:has-text('hourly-sync')")
    browser.go("schedules")
    browser.open("Remove…")
    browser.press("Remove for good")
    for button in ("Pause", "Resume"):
        done("workers", button)
    done("workers", "Scale", processes="3")
    until(lambda: browser.view("workers")["pools"][0]["ready"] == 3, 20, "the third worker")
    done("workers", "Restart")
    done("workers", "Stacks of all into the log")
    until(lambda: browser.view(f"jobs/{world['runs']}")["status"] == "ACTIVE", 20, "the long job to run")
    done(f"jobs/{world['runs']}", "Take from its worker")
    done(f"jobs/{world['runs']}", "Cancel")
    for button in ("Pause", "Resume"):
        done("queues/reports", button)
    browser.open("Clear the queue")
    browser.press("Clear", confirm="reports")

    assert browser.done == set(ACTIONS)
    browser.go("audit")
    browser.picture("audit-full")
    assert browser.page.locator("tbody tr").count() >= len(ACTIONS)
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
