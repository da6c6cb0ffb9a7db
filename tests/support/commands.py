"""The operator's commands, as a test gives them: in this process, which takes no time, or over the socket itself."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from click.testing import CliRunner

from rrqd.cli.main import cli
from rrqd.local_socket import ask
from tests.support.daemon import ROOT, Daemon

LOOK_SECONDS = 0.02


class Said(NamedTuple):
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    @property
    def why(self) -> str:
        """The one line of a refusal."""
        assert (self.out, self.err.count("\n"), self.err.endswith("\n")) == ("", 1, True), self
        return self.err.rstrip("\n")


def rrqd(daemon: Daemon, *words: str) -> Said:
    """`rrqd scale default=3`, for this daemon."""
    done = CliRunner().invoke(cli, [*words, "--config", str(daemon.folder / "rrq.toml")], prog_name="rrqd")
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert "Traceback" not in done.stderr, done.stderr
    assert "internal error" not in done.stderr, done.stderr
    return Said(done.exit_code, done.stdout, done.stderr)


class Asking:
    """A command that takes its time, as a program of its own: `asking.said()` waits for it."""

    def __init__(self, daemon: Daemon, *words: str) -> None:
        argv = [sys.executable, "-m", "rrqd", *words, "--config", str(daemon.folder / "rrq.toml")]
        self._process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def said(self, seconds: float = 60.0) -> Said:
        out, err = self._process.communicate(timeout=seconds)
        return Said(self._process.returncode, out, err)


def status(daemon: Daemon) -> dict[str, Any]:
    """The master's own view."""
    return dict(ask(daemon.state, {"command": "status"})["status"])


def pool(daemon: Daemon, name: str = "default") -> dict[str, Any]:
    return dict(status(daemon)["pools"][name])


@contextmanager
def least_ready(daemon: Daemon, name: str = "default") -> Iterator[list[int]]:
    """Numbers of ready workers of a pool, seen again and again while the block runs."""
    seen: list[int] = []
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            seen.append(int(pool(daemon, name)["ready"]))
            over.wait(LOOK_SECONDS)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        over.set()
        looking.join()
