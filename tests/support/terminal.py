"""A command in a terminal of its own: what it shows is read as text, keys are pressed."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from typing import Self

from tests.support.daemon import ROOT, Daemon

ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[()][A-Z0-9]|[=>78])")
PATIENCE_SECONDS = 10.0


class Terminal:
    """``with Terminal(daemon, "top", rows=24, columns=80) as terminal: terminal.expect("…")``"""

    def __init__(self, daemon: Daemon, *words: str, rows: int, columns: int) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._heard = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rrqd", *words, "--config", str(daemon.folder / "rrq.toml")],
            cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env={**os.environ, "TERM": "xterm"},
        )  # fmt: skip
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_SECONDS)
        os.close(self._ours)

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def expect(self, text: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until the text has been written to the terminal, and forget what came before its end."""
        deadline = time.monotonic() + seconds
        while text not in self._heard:
            assert time.monotonic() < deadline, (
                f"waited {seconds:g} s in vain for {text!r}; shown: {self._heard[-2000:]!r}"
            )
            self._read(0.1)
        self._heard = self._heard.partition(text)[2]

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """The exit code; what is still written is read meanwhile."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it did not end within {seconds:g} s"
            self._read(0.05)
        return self.process.returncode

    def _read(self, seconds: float) -> None:
        if select.select([self._ours], [], [], seconds)[0]:
            try:
                self._heard += ESCAPES.sub("", os.read(self._ours, 65536).decode(errors="replace"))
            except OSError:  # the other end is closed
                return
