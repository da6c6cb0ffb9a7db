"""``--settings app.settings`` in the place of a file, and several workers by a number."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rrqd.client import SyncRRQClient
from tests.support.server import Server
from tests.support.wait import until

ROOT = Path(__file__).resolve().parents[2]
APP = """
import os
from rrqd.classic import JobRegistry, RRQSettings

print("the program talks while it is imported")


async def who(ctx, word, mark="."):
    return [word + mark, os.getppid(), ctx["worker_id"]]


registry = JobRegistry()
registry.register("who", who)
settings = RRQSettings(job_registry=registry, worker_concurrency=1, worker_shutdown_grace_period_seconds=2)
number = 3
"""


class Place:
    """A folder with a program, beside a server."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder = folder
        self.server, self.dsn = server, server.dsn
        (folder / "app.py").write_text(APP)
        self.environment = {
            **os.environ, "RRQ_REDIS_DSN": server.dsn, "PYTHONPATH": str(ROOT),
            "STATE_DIRECTORY": str(folder / "state"),
        }  # fmt: skip
        self.started: list[subprocess.Popen[bytes]] = []

    def rrqd(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "rrqd", *words], cwd=self.folder, env={**self.environment, **environment},
            capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60,
        )  # fmt: skip

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "rrqd", *words], cwd=self.folder, env=self.environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self.started.append(process)
        return process

    def workers(self) -> int:
        """How many are open."""
        return self.server.ask("KEYS", "rrqd:worker:*").count(b"rrqd:worker:")

    def client(self) -> SyncRRQClient:
        return SyncRRQClient(config={"redis_dsn": self.dsn})


@pytest.fixture
def place(tmp_path: Path, server: Server) -> Iterator[Place]:
    place = Place(tmp_path, server)
    try:
        yield place
    finally:
        for process in place.started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(15)


def test_the_daemon_runs_on_a_settings_object(place: Place) -> None:
    daemon = place.start("--settings", "app.settings", "--num-workers", "2")
    until(lambda: place.workers() == 2, 40, "two workers")
    with place.client() as client:
        job = client.enqueue("who", {"args": ["a"], "params": {"mark": "!"}})
        end = client.wait_for_completion(job, timeout_seconds=10)
    assert end is not None
    assert end.result[:2] == ["a!", daemon.pid]
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(15) == 0


def test_commands_take_it_as_an_option_or_from_the_environment(place: Place) -> None:
    with place.client() as client:
        job = client.enqueue("who", {"args": ["a"]})
        done = place.rrqd("worker", "run", "--burst", RRQ_SETTINGS="app.settings")
        assert done.returncode == 0, done.stderr
        end = client.get_job_status(job)
    assert end is not None
    assert end.result[0] == "a."
    shown = place.rrqd("--settings", "app.settings", "config", "show", "--json")
    assert json.loads(shown.stdout)["settings"]["rrqd"]["on_timeout"] == "bury"


def test_a_mistake_is_one_line(place: Place) -> None:
    def said(spec: str) -> str:
        done = place.rrqd("check", "--settings", spec)
        assert done.returncode == 78
        return done.stderr.splitlines()[-1]

    assert said("app.number") == "--settings app.number: is a int, not an RRQSettings of rrqd.classic"
    assert said("app.setings").endswith('has no "setings"; did you mean "settings"?')
    with (place.folder / "app.py").open("a") as app:
        app.write("\nbare = RRQSettings()\n")
    done = place.rrqd("worker", "run", "--settings", "app.bare")
    assert (done.returncode, "a job_registry" in done.stderr) == (78, True)
    done = place.rrqd("--num-workers", "3")
    assert done.returncode == 2
    assert "--num-workers goes with --settings" in done.stderr


def test_several_workers_side_by_side_are_replaced_when_one_dies(place: Place) -> None:
    crew = place.start("worker", "run", "--num-workers", "2", "--settings", "app.settings")
    until(lambda: place.workers() == 2, 40, "two workers")

    def children() -> list[str]:
        return Path(f"/proc/{crew.pid}/task/{crew.pid}/children").read_text().split()

    first, _ = children()
    os.kill(int(first), signal.SIGKILL)
    until(lambda: len(children()) == 2 and first not in children(), 15, "another worker in its place")
    crew.send_signal(signal.SIGTERM)
    assert crew.wait(15) == 0


def test_a_crew_that_cannot_begin_gives_up(place: Place) -> None:
    (place.folder / "app.py").write_text(APP + "def up():\n    raise OSError('no')\n\nsettings.on_startup = up\n")
    done = place.rrqd("worker", "run", "--num-workers", "2", "--settings", "app.settings")
    assert done.returncode == 1
    assert "crew.gives_up" in done.stderr
