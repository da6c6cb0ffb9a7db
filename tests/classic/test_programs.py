"""Programs as people wrote them for RRQ's first API: only the name of the package is another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server import Server
from tests.support.wait import until

ROOT = Path(__file__).resolve().parents[2]

APP = """
import asyncio
from rrqd.classic.client import RRQClient
from rrqd.classic.exc import RetryJob
from rrqd.classic.registry import JobRegistry
from rrqd.classic.settings import RRQSettings
from rrqd.classic.worker import RRQWorker


async def greet(ctx, name, punctuation="!"):
    print("greet", name, ctx["job_try"], ctx["queue_name"], flush=True)
    return {"said": f"Hello {name}{punctuation}"}


async def broken(ctx):
    raise OSError("no luck")


async def moody(ctx, wanted):
    print("moody", ctx["job_try"], flush=True)
    if ctx["job_try"] < wanted:
        raise RetryJob("not in the mood", defer_seconds=0)
    child = await ctx["rrq_client"].enqueue("greet", "child", _queue_name=ctx["queue_name"])
    return child.id


registry = JobRegistry()
registry.register("greet", greet)
registry.register("moody", moody)
registry.register("broken", broken)


async def up():
    print("up", flush=True)


async def down():
    print("down", flush=True)


settings = RRQSettings(
    default_job_timeout_seconds=10, job_registry=registry, on_startup=up, on_shutdown=down, worker_concurrency=4,
)
"""

PRODUCER = """
import asyncio
from datetime import timedelta
from app import RRQClient, settings


async def main():
    client = RRQClient(settings=settings)
    first = await client.enqueue("greet", "Ada")
    second = await client.enqueue("moody", 2, _max_retries=3)
    once = await client.enqueue("greet", "Uma", punctuation="?", _unique_key="uma", _job_id="uma-1")
    again = await client.enqueue("greet", "Uma", _unique_key="uma")
    later = await client.enqueue("greet", "Leo", _defer_by=timedelta(seconds=600))
    print(first.status.value, second.max_retries, once.id, again, later.queue_name)
    await client.close()


asyncio.run(main())
"""

BARE = """
from app import RRQWorker, registry, settings

worker = RRQWorker(settings, registry, burst=True)
worker.run()
print("worker ended:", worker.status)
"""

AWAITED = """
import asyncio
from app import RRQWorker, registry, settings


async def main():
    worker = RRQWorker(settings, registry, queues=["rrq:queue:default"], burst=True)
    try:
        await worker.run()
    finally:
        await worker.close()
    print("worker ended:", worker.status)


asyncio.run(main())
"""

RUN = BARE.replace("worker.run()", "import asyncio; asyncio.run(worker.run())")
FOREVER = BARE.replace(", burst=True", "")


class Place:
    """A folder of programs beside a server."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder = folder
        self.environment = {**os.environ, "RRQ_REDIS_DSN": server.dsn, "PYTHONPATH": f"{ROOT}:{folder}"}
        (folder / "app.py").write_text(APP)

    def run(self, program: str) -> list[str]:
        """The program's lines."""
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=self.folder, env=self.environment, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=30,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()


@pytest.fixture
def place(tmp_path: Path, server: Server) -> Place:
    return Place(tmp_path, server)


@pytest.mark.parametrize("worker", [BARE, AWAITED, RUN], ids=["bare", "awaited", "asyncio.run"])
def test_a_program_of_the_first_api_runs(place: Place, worker: str) -> None:
    assert place.run(PRODUCER) == ["PENDING 3 uma-1 None rrq:queue:default"]
    lines = place.run(worker)
    assert lines[0] == "up"
    assert lines[-2:] == ["down", "worker ended: stopped"]
    assert sorted(lines[1:-2]) == [
        "greet Ada 1 rrq:queue:default",
        "greet Uma 1 rrq:queue:default",
        "greet child 1 rrq:queue:default",
        "moody 1",
        "moody 2",
    ]
    said = "import asyncio; from app import RRQClient, settings; store = RRQClient(settings).job_store\n"
    said += 'job = asyncio.run(store.get_job_definition("uma-1")); print(job.status.value, job.result, job.job_kwargs)'
    assert place.run(said) == ["COMPLETED {'said': 'Hello Uma?'} {'punctuation': '?'}"]


def test_a_worker_obeys_signals(place: Place) -> None:
    place.run(PRODUCER)
    with (place.folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", FOREVER], cwd=place.folder, env=place.environment, stdin=subprocess.DEVNULL,
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        until(lambda: "greet child" in (place.folder / "log").read_text(), 15, "the jobs to run")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
    assert "worker ended: stopped" in (place.folder / "log").read_text()


def test_what_goes_wrong_is_a_line_on_stderr(place: Place) -> None:
    place.run(
        "import asyncio; from app import RRQClient, settings\n"
        "asyncio.run(RRQClient(settings).enqueue('broken', _max_retries=1, _job_id='b-1'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", BARE], cwd=place.folder, env=place.environment, capture_output=True, text=True,
        stdin=subprocess.DEVNULL, timeout=30,
    )  # fmt: skip
    assert len(done.stderr.splitlines()) == 1, done.stderr
    line = done.stderr
    assert line[13:].startswith("error   job.buried")
    assert "job_id=b-1" in line
    assert "no luck" in line
