"""What systemd would hear, and what is taken of what it hands over."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from rrqd.supervisor.systemd import EXTEND_EVERY_SECONDS, Notifier, handed_over, takes_connections


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        path = str(tmp_path / "notify")
        sock.bind(path)
        sock.settimeout(2)
        yield sock, path


def test_ready_carries_a_status_and_an_unchanged_status_is_not_repeated(recorder: tuple[socket.socket, str]) -> None:
    sock, path = recorder
    notifier = Notifier(path)
    notifier.ready("all well")
    notifier.status("all well")
    notifier.status("less well")
    assert sock.recv(999) == b"READY=1\nSTATUS=all well"
    assert sock.recv(999) == b"STATUS=less well"


def test_a_reload_carries_its_monotonic_stamp(recorder: tuple[socket.socket, str]) -> None:
    sock, path = recorder
    Notifier(path).reloading(12_345_678)
    assert sock.recv(999) == b"RELOADING=1\nMONOTONIC_USEC=12345"


def test_the_watchdog_is_fed_at_half_its_interval(recorder: tuple[socket.socket, str]) -> None:
    sock, path = recorder
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "30000000"})
    for now in (0.0, 1.0, 14.9, 15.0, 20.0):
        notifier.alive(now)
    sock.setblocking(False)
    assert [sock.recv(99), sock.recv(99)] == [b"WATCHDOG=1"] * 2
    with pytest.raises(BlockingIOError):
        sock.recv(99)


def test_the_variables_are_taken_out_of_the_environment() -> None:
    environ = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "HOME": "/"}
    Notifier.from_environment(environ)
    assert environ == {"HOME": "/"}


def test_a_watchdog_for_another_process_is_not_ours() -> None:
    environ = {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid() + 1)}
    assert Notifier.from_environment(environ).watchdog_seconds is None


def test_an_abstract_address_is_understood() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0rrqd-test-{os.getpid()}")
        assert Notifier(f"@rrqd-test-{os.getpid()}").send("STATUS=x")
        assert sock.recv(99) == b"STATUS=x"


def test_without_systemd_nothing_happens() -> None:
    notifier = Notifier(None)
    notifier.ready("x")
    notifier.alive(1.0)
    assert notifier.send("x") is False


def test_a_deaf_systemd_is_not_waited_for(tmp_path: Path) -> None:
    assert Notifier(str(tmp_path / "nobody")).send("READY=1") is False


def test_more_time_is_asked_for_now_and_then(recorder: tuple[socket.socket, str]) -> None:
    sock, path = recorder
    notifier = Notifier(path)
    for now in (0.0, 0.5, EXTEND_EVERY_SECONDS, EXTEND_EVERY_SECONDS + 0.5):
        notifier.extend(now, f"at {now}")
    sock.setblocking(False)
    assert sock.recv(99) == b"EXTEND_TIMEOUT_USEC=30000000\nSTATUS=at 0.0"
    assert sock.recv(99) == b"EXTEND_TIMEOUT_USEC=30000000\nSTATUS=at 2.0"
    with pytest.raises(BlockingIOError):
        sock.recv(99)


def test_what_is_said_once_is_kept_when_systemd_is_too_busy_to_listen(recorder: tuple[socket.socket, str]) -> None:
    sock, path = recorder
    sock.setblocking(False)
    notifier = Notifier(path)
    while notifier.send("STATUS=filling its queue"):
        pass
    notifier.reloading(1_000)
    notifier.ready("all well")
    notifier.status("less well")
    heard = []
    for now in range(40):  # each turn of the loop finds room for one message more
        notifier.alive(float(now))
        notifier.status("less well")
        try:
            heard.append(sock.recv(99))
        except BlockingIOError:
            break
    told = [one for one in heard if one != b"STATUS=filling its queue"]
    assert told == [b"RELOADING=1\nMONOTONIC_USEC=1", b"READY=1\nSTATUS=all well", b"STATUS=less well"]


# -- sockets that are handed over --------------------------------------------------------------------------


def _lay_down(*fds: int) -> int:
    """Copies of these, inheritable and side by side as systemd lays them; answers the first one's number."""
    first = 900
    for place, fd in enumerate(fds):
        os.dup2(fd, first + place)
    return first


def _announced(count: int) -> dict[str, str]:
    return {"LISTEN_FDS": str(count), "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "http", "HOME": "/"}


def test_sockets_are_taken_for_us_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        environ = _announced(1)
        (taken,) = handed_over(environ, _lay_down(listener.fileno()))
    with taken:
        assert environ == {"HOME": "/"}
        assert taken.getsockname()[0] == "127.0.0.1"
        assert takes_connections(taken)
        assert not taken.get_inheritable()


def test_what_is_meant_for_another_process_is_not_touched() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        environ = {**_announced(1), "LISTEN_PID": str(os.getppid())}
        first = _lay_down(listener.fileno())
        assert handed_over(environ, first) == []
        assert environ == {"HOME": "/"}
        assert os.get_inheritable(first)
        os.close(first)


def test_what_is_no_listening_tcp_socket_is_told_apart_and_a_pipe_is_closed(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    datagrams, stream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_UNIX)
    stream.bind(str(tmp_path / "stream"))
    stream.listen()
    with datagrams, stream, socket.socket() as deaf:
        first = _lay_down(reader, datagrams.fileno(), stream.fileno(), deaf.fileno())
        taken = handed_over(_announced(4), first)
    assert [takes_connections(one) for one in taken] == [False, False, False]
    with pytest.raises(OSError):
        os.fstat(first)
    for one in taken:
        one.close()
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("count", ["", "two", "0"])
def test_nonsense_hands_over_nothing(count: str) -> None:
    assert handed_over({"LISTEN_FDS": count, "LISTEN_PID": str(os.getpid())}) == []


def test_more_than_is_there_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        (taken,) = handed_over(_announced(999_999_999), _lay_down(listener.fileno()))
        taken.close()
