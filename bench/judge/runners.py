"""Defects that show with a socket runner: RRQ's own Python runner, under both."""

from __future__ import annotations

import json
import socket

import psutil

from bench.judge.side import ENQUEUED, Finding, Side


def w04(side: Side) -> Finding:
    """A job ends its runner; a neighbour with one attempt is aboard."""
    with side.worker(runner=True):
        side.put("nap", "neighbour", params={"seconds": 2.0}, max_retries=1)
        side.wait("ACTIVE", "neighbour")
        side.put("die", "killer", max_retries=1)
        end = side.end("neighbour", 30.0)
    job = side.job("neighbour")
    why = f": `{job.get('last_error', '')[:60]}`" if end == "FAILED" else f", {job['current_retries']} attempts lost"
    return Finding(f"neighbour {end}{why}", end == "COMPLETED")


def w04b(side: Side) -> Finding:
    """A job blocks its runner's loop for a minute; a job that comes afterwards has 2 s and 4 attempts."""
    with side.worker(runner=True):
        side.put("nap", "neighbour", params={"seconds": 4.0})
        side.put("block", "blocker", params={"seconds": 60}, job_timeout_seconds=1, max_retries=1)
        side.wait("ACTIVE", "blocker")
        side.after(2.0)
        side.put("nothing", "fresh", job_timeout_seconds=2, max_retries=4)
        end = side.end("fresh", 40.0)
    job = side.job("fresh")
    text = f"the later job {end}, {job['current_retries']} attempts counted"
    return Finding(text, end == "COMPLETED")


def w08(side: Side) -> Finding:
    """The whole program is killed with SIGKILL."""
    with side.worker(runner=True) as program:
        everybody = program.processes()
        runners = [one for one in everybody if "rrq-runner" in " ".join(one.cmdline())]
        bosses = [one for one in everybody if one not in runners]
        for one in bosses:
            one.kill()
        _gone, alive = psutil.wait_procs(runners, timeout=3.0)
        ports = [one.laddr.port for left in alive for one in left.net_connections("tcp") if one.status == "LISTEN"]
    return Finding("runner lives on and holds its port" if ports else "nobody is left", not alive)


def w20_runner(side: Side) -> Finding:
    """A job names a runner of the file that no queue is routed to."""
    with side.worker(runner=True, spare=True):
        side.put("spare#nothing", max_retries=1)
        end = side.end()
    why = side.job().get("last_error", "")
    return Finding(f"{end}{f': `{why}`' if why else ''}", end == "COMPLETED")


def w21(side: Side) -> Finding:
    """A stranger connects to whatever its processes listen on, and asks for a job to be run."""
    with side.worker() as program:
        listening = {
            one.laddr.port
            for process in program.processes()
            for one in process.net_connections("tcp")
            if one.status == psutil.CONN_LISTEN
        }
        obeying = [port for port in listening if _obeys(port)]
    return Finding("runs it" if obeying else "nobody takes it", not obeying)


def _obeys(port: int) -> bool:
    context = {"job_id": "x", "attempt": 1, "enqueue_time": ENQUEUED, "queue_name": "rrq:queue:default"}
    payload = {
        "protocol_version": "2", "request_id": "x", "job_id": "x", "function_name": "nothing", "params": {},
        "context": context,
    }  # fmt: skip
    body = json.dumps({"type": "request", "payload": payload}).encode()
    with socket.create_connection(("127.0.0.1", port), timeout=3.0) as line:
        line.sendall(len(body).to_bytes(4, "big") + body)
        try:
            return b'"success"' in line.recv(4096)
        except OSError:
            return False
