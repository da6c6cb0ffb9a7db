"""The daemon as an operator has it: a folder, a file, a process, a log, signals.

The folder is kept, and named, when the test fails.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from signal import SIGKILL, SIGTERM
from types import TracebackType
from typing import Any

import psutil
import tomli_w

from tests.support.wait import until

ROOT = Path(__file__).resolve().parents[2]
NO_JOBS = "from rrqd.registry import Registry\n\nregistry = Registry()\n"
PATIENCE_SECONDS = 15.0


def quiet_port() -> int:
    """A port that is free, and outside the range from which the kernel gives ports to others."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Daemon:
    """``with Daemon(pools={"default": {"processes": 2}}) as daemon: daemon.expect_log("rrqd.ready")``

    `stand_ins`: steward, web and worker are those of `tests/support/stand_ins.py`, so that the supervisor is tested
    alone. Without them it is the whole rrqd. `http`: where its web process listens; True: wherever there is room;
    False: it has none, which saves a fifth of what a daemon costs. `rrqd` and `rrq` are keys of the two tables.
    """

    prefix: tuple[str, ...] = ()
    """What stands before the interpreter: a program that prepares something and then becomes, or starts, the daemon."""
    pass_fds: tuple[int, ...] = ()
    program = "tests.support.stand_ins"
    """What is run when `stand_ins` are wanted."""

    def __init__(
        self,
        pools: dict[str, dict[str, Any]] | None = None,
        *,
        stand_ins: bool = True,
        jobs: str = NO_JOBS,
        http: str | bool = False,
        rrq: dict[str, Any] | None = None,
        environment: dict[str, str] | None = None,
        folder: Path | None = None,
        **rrqd: Any,
    ) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix="rrqd-test-"))
        self.stand_ins = stand_ins
        self.port = quiet_port()
        self.environment = environment or {}
        # A server that runs on this machine at the usual port is nobody's business here.
        self.rrq = rrq or ({"redis_dsn": f"redis://127.0.0.1:{self.port}/0"} if stand_ins else {})
        self.rrqd: dict[str, Any] = {
            "state_dir": str(self.folder / "state"),
            "http": http if isinstance(http, str) else f"127.0.0.1:{quiet_port()}" if http else "off",
            "embedded": "never" if stand_ins else "auto",
            "embedded_address": f"127.0.0.1:{self.port}",
            "stop_timeout_seconds": 10.0,
            "log_format": "json",
            **rrqd,
        }
        self.pools = {"default": {"processes": 2}} if pools is None else pools
        self.process: subprocess.Popen[bytes] | None = None
        self._seen: set[int] = set()
        self._events: list[dict[str, Any]] = []
        self._events_bytes = 0
        self.write_jobs(jobs)
        self.write_config()

    # -- the operator's hands --------------------------------------------------------------------------

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def write_jobs(self, text: str) -> None:
        (self.folder / "jobs.py").write_text(text)

    def write_config(self) -> None:
        pools = {name: {"handlers": "jobs:registry", **pool} for name, pool in self.pools.items()}
        text = tomli_w.dumps({"rrq": self.rrq, "rrqd": {**self.rrqd, "pools": pools}})
        (self.folder / "rrq.toml").write_text(text)

    def start(self) -> Daemon:
        program = [self.program] if self.stand_ins else ["rrqd", "--config"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", *program, str(self.folder / "rrq.toml")],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **self.environment},
                start_new_session=True,
                pass_fds=self.pass_fds,
            )
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """The exit code."""
        assert self.process is not None
        return self.process.wait(seconds)

    def stop(self, number: int = SIGTERM, seconds: float = PATIENCE_SECONDS) -> int:
        self.signal(number)
        return self.wait(seconds)

    def order(self, do: str, slot: str = "any", **fields: Any) -> None:
        """Tell a stand-in worker what to do; ``slot`` is ``default.0`` or ``any``."""
        draft = self.state / "draft"
        draft.write_text(json.dumps({"do": do, **fields}))
        draft.replace(self.state / f"order-{slot}")

    def hold_up(self, job_id: str, slot: str = "any", gate: str = "gate") -> None:
        """A job of a stand-in that runs until `let_go`; it runs already."""
        (self.state / gate).unlink(missing_ok=True)
        self.order("wait until", slot, gate=gate, job_id=job_id)
        until(lambda: self.did(job_id), PATIENCE_SECONDS, f"the begin of {job_id}")

    def let_go(self, gate: str = "gate") -> None:
        """From now on no stand-in's job waits at that gate."""
        (self.state / gate).touch()

    # -- the operator's eyes ---------------------------------------------------------------------------

    def log(self) -> list[dict[str, Any]]:
        """All events so far; a line that is no JSON shows as an event named ``raw``."""
        with (self.folder / "log").open("rb") as file:
            file.seek(self._events_bytes)
            done, newline, rest = file.read().rpartition(b"\n")
        if newline:
            self._events_bytes += len(done) + 1
            self._events += map(_event, done.split(b"\n"))
        return [*self._events, _event(rest)] if rest else self._events.copy()

    def mark(self) -> int:
        """A place in the log: what comes from now on."""
        return len(self.log())

    def expect_log(
        self, event: str, seconds: float = PATIENCE_SECONDS, since: int = 0, **fields: Any
    ) -> dict[str, Any]:
        """Wait for an event whose fields have these values; a compiled pattern is searched for in the text."""

        def look() -> list[dict[str, Any]]:
            return [one for one in self.log()[since:] if one["event"] == event and _fits(one, fields)]

        return until(look, seconds, f"{event} {fields}")[0]

    def count_log(self, event: str, since: int = 0, **fields: Any) -> int:
        return sum(one["event"] == event and _fits(one, fields) for one in self.log()[since:])

    def children(self) -> dict[str, int]:
        """Title without the ``rrqd: `` to pid, of the living processes below the master."""
        found = {}
        for pid in _children(self.pid):
            self._seen.add(pid)
            title = _title(pid)
            if title.startswith("rrqd: "):
                found[title[6:]] = pid
        return found

    def workers(self) -> dict[str, int]:
        return {title: pid for title, pid in self.children().items() if title.startswith("worker ")}

    def lines(self, name: str) -> list[dict[str, Any]]:
        """A file of JSON lines in the state folder (what stand-ins wrote down)."""
        path = self.state / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def did(self, job_id: str) -> list[str]:
        """What stand-ins have noted of a job: ``["begin", "end"]``."""
        return [one["did"] for one in self.lines("jobs") if one["job_id"] == job_id]

    def view(self) -> dict[str, Any]:
        """What the master last told the web process."""
        path = self.state / "view.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    # -- the frame -------------------------------------------------------------------------------------

    def __enter__(self) -> Daemon:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.children()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(5)
        for pid in self._seen:
            _kill_if_ours(pid)
        if kind is None:
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        tail = "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-40:])
        print(f"\n--- {self.folder} is kept; the end of its log:\n{tail}", file=sys.stderr)


def _event(line: bytes) -> dict[str, Any]:
    text = line.decode(errors="replace")
    try:
        event = json.loads(text)
    except ValueError:
        event = None
    return event if isinstance(event, dict) else {"event": "raw", "text": text}


def _fits(event: dict[str, Any], fields: dict[str, Any]) -> bool:
    for key, wanted in fields.items():
        value = event.get(key)
        if isinstance(wanted, re.Pattern):
            if wanted.search(str(value)) is None:
                return False
        elif value != wanted:
            return False
    return True


def _children(pid: int) -> list[int]:
    """Direct children: whom a mold forks is handed to the master. Asked often, so the kernel's own list is read."""
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _title(pid: int) -> str:
    try:
        text = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return text.replace(b"\0", b" ").decode(errors="replace").strip().rstrip(".").strip()


def _kill_if_ours(pid: int) -> None:
    """Only what the daemon started and is still called so."""
    if _title(pid).startswith("rrqd: "):
        try:
            os.kill(pid, SIGKILL)
        except ProcessLookupError:
            pass


def alive(pid: int) -> bool:
    """True while the process runs; a zombie does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
