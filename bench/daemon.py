"""What is measured: a running rrqd (the one beside this folder), and a running worker of the real rrq.

Both run ``handlers.py`` on a bench server.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any, Self

import psutil
import tomli_w

from bench.machine import title
from bench.server import Server, free_ports, until

HERE = Path(__file__).parent
START_SECONDS = 60.0
STOP_SECONDS = 20.0


class Program:
    """A program with children, in a temporary folder that holds its configuration, ``jobs.py`` and its log."""

    def __init__(self, server: Server, package: str, python: Path, heavy: Path | None = None) -> None:
        self.server = server
        self._temporary = tempfile.TemporaryDirectory(prefix=f"rrqd-bench-{package}-")
        self.folder = Path(self._temporary.name)
        self.python = python
        self.process: psutil.Popen | None = None
        self._seen: set[psutil.Process] = set()
        self._path = [self.folder, *([HERE.parent] if package == "rrqd" else []), *([heavy] if heavy else [])]
        text = (HERE / "handlers.py").read_text()
        (self.folder / "jobs.py").write_text(text.replace("from rrqd.", f"from {package}."))

    @property
    def config(self) -> Path:
        return self.folder / "rrq.toml"

    def command(self) -> list[str]:
        """What to start."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Whether it would take jobs now."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """What its processes get: this one's, and the way to ``jobs.py``."""
        path = os.pathsep.join(map(str, self._path))
        return {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}

    def write_config(self, tables: dict[str, Any]) -> None:
        self.config.write_text(tomli_w.dumps(tables))

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def processes(self) -> list[psutil.Process]:
        """The program and all below it."""
        assert self.process is not None
        root = psutil.Process(self.process.pid)
        found = [root, *root.children(recursive=True)]
        self._seen.update(found)
        return found

    def named(self, start: str) -> list[psutil.Process]:
        """Those whose title begins so."""
        return [one for one in self.processes() if title(one).startswith(start)]

    def __enter__(self) -> Self:
        try:
            with (self.folder / "log").open("wb") as log:
                self.process = psutil.Popen(
                    self.command(),
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self.environment(),
                    start_new_session=True,
                )
            until(self._is_up, START_SECONDS, f"{type(self).__name__} to be ready")
            self.processes()
        except BaseException as fault:
            tail = "\n".join(self.log().splitlines()[-20:]) if (self.folder / "log").exists() else ""
            self.__exit__()
            if isinstance(fault, TimeoutError | RuntimeError):
                raise RuntimeError(f"{fault}; the end of its log:\n{tail}") from fault
            raise
        return self

    def _is_up(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"{type(self).__name__} ended with {self.process.returncode}")
        return self.is_ready()

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                self.processes()
                self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
                pass
            for one in self._seen:
                try:
                    one.kill()  # psutil looks first whether the pid is still the process it knew
                except psutil.NoSuchProcess:
                    pass
            # Not by wait_procs: it asks for a descriptor of the process, an error while one is being taken down.
            until(lambda: not any(_is_there(one) for one in self._seen), 5, "the last processes to be gone")
        self._temporary.cleanup()


def _is_there(one: psutil.Process) -> bool:
    """Whether it still does something: an orphan that nobody collects does not, nor is it who has its pid by now."""
    try:
        return one.is_running() and bool(one.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Rrqd(Program):
    """``with Rrqd(server, processes=2) as daemon:`` the whole daemon, ready for jobs. Further keys: the pool's."""

    def __init__(
        self,
        server: Server,
        *,
        processes: int = 2,
        heavy: Path | None = None,
        stop_timeout_seconds: float = 10.0,
        **pool: Any,
    ) -> None:
        super().__init__(server, "rrqd", Path(sys.executable), heavy)
        self._http = free_ports()
        self._processes = processes
        self._stop_timeout_seconds = stop_timeout_seconds
        self._pool = {"handlers": "jobs:registry", "sandbox": False, **pool}
        self._write()

    def _write(self) -> None:
        pool = {**self._pool, "processes": self._processes}
        ours = {
            "state_dir": str(self.folder / "state"),
            "http": f"127.0.0.1:{self._http}",
            "embedded": "never",
            "stop_timeout_seconds": self._stop_timeout_seconds,
            "log_format": "json",
        }
        self.write_config({"rrq": {"redis_dsn": self.server.dsn}, "rrqd": {**ours, "pools": {"default": pool}}})

    def command(self) -> list[str]:
        return [str(self.python), "-m", "rrqd", "--config", str(self.config)]

    def is_ready(self) -> bool:
        ready = any(
            json.loads(line).get("event") == "rrqd.ready" for line in self.log().splitlines() if line[:1] == "{"
        )
        return ready and len(self.workers()) == self._processes

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self._http}"

    def workers(self) -> list[psutil.Process]:
        return self.named("rrqd: worker")

    def counters(self) -> dict[str, float]:
        """The sums over all workers: ``script_calls``, ``jobs_done``, ``claims``, … ."""
        with urllib.request.urlopen(f"{self.http}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        found = {}
        for line in text.splitlines():
            name, _, number = line.rpartition(" ")
            if name.startswith("rrqd_worker_") and name.endswith("_total"):
                found[name.removeprefix("rrqd_worker_").removesuffix("_total")] = float(number)
        return found


class RealRRQ(Program):
    """``rrq worker run`` with Python runners, tuned as our measurement of peers found it fastest (32 in flight)."""

    def __init__(
        self, server: Server, python: Path, *, processes: int = 2, max_in_flight: int = 32, **rrq: Any
    ) -> None:
        super().__init__(server, "rrq", python)
        self._processes = processes
        runner = {
            "type": "socket",
            "cmd": [str(python.parent / "rrq-runner"), "--settings", "jobs.settings"],
            "tcp_port": free_ports(processes),
            "pool_size": processes,
            "max_in_flight": max_in_flight,
            "env": {"PYTHONPATH": str(self.folder)},
        }
        self.write_config(
            {"rrq": {"redis_dsn": server.dsn, "default_runner_name": "python", "runners": {"python": runner}, **rrq}}
        )

    def command(self) -> list[str]:
        return [str(self.python.parent / "rrq"), "worker", "run", "--config", str(self.config)]

    def environment(self) -> dict[str, str]:
        """Its log is off: by default it writes a line for every job, which is a quarter of its CPU."""
        return {**super().environment(), "RUST_LOG": "off"}

    def is_ready(self) -> bool:
        """It polls once its runners are there; its health key appears just before."""
        assert self.process is not None
        own = f"rrq:health:worker:rrq_worker_{self.process.pid}_*"  # the command becomes the worker, with its pid
        return any(True for _ in self.server.redis.scan_iter(own, count=1000))


def application(python: Path, *words: object, seconds: float = 300) -> dict[str, Any]:
    """What ``application.py`` measured, run by this interpreter."""
    command = [str(python), "-P", str(HERE / "application.py"), *map(str, words)]
    quiet = {**os.environ, "RUST_LOG": "off", "PYTHONPATH": str(HERE.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=quiet, check=False)
    if done.returncode:
        raise RuntimeError(f"application.py {words[0]} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout))
