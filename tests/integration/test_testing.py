"""The pytest plugin, as a user's test suite has it: a suite of its own, run by a pytest of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.daemon import ROOT

SHOP = """
    import asyncio
    from datetime import timedelta
    from rrqd import Registry, RRQClient, SyncRRQClient, RetryJob
    from rrqd.rq import Queue, Retry

    mail = Queue("mail")
    registry = Registry()
    paid, sent, receipts = [], [], set()

    def charge(customer, cents):
        paid.append((customer, cents))              # not idempotent: a second delivery charges again

    def charge_once(customer, cents):
        receipts.add((customer, cents))

    async def charge_async(customer, cents):
        await asyncio.sleep(0)
        paid.append((customer, cents))

    def send(to, subject="hello"):
        sent.append(to)
        return "sent"

    def send_flaky(to):
        sent.append(to)
        raise OSError("the mail server is away")

    def chain(left):
        if left:
            mail.enqueue(chain, left - 1)

    def sign_up(address):
        mail.enqueue(send, address, subject="welcome")
        mail.enqueue_in(timedelta(hours=20), send, address, subject="how do you like it?")

    @registry.handler("report")
    async def report(request):
        sent.append(request.params["day"])
        if request.params.get("fails") and request.context.attempt < 3:
            raise RetryJob("later", defer_seconds=3600)
        return "done"
"""

TOML = """
    [[rrq.cron_jobs]]
    function_name = "report"
    schedule = "0 30 6 * * *"
    params = { day = "every" }

    [[rrq.cron_jobs]]
    name = "hourly"
    function_name = "dotted:shop.send"
    schedule = "0 * * * *"
    params = { kwargs = { to = "boss" } }

    [rrqd.pools.default]
    handlers = "shop:registry"
"""

CONFTEST = """
    import pytest, shop

    @pytest.fixture
    def rrqd_handlers():
        return shop.registry

    @pytest.fixture(autouse=True)
    def clean():
        for what in (shop.paid, shop.sent, shop.receipts):
            what.clear()
"""

GOOD = """
    import asyncio, os
    from pathlib import Path
    import pytest
    from datetime import timedelta
    from rrqd import RRQClient, SyncRRQClient
    from rrqd.rq import Job, Queue, Retry
    from rrqd.testing import ANY, FAULTS
    import shop

    def test_what_was_enqueued(rrqd):
        rrqd.assert_not_enqueued(shop.send)
        shop.sign_up("a@example.org")
        rrqd.assert_enqueued(shop.send, "a@example.org", subject="welcome", queue="mail", times=1, within="1m")
        rrqd.assert_enqueued("shop.send", ANY, times=2, within="1d")
        rrqd.assert_not_enqueued(shop.send, "b@example.org")
        assert shop.sent == []

    def test_what_ran(rrqd):
        shop.sign_up("a@example.org")
        assert rrqd.run_all() == 1
        rrqd.assert_ran(shop.send, "a@example.org", times=1)
        rrqd.assert_not_ran(shop.send, subject="how do you like it?")
        assert rrqd.advance("19h") == 0
        rrqd.assert_enqueued(shop.send, within="1h")
        assert rrqd.advance("2h") == 1
        rrqd.assert_ran(shop.send, subject="how do you like it?", times=1)
        rrqd.assert_not_enqueued(shop.send)

    def test_every_test_begins_empty(rrqd):
        rrqd.assert_not_enqueued(shop.send)
        assert rrqd.runs == []

    def test_retries_come_due_as_time_goes_on(rrqd):
        job = shop.mail.enqueue(shop.send_flaky, "a", retry=Retry(max=3, interval=[60, 600, 3600]))
        rrqd.run_all()
        assert (len(shop.sent), job.get_status()) == (1, "scheduled")
        assert rrqd.advance("5m") == 1
        assert rrqd.advance("1d") == 2
        assert job.is_failed
        rrqd.assert_ran(shop.send_flaky, times=4)

    class TestTimetable:
        @pytest.fixture
        def rrqd_config(self):
            return Path(__file__).parent / "rrq.toml"

        def test_it_comes_as_time_goes_on(self, rrqd):
            assert rrqd.advance("1d") == 25
            rrqd.assert_ran("report", day="every", times=1)
            rrqd.assert_ran(shop.send, to="boss", times=24)

    def test_results_expire_as_time_goes_on(rrqd):
        job = shop.mail.enqueue(shop.send, "a", result_ttl=600)
        rrqd.run_all()
        rrqd.advance("9m")
        assert job.result == "sent"
        assert Job.exists(job.id)
        rrqd.advance("2m")
        assert not Job.exists(job.id)

    def test_registered_handlers_and_other_clients(rrqd):
        with SyncRRQClient(config={"redis_dsn": rrqd.dsn}) as client:
            job_id = client.enqueue("report", {"params": {"day": "monday", "fails": True}})
            rrqd.assert_enqueued("report", day="monday", queue="default")
            assert rrqd.advance("3h") == 3
            assert client.get_job_status(job_id).result == "done"

    async def enqueue():
        client = RRQClient(config={"redis_dsn": os.environ["RRQ_REDIS_DSN"]})
        job_id = await client.enqueue("report", {"params": {"day": "friday"}})
        status = (await client.get_job_status(job_id)).status
        await client.close()
        return status

    def test_inline(rrqd):
        with rrqd.inline():
            job = shop.mail.enqueue(shop.send, "a")
            assert job.result == "sent"
            assert asyncio.run(enqueue()) == "COMPLETED"
            shop.mail.enqueue(shop.chain, 2)
            rrqd.assert_ran(shop.chain, times=3)
        shop.mail.enqueue(shop.send, "b")
        assert "b" not in shop.sent

    def test_jobs_without_end_are_noticed(rrqd):
        shop.mail.enqueue(shop.chain, 10**9)
        with pytest.raises(AssertionError, match="20 runs and no end"):
            rrqd.run_all(max_jobs=20)

    def test_an_idempotent_handler_stands_every_fault(rrqd, rrqd_fault):
        job = shop.mail.enqueue(shop.charge_once, "ann", 500)
        rrqd.run_all(fault=rrqd_fault)
        assert shop.receipts == {("ann", 500)}
        assert job.is_finished

    def test_the_same_in_one_call(rrqd):
        rrqd.assert_idempotent(
            lambda: shop.mail.enqueue(shop.charge_once, "ann", 500), lambda: len(shop.receipts),
            reset=shop.receipts.clear,
        )

    @pytest.mark.parametrize("fault, times", [("duplicate", 2), ("kill-before", 1), ("kill-after", 2), ("lapse", 2)])
    @pytest.mark.parametrize("function", [shop.charge, shop.charge_async])
    def test_each_fault_does_what_it_says(rrqd, function, fault, times):
        job = shop.mail.enqueue(function, "ann", 500)
        rrqd.run_all(fault=fault)
        assert shop.paid == [("ann", 500)] * times
        assert job.is_finished
        rrqd.assert_ran(function, times=1 if fault == "duplicate" else 2)

    @pytest.mark.parametrize("fault", FAULTS)
    def test_a_handler_that_is_not_idempotent_is_caught(rrqd, fault):
        def check():
            rrqd.assert_idempotent(
                lambda: shop.mail.enqueue(shop.charge, "ann", 500), lambda: len(shop.paid), reset=shop.paid.clear,
                faults=[fault],
            )
        if fault == "kill-before":
            check()
        else:
            with pytest.raises(AssertionError, match=f"without a fault 1 is seen, with {fault} 2"):
                check()
"""

FAILING = """
    import shop

    def test_enqueued(rrqd):
        shop.sign_up("a@example.org")
        rrqd.assert_enqueued(shop.send, "b@example.org", queue="mail")

    def test_ran(rrqd):
        shop.sign_up("a@example.org")
        rrqd.run_all()
        rrqd.assert_ran(shop.send, times=3)

    def test_not_idempotent(rrqd, rrqd_fault):
        shop.mail.enqueue(shop.charge, "ann", 500)
        rrqd.run_all(fault=rrqd_fault)
        assert shop.paid == [("ann", 500)]
"""


def run(folder: Path, tests: str) -> tuple[int, str]:
    """Exit code and output of a suite."""
    for name, text in (("shop.py", SHOP), ("conftest.py", CONFTEST), ("test_shop.py", tests), ("rrq.toml", TOML)):
        (folder / name).write_text(textwrap.dedent(text))
    log = folder / "log"
    with log.open("wb") as out:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "rrqd.testing.plugin", "-p", "no:cacheprovider", "-q", "--rootdir",
             str(folder), str(folder / "test_shop.py")],
            cwd=folder, env={**os.environ, "PYTHONPATH": f"{ROOT}:{folder}", "RRQD_HOME": str(folder / "home")},
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=90, check=False,
        )  # fmt: skip
    assert not (folder / "home").exists()  # nothing of the user's own is touched
    return done.returncode, log.read_text()


def test_a_suite_that_passes(tmp_path: Path) -> None:
    code, said = run(tmp_path, GOOD)

    assert code == 0, said
    assert re.search(r"\b26 passed", said), said


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> str:
    code, said = run(tmp_path_factory.mktemp("suite"), FAILING)
    assert code == 1, said
    return said


@pytest.mark.parametrize(
    "line",
    [
        r"expected at least one shop\.send\('b@example\.org'\) in mail to wait, found 0; what waits: shop\.send",
        r"expected 3 shop\.send\(\) to run, it ran 1 times; what ran: shop\.send",
        r"FAILED .*test_not_idempotent\[duplicate\]",
        r"FAILED .*test_not_idempotent\[kill-after\]",
        r"FAILED .*test_not_idempotent\[lapse\]",
        r"5 failed, 1 passed",
    ],
)
def test_a_failure_says_what_was_expected_and_what_was_there(failures: str, line: str) -> None:
    assert re.search(line, failures), failures
