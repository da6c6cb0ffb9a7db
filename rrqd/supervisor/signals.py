"""Signals become flags and a wake-up.

Rules of this file:

* A handler does nothing but set a flag: it may run in the middle of anything, also of itself.
* The wake-up pipe only wakes. What is pending stands in the flags: a pipe that carried the signals themselves
  would be full after some thousand USR2 and lose the one TERM that matters.
* Signals are levels, not events: two TERM before anybody looks are one.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
SIZE_SIGNALS = (signal.SIGTTIN, signal.SIGTTOU)
QUIET_SIGNALS = (signal.SIGTSTP, signal.SIGCONT)
HEARD = (
    *STOP_SIGNALS, *SIZE_SIGNALS, *QUIET_SIGNALS,
    signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD,
)  # fmt: skip
IGNORED = (signal.SIGPIPE,)


class Signals:
    """The master's ears. `fd` is readable when something may be pending."""

    def __init__(self) -> None:
        self._pending: set[int] = set()
        self.fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def install(self) -> None:
        """To be called before the first child exists, and before anybody is told that we are ready."""
        signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        for number in HEARD:
            signal.signal(number, self._note)
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
        # After an upgrade in place they have waited for us.
        signal.pthread_sigmask(signal.SIG_SETMASK, set())

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._pending.add(number)

    def take(self) -> set[signal.Signals]:
        """What is pending. The pipe is emptied first, so that a signal between the two steps wakes us again."""
        try:
            while os.read(self.fd, 65_536):
                pass
        except BlockingIOError:
            pass
        taken: set[signal.Signals] = set()
        while self._pending:
            taken.add(signal.Signals(self._pending.pop()))
        return taken

    def close(self) -> None:
        """Back to the defaults (for tests: a master's process just ends)."""
        signal.set_wakeup_fd(-1)
        for number in (*HEARD, *IGNORED):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        os.close(self.fd)
        os.close(self._write_fd)
