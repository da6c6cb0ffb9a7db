"""Socket runners under rrqd: the real ``rrq-runner``, ours, and one in Node.js. What a job does there costs nobody
else anything."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from signal import SIGKILL
from typing import Any

import psutil
import pytest

from rrqd.client import SyncRRQClient
from rrqd.job import JobStatus
from rrqd.model.job import Job
from tests.interop.conftest import RealRRQ
from tests.support.app import TOLD, App, app
from tests.support.daemon import Daemon, alive, quiet_port
from tests.support.server import Server
from tests.support.wait import until

SCRIPTS = Path(__file__).parent / "scripts"
CALM = {"max_retries": 1}
#: Lets somebody else, in a process group of his own, have the port for a moment.
STRANGER = """
import os, socket, sys, time
host, port = sys.argv[-1].split(":")
if os.fork() == 0:
    os.setpgid(0, 0)
    listener = socket.create_server((host, int(port)))
    time.sleep(5)
    os._exit(0)
time.sleep(60)
"""


def command(kind: str, real_rrq: RealRRQ, folder: Path) -> list[str]:
    """How a runner of this kind is started."""
    if kind == "node":
        found = shutil.which("node")
        assert found is not None, "these tests need Node.js: `node` is not on the PATH"
        return [found, str(SCRIPTS / "runner.mjs")]
    handlers = (SCRIPTS / "runner_handlers.py").read_text()
    if kind == "ours":
        (folder / "runner_handlers.py").write_text(handlers.replace("from rrq.", "from rrqd."))
        return [sys.executable, "-m", "rrqd", "runner", "--settings", "runner_handlers:settings"]
    (folder / "runner_handlers.py").write_text(handlers)
    return [str(real_rrq.python.parent / "rrq-runner"), "--settings", "runner_handlers.settings"]


def with_runner(kind: str, real_rrq: RealRRQ, **table: Any) -> Daemon:
    """rrqd with one such runner, eight jobs at a time."""
    daemon = Daemon(pools={}, stand_ins=False, timeout_grace_seconds=1.0)
    runner = {
        "type": "socket", "cmd": command(kind, real_rrq, daemon.folder), "tcp_port": quiet_port(), "pool_size": 1,
        "max_in_flight": 8, "env": {"PYTHONPATH": str(daemon.folder)}, **table,
    }  # fmt: skip
    daemon.rrq = {"base_retry_delay_seconds": 0.05, "default_runner_name": kind, "runners": {kind: runner}}
    daemon.write_config()
    return daemon


def runner_pid(daemon: Daemon) -> int:
    """The one that is ready now."""
    return int([one for one in daemon.log() if one["event"] == "runner.ready"][-1]["runner_pid"])


@pytest.fixture(scope="module", params=["real", "ours", "node"])
def daemon(request: pytest.FixtureRequest, real_rrq: RealRRQ) -> Iterator[Daemon]:
    with with_runner(request.param, real_rrq) as found:
        yield found
        assert found.stop() == 0


@pytest.fixture
async def a(daemon: Daemon) -> AsyncIterator[App]:
    async with app(daemon) as found:
        yield found


@pytest.fixture
async def on_node(real_rrq: RealRRQ) -> AsyncIterator[App]:
    """A daemon of the test's own, with the runner that starts fastest."""
    with with_runner("node", real_rrq) as daemon:
        async with app(daemon) as found:
            yield found
        assert daemon.stop() == 0


async def end(a: App, function: str, options: dict[str, Any] | None = None, **params: Any) -> Job:
    job_id = await a.client.enqueue(function, {"params": params, **(options or {})})
    await a.end(job_id)
    return await a.job(job_id)


async def attempts(a: App, job_id: str) -> str:
    """How many attempts it has lost."""
    return (await a.job(job_id)).fields.get("current_retries", "0")


async def test_each_outcome_of_a_runner_means_what_it_means_in_rrq(a: App) -> None:
    options = {"trace_context": {"traceparent": "00-1-2-03"}}
    job = await end(a, "echo", options, text="Grüße 🙂", list=[1, 2.5, None])
    assert job.status == JobStatus.COMPLETED
    said = job.result
    assert (said["job_id"], said["function"], said["attempt"], said["version"]) == (job.id, "echo", 1, "2")
    assert (said["params"], said["queue"]) == ({"text": "Grüße 🙂", "list": [1, 2.5, None]}, "rrq:queue:default")
    assert (said["trace"], said["correlation"]) == ({"traceparent": "00-1-2-03"}, None)
    assert said["has_times"]
    assert said["worker"].startswith("rrqd_")

    failed = await end(a, "fail", {"max_retries": 2})
    assert (failed.status, failed.last_error) == (JobStatus.FAILED, "told to fail: 2")
    assert (await end(a, "again", {"max_retries": 3})).result == 2
    unknown = await end(a, "nobody_has_this")
    assert (unknown.status, unknown.fields["current_retries"]) == (JobStatus.FAILED, "1")
    named = f"{runner_name(a)}#echo"
    assert (await end(a, named)).result["function"] == "echo"
    foreign = await end(a, "cobol#echo")
    assert (foreign.status, foreign.last_error) == (JobStatus.FAILED, "No runner configured for 'cobol'.")
    assert (await end(a, "say", text="hello, log")).status == JobStatus.COMPLETED
    a.daemon.expect_log("raw", text=re.compile(rf"^\[{runner_name(a)}/0\] hello, log$"))


async def test_parents_and_a_next_step_go_through_a_runner_of_ours(a: App) -> None:
    if runner_name(a) != "ours":
        pytest.skip("RRQ's protocol has no word for them")
    parent = await end(a, "wait", seconds=0)
    child = await end(a, "gather", {"depends_on": [parent.id]})
    assert (child.status, child.function, child.result["params"]) == ("COMPLETED", "echo", {parent.id: parent.result})


async def test_w21_our_own_runner_listens_nowhere(a: App) -> None:
    listening = psutil.Process(runner_pid(a.daemon)).net_connections("tcp")
    assert (listening == []) is (runner_name(a) == "ours")


def runner_name(a: App) -> str:
    return str(a.daemon.rrq["default_runner_name"])


async def test_a_cancelled_a_late_and_a_too_large_job_cost_their_neighbours_nothing(a: App) -> None:
    pid = runner_pid(a.daemon)
    neighbours = [await a.client.enqueue("wait", {"params": {"seconds": 2}, **CALM}) for _ in range(2)]
    cancelled = await a.client.enqueue("wait", {"params": {"seconds": 60}})
    await a.running([*neighbours, cancelled])
    large = await end(a, "big", CALM)
    assert (large.status, (large.error or {})["type"]) == (JobStatus.FAILED, "ResultTooLarge")
    assert await a.client.cancel(cancelled)
    assert (await a.end(cancelled, 5)).status == JobStatus.CANCELLED
    late = await end(a, "wait", {"job_timeout_seconds": 1, **CALM}, seconds=60)
    assert (late.status, (late.error or {})["type"]) == (JobStatus.FAILED, "timeout")
    assert await a.ends(neighbours) == {"COMPLETED": 2}
    assert {(await a.job(one)).result for one in neighbours} == {pid}
    assert runner_pid(a.daemon) == pid


async def test_w04_a_runner_that_dies_takes_no_attempt_of_the_neighbours_with_it(on_node: App) -> None:
    neighbour = await on_node.client.enqueue("wait", {"params": {"seconds": 2}, **CALM})
    await on_node.running([neighbour])
    killer = await on_node.client.enqueue("die", CALM)
    lost = on_node.daemon.expect_log("runner.lost")
    assert lost["why"] == "it ended with exit code 3"
    done = await on_node.end(neighbour, 40)
    assert (done.status, await attempts(on_node, neighbour)) == (JobStatus.COMPLETED, "0")
    poison = await on_node.end(killer, 40)
    assert "Poison" in (poison.last_error or "")


async def test_w04b_a_runner_that_is_blocked_is_noticed_and_killed_and_only_the_blocker_pays(on_node: App) -> None:
    pid = runner_pid(on_node.daemon)
    blocker = await on_node.client.enqueue("block", {"params": {"seconds": 600}, "job_timeout_seconds": 1, **CALM})
    on_node.daemon.expect_log("raw", text="[node/0] blocking")
    neighbour = await on_node.client.enqueue("wait", {"params": {"seconds": 0.1}, **CALM})
    done = await on_node.end(neighbour, 40)
    assert (done.status, await attempts(on_node, neighbour)) == (JobStatus.COMPLETED, "0")
    ended = await on_node.end(blocker, 40)
    assert (ended.status, "timed out" in (ended.last_error or "")) == (JobStatus.FAILED, True)
    until(lambda: not alive(pid), 5, "the blocked runner to be gone")


async def test_w08_nothing_is_left_of_a_killed_worker_or_daemon(on_node: App) -> None:
    pid = runner_pid(on_node.daemon)
    (worker,) = on_node.daemon.workers().values()
    psutil.Process(worker).send_signal(SIGKILL)
    until(lambda: not alive(pid), 5, "the runner to die with its worker")
    job = await end(on_node, "echo")
    assert job.status == JobStatus.COMPLETED
    assert job.result["pid"] == runner_pid(on_node.daemon) != pid


async def test_w20_a_job_that_names_its_runner_gets_there_from_whatever_queue(real_rrq: RealRRQ) -> None:
    daemon = with_runner("node", real_rrq)
    daemon.rrq |= {"default_runner_name": "python", "runner_routes": {"media": "node"}}
    daemon.pools = {"main": {}}
    daemon.write_jobs(TOLD)
    daemon.write_config()
    with daemon:
        async with app(daemon) as a:
            from_default = await end(a, "node#echo", n=1)
            assert (from_default.status, from_default.queue) == (JobStatus.COMPLETED, "node#")
            assert from_default.result["queue"] == "rrq:queue:default"
            assert (from_default.result["function"], from_default.result["attempt"]) == ("echo", 1)
            assert (await end(a, "echo", {"queue_name": "media"})).result["queue"] == "rrq:queue:media"
            told = await end(a, "python#told", {"queue_name": "media"}, do="ok", ledger=str(a.ledger))
            assert told.status == JobStatus.COMPLETED
            again = await end(a, "node#again", {"max_retries": 3})
            assert (again.result, again.fields["current_retries"]) == (2, "1")
            lost = await end(a, "cobol#echo")
            assert lost.last_error == "No runner configured for 'cobol'."
        assert daemon.stop() == 0


def test_a_worker_alone_has_its_runner_and_outlives_its_crashes(server: Server, real_rrq: RealRRQ) -> None:
    daemon = with_runner("node", real_rrq)
    daemon.rrq["redis_dsn"] = server.dsn
    daemon.write_config()
    command = [sys.executable, "-m", "rrqd", "worker", "run", "--config", str(daemon.folder / "rrq.toml")]
    with SyncRRQClient(config={"redis_dsn": server.dsn}) as client:
        killer = client.enqueue("die", CALM)
        ids = [client.enqueue("echo", {"params": {"n": n}}) for n in range(20)]
        done = subprocess.run(
            [*command, "--burst", "--horizon", "1"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60
        )
        assert done.returncode == 0, done.stderr.decode()
        assert {client.get_job_status(job_id).status for job_id in ids} == {JobStatus.COMPLETED}
        assert "Poison" in (client.get_job_status(killer).last_error or "")
    shutil.rmtree(daemon.folder)


@pytest.mark.parametrize(
    ("cmd", "why"),
    [
        (["/no/such/program"], "/no/such/program can't be started: No such file or directory"),
        ([sys.executable, "-c", "print('out of paper'); raise SystemExit(4)"], "exit code 4 before .*out of paper"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], "after 0.3 s nobody listens on 127.0.0.1:"),
        ([sys.executable, "-c", STRANGER], r"is answered by python.* \(pid \d+\), which is not the runner"),
        ([sys.executable, "-m", "rrqd", "runner", "--settings", "no_such:thing"], 'exit code 78 .*"no_such"'),
    ],
)
def test_a_runner_that_does_not_start_is_told_in_one_line(
    server: Server, real_rrq: RealRRQ, cmd: list[str], why: str
) -> None:
    daemon = with_runner("node", real_rrq, cmd=cmd)
    daemon.rrq |= {"redis_dsn": server.dsn, "runner_connect_timeout_ms": 300 if "sleep" in cmd[-1] else 15_000}
    daemon.write_config()
    done = subprocess.run(
        [sys.executable, "-m", "rrqd", "worker", "run", "--config", str(daemon.folder / "rrq.toml")],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=60, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert re.search(f"runner node: .*{why}", done.stderr.replace('\\"', '"')), done.stderr
    assert "Traceback" not in done.stderr
    shutil.rmtree(daemon.folder)
