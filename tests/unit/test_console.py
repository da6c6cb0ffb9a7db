"""The console answers its own client, and nobody else in the process notices that it is there."""

from __future__ import annotations

import builtins
import io
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from rrqd.runtime.console import BYE, ESCAPE, FIRST, MORE, TURN, Aside, Console


class Client:
    """The other end of a console that serves in a thread, as in a worker."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.sock, theirs = socket.socketpair()
        self.sock.settimeout(10)
        self.console = Console(theirs, names, "hello\n")
        self.thread = threading.Thread(target=self.console.serve, daemon=True)
        self._said = ""

    def until(self, prompt: str) -> str:
        """What is said before the next prompt, which must be this one."""
        while prompt not in self._said.partition(TURN)[2]:
            data = self.sock.recv(4096)
            assert data, f"the console hung up after {self._said!r}"
            self._said += data.decode()
        text, _, rest = self._said.partition(TURN)
        assert rest.startswith(prompt)
        self._said = rest.removeprefix(prompt)
        return text

    def type(self, line: str, then: str = FIRST) -> str:
        self.sock.sendall(line.encode() + b"\n")
        return self.until(then)

    def leave(self) -> str:
        self.sock.shutdown(socket.SHUT_WR)
        return self.until(BYE)


@contextmanager
def console(**names: Any) -> Iterator[Client]:
    client = Client(names)
    with Aside(client.console):
        client.thread.start()
        assert client.until(FIRST) == "hello\n"
        yield client
        client.sock.close()
        client.thread.join(10)
        assert not client.thread.is_alive()


def test_values_and_prints_come_back_on_the_socket() -> None:
    with console(x=[1, "é"]) as client:
        assert client.type("x") == "[1, 'é']\n"
        assert client.type("_[1]") == "'é'\n"
        assert client.type("print(x, end='!')") == "[1, 'é']!"
        assert client.type("import sys; print('wrong', file=sys.stderr)") == "wrong\n"
        assert client.type("x = None") == ""
        assert client.type("x") == ""
        assert client.leave() == ""


def test_what_other_threads_print_goes_where_it_went(capsys: pytest.CaptureFixture[str]) -> None:
    def others(show: Callable[[object], object]) -> None:
        print("from a job")
        print("and its trouble", file=sys.stderr)
        show("shown")

    with console() as client:
        thread = threading.Thread(target=others, args=(sys.displayhook,))
        thread.start()
        thread.join()
        assert client.type("1") == "1\n"
    assert capsys.readouterr() == ("from a job\n'shown'\n", "and its trouble\n")


def test_nothing_of_it_is_left_in_the_process() -> None:
    before = sys.stdout, sys.stderr, sys.displayhook, hasattr(builtins, "_"), hasattr(sys, "ps1")
    last = getattr(sys, "last_traceback", None)
    with console() as client:
        client.type("1 + 1")
        assert "ZeroDivisionError" in client.type("1 / 0")
    assert before == (sys.stdout, sys.stderr, sys.displayhook, hasattr(builtins, "_"), hasattr(sys, "ps1"))
    assert getattr(sys, "last_traceback", None) is last


def test_an_output_that_a_job_redirected_meanwhile_stays_redirected() -> None:
    before, theirs = sys.stdout, io.StringIO()
    try:
        with console():
            sys.stdout = theirs
        assert sys.stdout is theirs
    finally:
        sys.stdout = before


def test_a_mistake_is_shown_and_the_console_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[object] = []
    monkeypatch.setattr(sys, "excepthook", lambda *fault: reported.append(fault))
    with console() as client:
        shown = client.type("{}['gone']")
        assert shown.startswith("Traceback")
        assert shown.endswith("KeyError: 'gone'\n")
        assert "console.py" not in shown
        assert "SyntaxError" in client.type("1 +")
        assert client.type("'still there'") == "'still there'\n"
    assert reported == []


def test_a_block_is_taken_line_by_line_and_ended_by_an_empty_one_or_the_end() -> None:
    with console() as client:
        client.type("for n in range(2):", then=MORE)
        client.type("    print(n)", then=MORE)
        assert client.type("") == "0\n1\n"
        client.type("for n in range(2):", then=MORE)
        client.type("    print(n)", then=MORE)
        assert client.leave() == "0\n1\n"


def test_a_block_can_be_given_up() -> None:
    with console() as client:
        client.type("while True:", then=MORE)
        assert client.type(ESCAPE) == "KeyboardInterrupt\n"
        assert client.type("2") == "2\n"


def test_exit_leaves_like_the_end_of_the_input() -> None:
    with console(exit=sys.exit) as client:
        client.sock.sendall(b"exit()\n")
        assert client.until(BYE) == ""


def test_no_answer_can_be_taken_for_a_prompt() -> None:
    with console() as client:
        assert client.type(r"print('\0>>> ')") == "\\x00>>> \n"
        assert client.type(r"print('\ud800')") == "\\ud800\n"
