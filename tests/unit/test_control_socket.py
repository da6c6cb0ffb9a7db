"""The control socket with a real socket and a real selector: what clients may do to it, and what it does then."""

from __future__ import annotations

import json
import selectors
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rrqd.local_socket import ask, reachable
from rrqd.supervisor.control import (
    LONGEST_QUESTION_BYTES,
    MOST_CLIENTS,
    PATIENCE_SECONDS,
    ControlSocket,
    Reply,
)

NEVER = 1e9


class Office:
    """A control socket and the loop that a master would turn. Every question is kept, and answered by `answer`."""

    def __init__(self, folder: Path) -> None:
        self.selector = selectors.DefaultSelector()
        self.asked: list[dict[str, Any]] = []
        self.replies: list[Reply] = []
        self.answer: Any = lambda question: {"ok": True, "heard": question}
        self.control = ControlSocket(folder, self.selector, self.handle)

    def handle(self, question: dict[str, Any], reply: Reply) -> None:
        self.asked.append(question)
        self.replies.append(reply)
        if self.answer is not None:
            reply(self.answer(question))

    def turn(self, now: float = 0.0, wait_seconds: float = 0.0) -> int:
        """One turn of a loop; how many events there were."""
        events = self.selector.select(wait_seconds)
        for key, _ in events:
            what, client = key.data
            if what == "control-listen":
                self.control.accept(now)
            else:
                self.control.ready(client, now)
        return len(events)

    def settle(self, now: float = 0.0) -> None:
        """Turn until nothing happens any more."""
        for _ in range(100):
            if not self.turn(now):
                return
        raise AssertionError("the loop is never quiet")

    def client(self, said: bytes = b"") -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with reachable(self.control.path) as address:
            sock.connect(address)
        sock.settimeout(5)
        if said:
            sock.sendall(said)
        return sock


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path)
    yield office
    office.control.close()
    office.selector.close()


def everything(sock: socket.socket) -> bytes:
    """All that comes until the line is closed."""
    heard = b""
    with sock:
        while data := sock.recv(65_536):
            heard += data
    return heard


def closed(sock: socket.socket) -> bool:
    with sock:
        try:
            return sock.recv(1) == b""
        except ConnectionResetError:  # something of ours was never read
            return True


def test_a_question_gets_its_answer_and_the_line_is_closed(office: Office) -> None:
    client = office.client(b'{"command": "status"}\n')
    office.settle()
    assert json.loads(everything(client)) == {"ok": True, "heard": {"command": "status"}}


def test_a_question_may_come_in_pieces(office: Office) -> None:
    client = office.client()
    for piece in (b'{"comm', b'and": "sta', b'tus"}', b"\n"):
        office.settle()
        assert office.asked == []
        client.sendall(piece)
    office.settle()
    assert office.asked == [{"command": "status"}]
    assert json.loads(everything(client))["ok"]


def test_two_at_once_get_their_own_answers_whoever_is_answered_first(office: Office) -> None:
    office.answer = None
    first, second = office.client(b'{"n": 1}\n'), office.client(b'{"n": 2}\n')
    office.settle()
    for question, reply in sorted(zip(office.asked, office.replies, strict=True), key=lambda one: -one[0]["n"]):
        reply({"n": question["n"]})
    office.settle()
    assert [json.loads(everything(one)) for one in (first, second)] == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize(
    "said",
    [b"status\n", b"[1]\n", b"7\n", b"\n", b'{"a": 1} {"b": 2}\n', b'"\xff"\n', b"[" * 60_000 + b"\n"],
    ids=["words", "a list", "a number", "nothing", "two objects", "no text", "a deep well"],
)
def test_what_is_no_object_is_refused_in_a_sentence(office: Office, said: bytes) -> None:
    client = office.client(said)
    office.settle()
    assert json.loads(everything(client)) == {
        "ok": False,
        "error": "a question is one line of JSON, an object",
    }
    assert office.asked == []


def test_a_question_without_an_end_is_refused_when_it_is_too_long(office: Office) -> None:
    client = office.client()
    client.settimeout(0)
    sent = 0
    while sent <= LONGEST_QUESTION_BYTES:
        try:
            sent += client.send(b"x" * 8192)
        except (BlockingIOError, BrokenPipeError):
            office.turn()
    office.settle()
    client.settimeout(5)
    assert json.loads(client.recv(65_536)) == {"ok": False, "error": "the question is too long"}
    assert closed(client)


def test_who_never_asks_is_given_up(office: Office) -> None:
    client = office.client(b'{"half')
    office.settle(now=100.0)
    office.control.give_up(100.0 + PATIENCE_SECONDS - 0.1)
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.recv(1)
    client.settimeout(5)
    office.control.give_up(100.0 + PATIENCE_SECONDS)
    assert closed(client)


def test_who_never_reads_is_given_up_and_costs_no_turns_meanwhile(office: Office) -> None:
    office.answer = lambda _question: {"much": "x" * 5_000_000}
    client = office.client(b"{}\n")
    office.settle()
    client.sendall(b"and more, and more\n")
    assert office.turn() == 0
    office.control.give_up(NEVER)
    with client:
        heard = b""
        try:
            while data := client.recv(1 << 20):
                heard += data
        except ConnectionResetError:
            pass
    assert 0 < len(heard) < 5_000_000


def test_who_reads_slowly_gets_all_of_a_long_answer(office: Office) -> None:
    office.answer = lambda _question: {"much": "x" * 5_000_000}
    client = office.client(b"{}\n")
    heard: list[bytes] = []
    reader = threading.Thread(target=lambda: heard.append(everything(client)))
    reader.start()
    while reader.is_alive():
        office.turn(wait_seconds=0.02)
    reader.join()
    assert len(json.loads(heard[0])["much"]) == 5_000_000


def test_an_answer_may_take_its_time(office: Office) -> None:
    office.answer = None
    client = office.client(b"{}\n")
    office.settle()
    office.control.give_up(NEVER)
    office.replies[0]({"late": True})
    assert json.loads(everything(client)) == {"late": True}


def test_who_has_gone_before_the_answer_is_forgotten(office: Office) -> None:
    office.answer = None
    client = office.client(b"{}\n")
    office.settle()
    client.close()
    office.settle()
    office.replies[0]({"to": "nobody"})
    office.replies[0]({"to": "nobody, again"})
    assert office.turn() == 0


def test_a_full_house_lets_the_others_wait_at_the_door_and_costs_no_turns(office: Office) -> None:
    office.answer = None
    idle = [office.client() for _ in range(MOST_CLIENTS)]
    office.settle(now=0.0)
    late = office.client(b'{"late": 1}\n')
    office.settle()
    assert office.asked == []
    office.control.give_up(PATIENCE_SECONDS)
    office.settle(now=PATIENCE_SECONDS)
    assert office.asked == [{"late": 1}]
    assert all(closed(one) for one in idle)
    late.close()


def test_only_the_owner_may_open_it(office: Office) -> None:
    assert stat.S_IMODE(office.control.path.stat().st_mode) == 0o600


def test_a_folder_with_a_long_name_is_reachable(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30) / ("longer" * 20)
    folder.mkdir(parents=True)
    office = Office(folder)
    assert len(str(office.control.path)) > 107
    heard: list[Any] = []
    asking = threading.Thread(target=lambda: heard.append(ask(folder, {"command": "status"}, 10.0)))
    asking.start()
    while asking.is_alive():
        office.turn(wait_seconds=0.02)
    assert heard == [{"ok": True, "heard": {"command": "status"}}]
    assert stat.S_IMODE(office.control.path.stat().st_mode) == 0o600
    office.control.close()
    assert not office.control.path.exists()


def test_the_file_of_one_who_was_killed_is_replaced_and_nobody_answers_at_it_before(tmp_path: Path) -> None:
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    dead.bind(str(tmp_path / "control.sock"))
    dead.close()
    with pytest.raises(ConnectionRefusedError):
        ask(tmp_path, {})
    office = Office(tmp_path)
    client = office.client(b"{}\n")
    office.settle()
    assert json.loads(everything(client))["ok"]
    office.control.close()


def test_where_nobody_has_ever_been_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ask(tmp_path, {})


def test_one_who_listens_and_says_nothing_is_not_waited_for_longer_than_asked(office: Office) -> None:
    with pytest.raises(TimeoutError):
        ask(office.control.path.parent, {}, timeout_seconds=0.05)


def test_a_line_that_is_closed_without_an_answer_is_an_error_of_its_own(tmp_path: Path) -> None:
    office = Office(tmp_path)
    office.answer = None
    heard: list[BaseException] = []

    def asking() -> None:
        try:
            ask(tmp_path, {}, 10.0)
        except OSError as error:
            heard.append(error)

    thread = threading.Thread(target=asking)
    thread.start()
    while not office.asked:
        office.turn(wait_seconds=0.02)
    office.control.close()
    thread.join()
    assert isinstance(heard[0], ConnectionResetError)
