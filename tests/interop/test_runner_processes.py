"""Runner processes as an operator has them: ports, output, reloads, orphans, runners that somebody else started."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path
from signal import SIGCONT, SIGHUP, SIGKILL, SIGSTOP

import psutil

from tests.interop.conftest import RealRRQ
from tests.interop.test_runners import end, runner_pid, with_runner
from tests.support.app import app
from tests.support.daemon import alive, quiet_port
from tests.support.server import Server
from tests.support.wait import until


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_a_taken_port_is_told_a_reload_needs_no_second_one_and_a_killed_house_leaves_no_runner(
    real_rrq: RealRRQ,
) -> None:
    with socket.socket() as squatter:
        port = quiet_port()
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        daemon = with_runner("node", real_rrq, tcp_port=port)
        daemon.rrq["capture_runner_output"] = True
        daemon.write_config()
        with daemon:
            async with app(daemon) as a:
                taken = daemon.expect_log("runner.port_taken", port=port)
                assert re.search(rf"pid {os.getpid()}\b", taken["holder"])
                await end(a, "say", text="captured")
                said = daemon.expect_log("runner.said", line="captured")
                assert (said["stream"], said["slot"]) == ("stdout", "node/0")

                before = runner_pid(daemon)
                squatter.close()
                daemon.signal(SIGHUP)
                daemon.expect_log("reload.done")
                until(lambda: not alive(before), 10, "the old runner to leave")
                ready = [one for one in daemon.log() if one["event"] == "runner.ready"][-1]
                assert (ready["port"], ready["generation"]) == (port, 2)
                assert (await end(a, "echo")).result["pid"] == runner_pid(daemon)

                (worker,) = until(lambda: one if len(one := daemon.workers()) == 1 else {}, 10, "one worker").values()
                for pid in (daemon.pid, worker):
                    psutil.Process(pid).send_signal(SIGKILL)
                until(lambda: not alive(runner_pid(daemon)), 5, "the runner to die with the house")
                until(lambda: not listens(port), 5, "the port to be free")


async def test_an_external_runner_is_found_and_found_again_after_its_restart(real_rrq: RealRRQ, tmp_path: Path) -> None:
    daemon = with_runner("node", real_rrq)
    table = daemon.rrq["runners"]["node"]
    command, port = table.pop("cmd"), table["tcp_port"]
    daemon.rrq["runner_management_mode"] = "external"
    daemon.write_config()

    def start() -> subprocess.Popen[bytes]:
        with (tmp_path / "runner.log").open("ab") as log:
            runner = subprocess.Popen(
                [*command, "--tcp-socket", f"127.0.0.1:{port}"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        until(lambda: listens(port), 10, "the runner to listen")
        return runner

    runner = start()
    try:
        with daemon:
            async with app(daemon) as a:
                assert (await end(a, "echo")).result["pid"] == runner.pid
                runner.kill()
                runner.wait(5)
                daemon.expect_log("runner.lost", why="it closed the connection")
                runner = start()
                assert (await end(a, "echo")).result["pid"] == runner.pid
            assert daemon.stop() == 0
        assert runner.poll() is None
    finally:
        runner.kill()
        runner.wait(5)
        shutil.rmtree(daemon.folder, ignore_errors=True)


async def test_a_stop_hands_back_what_a_runner_holds_and_a_frozen_one_gets_no_more_work(real_rrq: RealRRQ) -> None:
    daemon = with_runner("node", real_rrq, pool_size=2)
    daemon.rrqd["stop_timeout_seconds"] = 3.0
    daemon.rrqd["embedded"] = "never"
    server = Server()
    daemon.rrq["redis_dsn"] = server.dsn
    daemon.write_config()
    try:
        with daemon:
            async with app(daemon, server.dsn) as a:
                pids = [one["runner_pid"] for one in daemon.log() if one["event"] == "runner.ready"]
                # As many as fit into both, so that the frozen one holds some.
                held = [await a.client.enqueue("wait", {"params": {"seconds": 60}}) for _ in range(16)]
                await a.running(held)
                psutil.Process(pids[0]).send_signal(SIGSTOP)
                silent = daemon.expect_log("runner.silent")
                psutil.Process(pids[0]).send_signal(SIGCONT)
                daemon.expect_log("runner.speaks_again", slot=silent["slot"])
                assert daemon.stop() == 0
                jobs = [await a.job(job_id) for job_id in held]
                assert {(job.status, job.fields.get("current_retries", "0")) for job in jobs} == {("PENDING", "0")}
                assert {job.fields.get("rrqd_stalls", "0") for job in jobs} == {"0"}
            assert not any(alive(pid) for pid in pids)
    finally:
        server.remove()
