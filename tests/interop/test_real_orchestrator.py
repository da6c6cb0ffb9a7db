"""The real ``rrq worker run`` with our runner in place of its own: it answers, also where its own is silent."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import tomli_w

from rrqd.client import RRQClient
from rrqd.job import JobStatus
from tests.interop.conftest import RealRRQ
from tests.support.daemon import alive, quiet_port
from tests.support.server import Server
from tests.support.wait import until

HANDLERS = (Path(__file__).parent / "scripts" / "runner_handlers.py").read_text().replace("from rrq.", "from rrqd.")
MORE = """

@registry.handler
def plain(request):
    return {"plain": request.params["n"]}


@registry.handler
async def no_json(request):
    return object()


@registry.handler
async def own_timeout(request):
    raise TimeoutError("the socket's")
"""


@pytest.fixture
def orchestrator(real_rrq: RealRRQ, server: Server, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The real one, with one runner of ours on the port."""
    (tmp_path / "handlers.py").write_text(HANDLERS + MORE)
    port = quiet_port()
    runner = {
        "type": "socket", "cmd": [sys.executable, "-m", "rrqd", "runner", "--settings", "handlers:settings"],
        "tcp_port": port, "pool_size": 1, "max_in_flight": 8, "env": {"PYTHONPATH": str(tmp_path)},
    }  # fmt: skip
    config = {"redis_dsn": server.dsn, "base_retry_delay_seconds": 0.05, "runners": {"python": runner}}
    (tmp_path / "rrq.toml").write_text(tomli_w.dumps({"rrq": config}))
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(real_rrq.python.parent / "rrq"), "worker", "run", "--config", str(tmp_path / "rrq.toml")],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": ""},
        )  # fmt: skip
    try:
        yield process, port
    finally:
        process.kill()
        process.wait(5)


def runner_of(process: subprocess.Popen[bytes]) -> int:
    found = [one.pid for one in psutil.Process(process.pid).children() if "runner" in " ".join(one.cmdline())]
    return found[0] if found else 0


async def test_the_real_orchestrator_runs_our_runner(
    orchestrator: tuple[subprocess.Popen[bytes], int], server: Server
) -> None:
    process, _port = orchestrator
    async with RRQClient(config={"redis_dsn": server.dsn}, timeout_seconds=20) as client:

        async def end(function: str, attempts: int = 1, **params: object) -> tuple[str, object, str]:
            job_id = await client.enqueue(function, {"params": params, "max_retries": attempts})
            done = await client.wait_for_completion(job_id, timeout_seconds=20)
            assert done is not None, function
            return done.status, done.result, done.last_error or ""

        status, said, _ = await end("echo", text="Grüße")
        assert (status, said["params"], said["attempt"]) == (JobStatus.COMPLETED, {"text": "Grüße"}, 1)  # type: ignore[index]
        assert await end("plain", n=7) == (JobStatus.COMPLETED, {"plain": 7}, "")
        assert (await end("again", 3))[:2] == (JobStatus.COMPLETED, 2)
        assert await end("fail", 2) == (JobStatus.FAILED, None, "told to fail: 2")
        assert "No handler" in (await end("nobody_has_this", 3))[2]
        # Its own runner says nothing to these, until the job's timeout.
        assert "object is not JSON" in (await end("no_json"))[2]
        assert "allows 16777216" in (await end("big"))[2]
        # Its own runner calls it the job's timeout, which is final.
        assert (await end("own_timeout"))[2] == "the socket's"

        pid = runner_of(process)
        process.kill()
        until(lambda: not alive(pid), 5, "our runner to leave with the orchestrator that used it")
