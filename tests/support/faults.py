"""A daemon whose kernel fails: calls of the master go wrong while a file in the state folder says so.

``faults/spawn`` with the text ``EAGAIN`` makes every `process.spawn` fail so, until the file is gone; each failure is
written down in ``faulted``. Only the master is touched: its children are started afresh.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from rrqd.config.loader import load
from rrqd.supervisor import process
from rrqd.supervisor.daemon import run_daemon
from rrqd.supervisor.signals import Signals
from tests.support.daemon import Daemon
from tests.support.stand_ins import ROLES, note


class Faulty(Daemon):
    """``daemon.fail("spawn", "EAGAIN")`` … ``daemon.mend("spawn")``"""

    program = "tests.support.faults"

    def fail(self, what: str, error: str = "EIO") -> None:
        folder = self.state / "faults"
        folder.mkdir(parents=True, exist_ok=True)
        draft = self.state / "draft"
        draft.write_text(error)
        draft.replace(folder / what)

    def mend(self, what: str) -> None:
        (self.state / "faults" / what).unlink()

    def failures(self, what: str) -> int:
        """How often it has gone wrong."""
        return sum(one == what for one in self.lines("faulted"))


class Faults:
    """What goes wrong at the moment."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def now(self, what: str) -> str:
        """The error that `what` has to have now; "" for none."""
        try:
            error = (self.state / "faults" / what).read_text()
        except FileNotFoundError:
            return ""
        note(self.state, "faulted", what)
        return error

    def failing(self, what: str, really: Callable[..., Any]) -> Callable[..., Any]:
        """The function, until the file is there."""

        @wraps(really)
        def call(*words: Any, **named: Any) -> Any:
            error = self.now(what)
            if error:
                number = getattr(errno, error)
                raise OSError(number, os.strerror(number))
            return really(*words, **named)

        return call

    def deaf(self, really: Callable[[Signals], set[signal.Signals]]) -> Callable[[Signals], set[signal.Signals]]:
        """`Signals.take` to which no end of a child is told."""

        def take(signals: Signals) -> set[signal.Signals]:
            taken = really(signals)
            if signal.SIGCHLD in taken and self.now("sigchld"):
                taken.discard(signal.SIGCHLD)
            return taken

        return take


def main() -> int:
    loaded = load(sys.argv[1])
    faults = Faults(Path(str(loaded.settings.rrqd.state_dir)))
    process.spawn = faults.failing("spawn", process.spawn)
    process.peek = faults.failing("peek", process.peek)
    os.pidfd_open = faults.failing("pidfd_open", os.pidfd_open)
    Signals.take = faults.deaf(Signals.take)  # type: ignore[method-assign]
    return run_daemon(loaded, roles=ROLES)


if __name__ == "__main__":
    sys.exit(main())
