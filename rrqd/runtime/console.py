"""A Python console at the end of a socket, for somebody who looks into a process that goes on working.

Rules of this file:

* It changes nothing that a job could see: no ``sys.ps1`` (libraries take it for an interactive program), no
  ``builtins._`` (that may be gettext's), no ``sys.last_traceback`` (it would keep frames alive).
* What the console's thread prints goes to the socket, what all others print goes on to where it went (`Aside`).
* Plain text, fit for any tool. Only each prompt has a NUL before it, which no terminal shows and no answer contains:
  so a program knows where an answer ends. An orderly end is a last prompt, ``bye``.
"""

from __future__ import annotations

import code
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TextIO, cast

from rrqd.raising import Reachable

TURN = "\0"
"""Stands before each prompt: it is the client's turn. The prompt ends with its first space."""
FIRST, MORE, BYE = ">>> ", "... ", "bye "
ESCAPE = "\x03"
"""A line of this one sign gives up what has been typed so far, as Ctrl-C does in a terminal."""


class Console(code.InteractiveConsole):
    """Serves one client until it leaves. ``serve`` is the body of a thread."""

    def __init__(self, client: socket.socket, names: Mapping[str, Any], banner: str) -> None:
        self.names: dict[str, Any] = {"__name__": "__console__", "__doc__": None, **names}
        super().__init__(self.names)
        self.thread_id: int | None = None
        """The thread that serves, while it does."""
        self._reach = Reachable()
        self._client = client
        self._lines = client.makefile("r", encoding="utf-8", errors="replace", newline="\n")
        self._banner = banner

    def serve(self) -> None:
        """Greet, answer, and hang up. A client that is gone is an end like any other, and so is ``exit()``."""
        self.thread_id = threading.get_ident()
        try:
            with self._reach:
                self.write(self._banner)
                self._converse()
        except (OSError, SystemExit):
            pass
        finally:
            self.thread_id = None
            hang_up(self._client)

    def interrupt(self) -> None:
        """Make its thread leave what it computes, at its next line of Python."""
        self._reach.send(SystemExit)

    def _converse(self) -> None:
        more = False
        try:
            while (line := self._ask(MORE if more else FIRST)) is not None:
                if line == ESCAPE:
                    self.resetbuffer()
                    self.write("KeyboardInterrupt\n")
                    more = False
                else:
                    more = self.push(line)
            if more:  # the end of what was piped in ends a block as well
                self.push("")
        except SystemExit:
            pass
        self._send(f"{TURN}{BYE}\n")

    def _ask(self, prompt: str) -> str | None:
        """The next line, None at the end."""
        self._send(TURN + prompt)
        line = self._lines.readline()
        return line.rstrip("\r\n") if line else None

    def _send(self, text: str) -> None:
        self._client.sendall(text.encode("utf-8", "backslashreplace"))

    def write(self, data: str) -> None:
        self._send(data.replace(TURN, "\\x00"))

    def show(self, value: object) -> None:
        """What a line evaluates to, as Python's prompt shows it."""
        if value is not None:
            self.names["_"] = value
            self.write(f"{value!r}\n")

    # Not the inherited ones: those tell `sys.excepthook`, which may be a reporter of jobs' errors.

    def showtraceback(self) -> None:
        fault = sys.exc_info()[1]
        if fault is not None:
            trace = fault.__traceback__.tb_next if fault.__traceback__ is not None else None  # without our own line
            self.write("".join(traceback.format_exception(type(fault), fault, trace)))

    def showsyntaxerror(self, filename: str | None = None, **_more: Any) -> None:
        fault = sys.exc_info()[1]
        if fault is not None:
            self.write("".join(traceback.format_exception_only(fault)))


class Aside:
    """While it is entered, a console's thread prints into its console; for everybody else nothing changes.

    ``sys.stdout`` and the like belong to the whole process, so stand-ins take their places that ask who is printing.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> Aside:
        self._before = sys.stdout, sys.stderr, sys.displayhook
        self._ours = (
            cast(TextIO, _Split(self._console, sys.stdout)),
            cast(TextIO, _Split(self._console, sys.stderr)),
            self._shower(sys.displayhook),
        )
        sys.stdout, sys.stderr, sys.displayhook = self._ours
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Only what is still ours: a job may have redirected its output meanwhile, and will put back what it found.
        for name, ours, before in zip(("stdout", "stderr", "displayhook"), self._ours, self._before, strict=True):
            if getattr(sys, name) is ours:
                setattr(sys, name, before)

    def _shower(self, before: Callable[[object], object]) -> Callable[[object], object]:
        def show(value: object) -> None:
            if is_mine(self._console):
                self._console.show(value)
            else:
                before(value)

        return show


class _Split:
    """A stream for one thread, and the stream that it stands in for to all others."""

    def __init__(self, console: Console, before: TextIO) -> None:
        self._console = console
        self._before = before

    def write(self, text: str) -> int:
        if not is_mine(self._console):
            return self._before.write(text)
        self._console.write(text)
        return len(text)

    def flush(self) -> None:
        if not is_mine(self._console):
            self._before.flush()

    def isatty(self) -> bool:
        return not is_mine(self._console) and self._before.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._before, name)


def is_mine(console: Console) -> bool:
    """Whether this thread is the console's."""
    return threading.get_ident() == console.thread_id


def hang_up(sock: socket.socket) -> None:
    """End a connection for everybody who has it: a handler may have forked meanwhile, and its child keeps a copy."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
