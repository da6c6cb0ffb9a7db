"""`rrqd reqless-worker`: job classes run by supervised processes, by reqless' own flags, with no file of one's own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from rrqd import reqless
from tests.support.reqless_face import face_of
from tests.support.wait import until

JOBS = """
import json, os, time
print("imported", os.getpid(), flush=True)

class Order:
    @staticmethod
    def orders(job):
        job.data = json.dumps({"cwd": os.getcwd(), "sandbox": job.sandbox, "files": os.listdir(".")})
        open("rubbish", "w").close()
        job.complete("packing")

    @staticmethod
    async def packing(job):
        job.complete()

    @staticmethod
    def short(job):
        time.sleep(1)

    @staticmethod
    def process(job):
        while True:
            time.sleep(0.01)
"""


class Started:
    """One `rrqd reqless-worker`, and its log."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.log = folder / "log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "rrqd", "reqless-worker", *words], cwd=folder, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            )  # fmt: skip

    def says(self, pattern: str, times: int = 1) -> None:
        until(lambda: len(re.findall(pattern, self.log.read_text())) >= times, 20, pattern)

    def kill_all(self) -> None:
        """As when the machine loses its power."""
        try:
            family = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for one in family:
            one.kill()
        psutil.wait_procs(family, 10)
        self.process.wait()


@pytest.fixture
def client(dsn: str) -> Iterator[reqless.Client]:
    with face_of(dsn) as client:
        yield client


def state_of(client: reqless.Client, jid: str) -> str:
    job = client.jobs[jid]
    return job.state if isinstance(job, reqless.Job) else ""


def test_classes_run_in_sandboxes_and_a_run_that_died_is_resumed(
    dsn: str, client: reqless.Client, tmp_path: Path
) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "shopjobs.py").write_text(JOBS)
    words = [
        "-q", "orders", "-q", "packing", "-q", "long", "-q", "short", "--host", dsn, "--path", "code",
        "--import", "shopjobs",
        "--workers", "1", "--greenlets", "0", "--interval", "30", "--resume", "--name", "shop", "--verbose",
    ]  # fmt: skip
    started = Started(tmp_path, *words)
    try:
        started.says("rrqd.ready")
        jids = [client.queues["orders"].put("shopjobs.Order", "{}") for _ in range(2)]
        refused = client.queues["orders"].put("os.path", "{}")
        until(lambda: {state_of(client, jid) for jid in jids} == {"complete"}, 10, "the pipeline's end")
        for jid in jids:
            job = client.jobs[jid]
            assert isinstance(job, reqless.Job)
            assert re.search(r'"cwd": "(.+/reqless-workers/shop/state/.+)", "sandbox": "\1", "files": \[\]', job.data)
        until(lambda: state_of(client, refused) == "failed", 10, "the refusal")
        assert client.jobs.failed("orders-ImportError")["total"] >= 1
        started.says("imported", 1)
        file = tmp_path / "reqless-workers" / "shop" / "rrq.toml"
        assert (file.stat().st_mode & 0o777, tomllib.loads(file.read_text())["rrqd"]["idle_poll_seconds"]) == (
            0o600,
            30,
        )

        jid = client.queues["long"].put("shopjobs.Order", "{}")
        until(lambda: state_of(client, jid) == "running", 10, "the job to run")
        started.kill_all()
        started = Started(tmp_path, *words)
        started.says("node.reaped")  # long before the lease of 15 s ends
        until(lambda: len(client.jobs.get(jid)[0].worker_name) > 0, 10, "the job to run again")
        client.cancel(jid)
        until(lambda: not client.jobs.get(jid), 10, "its end")
        assert len(re.findall(r"imported (\d+)", started.log.read_text())) == 2
        jid = client.queues["short"].put("shopjobs.Order", "{}")
        until(lambda: state_of(client, jid) == "running", 10, "the job to run")
        started.process.send_signal(signal.SIGQUIT)
        assert (started.process.wait(15), state_of(client, jid)) == (0, "complete"), "as in reqless it may finish"
    finally:
        started.kill_all()
