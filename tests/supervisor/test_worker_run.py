"""``rrqd worker run`` and ``worker list``, as an operator uses them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w

from rrqd.client import SyncRRQClient
from tests.support.server import Server
from tests.support.wait import until

ROOT = Path(__file__).resolve().parents[2]
JOBS = """
import asyncio
import contextlib
from rrqd import Registry
registry = Registry()

@registry.handler("add")
async def add(request):
    return request.params["a"] + 1

@registry.handler("nap")
async def nap(request):
    await asyncio.sleep(request.params["seconds"])
    return "rested"

@contextlib.contextmanager
def ten_more(request):
    request.params["a"] += 10
    yield
"""


class Place:
    """A folder with a configuration, beside a server."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder = folder
        self.python = sys.executable
        self.dsn = server.dsn
        (folder / "jobs.py").write_text(JOBS)
        self.configure(default={"queues": ["default", "mail"]})
        self.started: list[subprocess.Popen[bytes]] = []

    def configure(self, **pools: dict[str, object]) -> None:
        whole = {name: {"handlers": "jobs:registry", **pool} for name, pool in pools.items()}
        rrqd = {"state_dir": str(self.folder / "state"), "log_format": "json", "pools": whole}
        (self.folder / "rrq.toml").write_text(tomli_w.dumps({"rrq": {"redis_dsn": self.dsn}, "rrqd": rrqd}))

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "rrqd", *words, "--config", str(self.folder / "rrq.toml")]

    def rrqd(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words), capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30, cwd=ROOT
        )

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(self.command(*words), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT)
        self.started.append(process)
        return process

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def client(self) -> SyncRRQClient:
        return SyncRRQClient(config={"redis_dsn": self.dsn})


@pytest.fixture
def place(tmp_path: Path, server: Server) -> Iterator[Place]:
    place = Place(tmp_path, server)
    try:
        yield place
    finally:
        for process in place.started:
            process.kill()
            process.wait()


def test_a_burst_ends_with_0_when_all_is_done_and_waits_for_what_is_due_soon(place: Place) -> None:
    with place.client() as client:
        now = client.enqueue("add", {"params": {"a": 1}})
        soon = client.enqueue("add", {"params": {"a": 2}, "queue_name": "mail", "defer_by_seconds": 1.5})
        later = client.enqueue("add", {"params": {"a": 3}, "defer_by_seconds": 600})
        done = place.rrqd("worker", "run", "--burst", "--horizon", "5")
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        statuses = [client.get_job_status(one) for one in (now, soon, later)]
        assert [one.status.value for one in statuses if one] == ["COMPLETED", "COMPLETED", "PENDING"]
        assert '"why":"dry"' in done.stderr


def test_only_the_named_queues_are_served_and_the_pools_middleware_is_around_their_jobs(place: Place) -> None:
    place.configure(default={"queues": ["default", "mail"], "middleware": ["jobs:ten_more"]})
    with place.client() as client:
        mail = client.enqueue("add", {"params": {"a": 1}, "queue_name": "mail"})
        other = client.enqueue("add", {"params": {"a": 1}})
        assert place.rrqd("worker", "run", "--burst", "--queue", "rrq:queue:mail").returncode == 0
        statuses = [client.get_job_status(one) for one in (mail, other)]
        assert [(one.status.value, one.result) for one in statuses if one] == [("COMPLETED", 12), ("PENDING", None)]


def test_term_lets_it_finish_and_a_second_one_does_not(place: Place) -> None:
    with place.client() as client:
        quick = client.enqueue("nap", {"params": {"seconds": 1}})
        process = place.start("worker", "run")
        until(lambda: "worker.ready" in place.log(), 15, "the worker to be ready")
        (listed,) = json.loads(place.rrqd("worker", "list", "--json").stdout)
        assert listed["worker"].startswith("rrqd_")
        assert 0 < listed["lease_seconds"] <= 15
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert client.wait_for_completion(quick, timeout_seconds=1)
        assert json.loads(place.rrqd("worker", "list", "--json").stdout) == []

        long = client.enqueue("nap", {"params": {"seconds": 60}})
        process = place.start("worker", "run")

        def runs() -> bool:
            status = client.get_job_status(long)
            return status is not None and status.status == "ACTIVE"

        until(runs, 15, "the long job to run")
        process.send_signal(signal.SIGINT)
        until(
            lambda: "worker.stopping" in place.log().rpartition("worker.ready")[2], 10, "the first signal to be heard"
        )
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        status = client.get_job_status(long)
        assert status is not None
        assert status.status == "PENDING"


def test_a_handler_that_does_not_let_go_costs_the_process_its_life_and_the_job_an_attempt(place: Place) -> None:
    jobs = (place.folder / "jobs.py").read_text()
    stuck = '\n@registry.handler("stuck")\ndef stuck(request):\n    import threading\n    threading.Event().wait(60)\n'
    (place.folder / "jobs.py").write_text(jobs + stuck)
    text = (place.folder / "rrq.toml").read_text()
    (place.folder / "rrq.toml").write_text(text.replace("[rrqd]\n", "[rrqd]\ntimeout_grace_seconds = 0.3\n", 1))
    with place.client() as client:
        neighbour = client.enqueue("nap", {"params": {"seconds": 3}})
        bad = client.enqueue("stuck", {"job_timeout_seconds": 1, "max_retries": 1})
        process = place.start("worker", "run")
        end = client.wait_for_completion(bad, timeout_seconds=30)
        assert end is not None
        assert end.status == "FAILED"
        assert "did not let go" in (end.last_error or "")
        rested = client.wait_for_completion(neighbour, timeout_seconds=30)
        assert rested is not None
        assert rested.result == "rested"
        job = client.get_job(neighbour)
        assert job is not None
        assert job.number("current_retries") in (None, 0)
    assert place.log().count("worker.begins_anew") == 1
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


def test_several_pools_want_a_word(place: Place) -> None:
    place.configure(one={"queues": ["a"]}, two={"queues": ["b"]})
    done = place.rrqd("worker", "run", "--burst")
    assert done.returncode == 78
    assert done.stderr == "rrqd worker run: say which pool to be with --pool; there are one, two\n"
    assert place.rrqd("worker", "run", "--burst", "--queue", "b").returncode == 0
    assert place.rrqd("worker", "run", "--burst", "--pool", "one").returncode == 0
    assert "there is no pool" in place.rrqd("worker", "run", "--pool", "three").stderr
    assert place.rrqd("worker", "run", "--horizon", "3").returncode == 2


def test_a_start_up_hook_that_fails_is_told_and_ends_it_with_1(place: Place) -> None:
    text = "from rrqd import PythonRunnerSettings, Registry\n\n\ndef up():\n    raise OSError('no database')\n\n\n"
    (place.folder / "jobs.py").write_text(
        text + "registry = PythonRunnerSettings(registry=Registry(), on_startup=up)\n"
    )
    done = place.rrqd("worker", "run", "--burst")
    assert done.returncode == 1
    assert "no database" in done.stderr
