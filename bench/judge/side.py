"""One of the two that are judged: its worker, its clients, its command line, on a server of its own.

Jobs are put in as a real producer writes them, so that both get the same.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import psutil

from bench.daemon import Program, RealRRQ, Rrqd
from bench.server import Server, free_ports, until

ENQUEUED = "2026-01-01T00:00:00+00:00"
FINAL = ("COMPLETED", "FAILED", "CANCELLED")
CALM = {"base_retry_delay_seconds": 0.1, "max_retry_delay_seconds": 0.1}


class Finding(NamedTuple):
    """What was seen, in a few words, and whether it is as it should be."""

    text: str
    is_well: bool


class JudgedRrqd(Rrqd):
    """rrqd on the same ``[rrq]`` table as the other side: with handlers of its own, or with RRQ's runner."""

    def __init__(
        self, server: Server, python: Path, rrq: dict[str, Any], *, runner: bool, spare: bool, in_flight: int
    ) -> None:
        self._spare = spare
        self._rrq = {"redis_dsn": server.dsn, **rrq}
        self._runner = runner
        self._real_python = python
        super().__init__(server, processes=2 if spare else 1, concurrency=in_flight)  # a worker for each runner

    def _write(self) -> None:
        ours: dict[str, Any] = {
            "state_dir": str(self.folder / "state"), "http": f"127.0.0.1:{self._http}", "embedded": "never",
            "log_format": "json", "retry_jitter": 0.0,
        }  # fmt: skip
        rrq = dict(self._rrq)
        if self._runner:
            text = (self.folder / "jobs.py").read_text()
            (self.folder / "jobs.py").write_text(text.replace("from rrqd.", "from rrq."))
            table = runner_table(self._real_python, self.folder, self._pool["concurrency"])
            rrq["runners"] = {"python": table, **spare_runner(self._spare, table)}
        else:
            queues = {"queues": ["default", *rrq.pop("more_queues", ())]}
            ours["pools"] = {"default": {**self._pool, **queues, "processes": self._processes}}
        self.write_config({"rrq": rrq, "rrqd": ours})


class JudgedReal(RealRRQ):
    """``rrq worker run`` with one runner process."""

    def __init__(self, server: Server, python: Path, rrq: dict[str, Any], *, spare: bool, in_flight: int) -> None:
        self._queues = ["default", *rrq.pop("more_queues", ())]
        self._spare = spare
        super().__init__(server, python, processes=1, max_in_flight=in_flight, **rrq)

    def write_config(self, tables: dict[str, Any]) -> None:
        runners = tables["rrq"]["runners"]
        runners |= spare_runner(self._spare, runners["python"])
        super().write_config(tables)

    def command(self) -> list[str]:
        return [*super().command(), *(word for queue in self._queues for word in ("--queue", queue))]


def runner_table(python: Path, folder: Path, in_flight: int) -> dict[str, Any]:
    """RRQ's own Python runner, as it stands in an ``rrq.toml``."""
    return {
        "type": "socket", "cmd": [str(python.parent / "rrq-runner"), "--settings", "jobs.settings"],
        "tcp_port": free_ports(), "pool_size": 1, "max_in_flight": in_flight, "env": {"PYTHONPATH": str(folder)},
    }  # fmt: skip


def spare_runner(wanted: bool, table: dict[str, Any]) -> dict[str, Any]:
    """A second runner, to which no queue is routed."""
    return {"spare": {**table, "tcp_port": free_ports()}} if wanted else {}


@dataclass
class Side:
    """``rrq``, the real one, or ``rrqd``. ``python``: the interpreter that has the real one."""

    package: Literal["rrq", "rrqd"]
    python: Path
    server: Server

    @property
    def is_real(self) -> bool:
        return self.package == "rrq"

    def worker(self, *, runner: bool = False, spare: bool = False, in_flight: int = 4, **rrq: Any) -> Program:
        """Its worker, not yet started. ``runner``: rrqd, too, runs RRQ's own Python runner; ``spare``: and there is
        another one. Else: keys of ``[rrq]``, and ``more_queues``."""
        table = {**CALM, **rrq}
        if self.is_real:
            return JudgedReal(self.server, self.python, table, spare=spare, in_flight=in_flight)
        return JudgedRrqd(self.server, self.python, table, runner=runner, spare=spare, in_flight=in_flight)

    # Jobs.

    def put(self, function: str, job_id: str = "a", queue: str = "default", at: int = 1, **fields: Any) -> str:
        """A job as a real producer writes it; ``params`` and numbers among ``fields`` as they are."""
        params = json.dumps(fields.pop("params", {}))
        base = {
            "id": job_id, "function_name": function, "job_params": params, "enqueue_time": ENQUEUED,
            "status": "PENDING", "current_retries": 0, "max_retries": 5, "job_timeout_seconds": 300,
            "result_ttl_seconds": 3600, "queue_name": f"rrq:queue:{queue}", "result": "null", **fields,
        }  # fmt: skip
        self.server.redis.hset(f"rrq:job:{job_id}", mapping=base)
        self.server.redis.zadd(f"rrq:queue:{queue}", {job_id: at})
        return job_id

    def job(self, job_id: str = "a") -> dict[str, str]:
        """Its hash."""
        found: dict[bytes, bytes] = self.server.redis.hgetall(f"rrq:job:{job_id}")
        return {name.decode(): value.decode(errors="replace") for name, value in found.items()}

    def status(self, job_id: str = "a") -> str:
        return self.job(job_id).get("status", "gone")

    def wait(self, status: str, job_id: str = "a", seconds: float = 20.0) -> None:
        """Until it has this status. Raises TimeoutError."""
        until(lambda: self.status(job_id) == status, seconds, f"job {job_id} to be {status}", 0.02)

    def end(self, job_id: str = "a", seconds: float = 20.0) -> str:
        """Its status when it has ended, or what it is after that time."""
        try:
            until(lambda: self.status(job_id) in FINAL, seconds, "its end", 0.02)
        except TimeoutError:
            pass
        return self.status(job_id)

    def after(self, seconds: float) -> None:
        """Let time pass: what is looked for is that nothing happens."""
        time.sleep(seconds)

    # Programs.

    def workers(self, program: Program) -> list[psutil.Process]:
        """The processes that claim jobs."""
        return program.processes()[:1] if self.is_real else program.named("rrqd: worker")

    def command(self, config: Path, *words: str) -> subprocess.CompletedProcess[str]:
        """Its command line."""
        start = [str(self.python.parent / "rrq")] if self.is_real else [sys.executable, "-m", "rrqd"]
        return subprocess.run(
            [*start, *words, "--config", str(config)], capture_output=True, text=True, timeout=60,
            stdin=subprocess.DEVNULL, env={**os.environ, "RUST_LOG": "off"}, check=False,
        )  # fmt: skip

    def config(self, text: str = "") -> Path:
        """A configuration that only names the server; ``text``: more lines of ``[rrq]``."""
        path = self.server.folder / "rrq.toml"
        path.write_text(f'[rrq]\nredis_dsn = "{self.server.dsn}"\n{text}')
        return path

    def application(self, body: str, seconds: float = 60.0, **config: Any) -> Any:
        """Run ``async def main(client)`` with the side's client; answers what it returns."""
        made = {"redis_dsn": self.server.dsn, **config}
        code = (
            f"import asyncio, json, time\nfrom {self.package}.client import RRQClient\n{body}\n"
            f"async def run():\n    client = RRQClient(config={made!r})\n    return await main(client)\n"
            "print(json.dumps(asyncio.run(run())))"
        )
        done = self.script(code, seconds)
        if done.returncode:
            raise RuntimeError(done.stderr[-1000:])
        return json.loads(done.stdout.splitlines()[-1])

    def script(self, code: str, seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a Python program in an interpreter that has the side's package."""
        python = str(self.python) if self.is_real else sys.executable
        return subprocess.run(
            [python, "-c", code], capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL,
            env={**os.environ, "RUST_LOG": "off"}, check=False,
        )  # fmt: skip
