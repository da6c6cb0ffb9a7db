"""What systemd would hear."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from rrqd.supervisor.systemd import Notifier


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
    environ = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "LISTEN_FDS": "1", "HOME": "/"}
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
