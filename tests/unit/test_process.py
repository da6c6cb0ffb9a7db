"""The kernel's side of the supervisor, with real processes: starts, ends in any order, strangers, groups, locks."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rrqd.supervisor import process
from rrqd.supervisor.process import Gone
from tests.support.wait import until


class Family:
    """Children of this test: those that a master would know by their pidfd, and strangers."""

    def __init__(self) -> None:
        self.pidfds: dict[int, int] = {}
        self.strangers: set[int] = set()

    def child(self, program: str, *fds: int) -> int:
        """A shell's program, watched; stays a zombie until it is collected."""
        pid, pidfd = process.spawn(["/bin/sh", "-c", program], {"PATH": os.defpath}, fds)
        self.pidfds[pid] = pidfd
        return pid

    def stranger(self, program: str) -> int:
        """One that came to us from elsewhere: nobody has a pidfd of it."""
        pid, pidfd = process.spawn(["/bin/sh", "-c", program], {"PATH": os.defpath})
        os.close(pidfd)
        self.strangers.add(pid)
        return pid

    def end(self, pid: int) -> Gone:
        """How a child ended, once it has."""
        assert select.select([self.pidfds[pid]], [], [], 10)[0], f"{pid} does not end"
        gone = process.peek(self.pidfds[pid])
        assert gone is not None
        return gone

    def collect(self, pid: int) -> dict[str, float]:
        os.close(self.pidfds.pop(pid))
        return process.collect(pid)

    def reaped(self) -> list[tuple[int, int | None, int | None]]:
        """All strangers, in the order of their pids, once every one has been reaped."""
        found: list[Gone] = []

        def all_of_them() -> bool:
            found.extend(process.reap_strangers(lambda pid: pid not in self.strangers))
            return len(found) == len(self.strangers)

        until(all_of_them, 10, "the strangers to be reaped")
        self.strangers.clear()
        return sorted((one.pid, one.code, one.signal) for one in found)


@pytest.fixture
def family() -> Iterator[Family]:
    family = Family()
    yield family
    for pid in family.pidfds:
        process.kill_group(pid, family.pidfds[pid])
        os.close(family.pidfds[pid])
        os.waitpid(pid, 0)


# -- how children end: the list is gunicorn's ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "code", "number"),
    [
        ("exit 0", 0, None),
        ("exit 1", 1, None),
        ("exit 3", 3, None),  # gunicorn's "the worker did not boot"
        ("exit 4", 4, None),  # gunicorn's "the application did not load"
        ("exit 78", 78, None),  # ours: the configuration can't work
        ("kill -KILL $$", None, signal.SIGKILL),
        ("kill -TERM $$", None, signal.SIGTERM),
        ("kill -ABRT $$", None, signal.SIGABRT),
    ],
)  # fmt: skip
def test_an_end_is_told_by_code_or_by_signal(
    family: Family, program: str, code: int | None, number: int | None
) -> None:
    pid = family.child(program)
    assert family.end(pid) == Gone(pid, code, number)
    assert family.end(pid) == Gone(pid, code, number)  # looking takes nothing away
    assert family.collect(pid).keys() >= {"user_seconds", "max_rss_bytes"}


def test_a_living_child_has_no_end(family: Family) -> None:
    pid = family.child("exec sleep 60")
    assert process.peek(family.pidfds[pid]) is None


def test_an_exit_that_somebody_else_has_collected_says_so_and_harms_nobody(family: Family) -> None:
    pid = family.child("exit 3")
    family.end(pid)
    os.waitpid(pid, 0)
    with pytest.raises(ChildProcessError):
        process.peek(family.pidfds[pid])
    assert process.collect(pid) == {}
    assert process.send(family.pidfds[pid], signal.SIGKILL) is False
    os.close(family.pidfds.pop(pid))


@pytest.mark.parametrize("code", [0, 3, 4, 78])
def test_a_stranger_is_reaped_and_its_code_means_nothing(family: Family, code: int) -> None:
    ours = family.child("exec sleep 60")
    pid = family.stranger(f"exit {code}")
    assert family.reaped() == [(pid, code, None)]
    assert process.peek(family.pidfds[ours]) is None


def test_strangers_take_nobody_of_ours_with_them_whatever_the_order(family: Family) -> None:
    ours = [family.child("exit 3"), family.child("kill -KILL $$"), family.child("exit 0")]
    for program in ("exit 3", "kill -KILL $$", "exit 4"):
        family.stranger(program)
    assert [family.end(pid) for pid in ours] == [
        Gone(ours[0], 3, None),
        Gone(ours[1], None, signal.SIGKILL),
        Gone(ours[2], 0, None),
    ]
    early = process.reap_strangers(lambda pid: pid not in family.strangers)
    assert early == []  # ours stand before them in the kernel's list, and hide them until they are collected
    for pid in ours:
        family.collect(pid)
    assert [(code, number) for _, code, number in family.reaped()] == [(3, None), (None, signal.SIGKILL), (4, None)]


def test_many_ends_at_once_are_all_seen_though_nobody_was_told_of_any(family: Family) -> None:
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    try:
        pids = [family.child(f"exit {nth}") for nth in range(60)]
        assert [family.end(pid).code for pid in pids] == list(range(60))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    for pid in pids:
        family.collect(pid)


def test_a_signal_never_reaches_who_has_inherited_the_number(family: Family) -> None:
    pid = family.child("exit 0")
    family.end(pid)
    pidfd = os.dup(family.pidfds[pid])
    family.collect(pid)
    assert process.send(pidfd, signal.SIGKILL) is False
    process.kill_group(pid, pidfd)
    os.close(pidfd)


# -- how children begin -------------------------------------------------------------------------------------


def test_a_child_gets_exactly_the_descriptors_it_is_given_in_their_order(family: Family) -> None:
    first, second = process.memory_file("first"), process.memory_file("second")
    pid = family.child("kill -STOP $$", second, first)
    until(lambda: process.state_letter(pid) == "T", 5, "it to have begun")
    has = {int(fd): os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    # Whoever started this test may have left it something to inherit.
    mine = {fd for fd in has if fd not in (3, 4) and Path(f"/proc/self/fd/{fd}").exists() and os.get_inheritable(fd)}
    assert {fd: name for fd, name in has.items() if fd not in mine | {0, 1, 2}} == {
        3: "/memfd:second (deleted)",
        4: "/memfd:first (deleted)",
    }
    for fd in (first, second):
        os.close(fd)


def test_a_source_that_lies_at_the_number_of_an_earlier_target_is_not_lost(family: Family) -> None:
    sources = [os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), process.memory_file("last")]
    # Two descriptors whose numbers are each other's target.
    low = fcntl.fcntl(sources[0], fcntl.F_DUPFD_CLOEXEC, 3)
    pid = family.child("kill -STOP $$", sources[1], *[low] * (sources[1] - 3), sources[0])
    until(lambda: process.state_letter(pid) == "T", 5, "it to have begun")
    assert os.readlink(f"/proc/{pid}/fd/3") == "/memfd:last (deleted)"
    assert os.readlink(f"/proc/{pid}/fd/{sources[1]}") == "/dev/null"
    for fd in (*sources, low):
        os.close(fd)


def test_a_child_begins_with_default_signals_in_a_group_of_its_own_and_without_our_terminal(family: Family) -> None:
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        pid = family.child("exec sleep 60")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGHUP, ignored)
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    assert int(status["SigBlk"], 16) == 0
    assert int(status["SigIgn"], 16) & 1 << signal.SIGHUP - 1 == 0
    assert os.getpgid(pid) == pid
    assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"


def test_a_program_that_is_not_there_leaves_no_descriptor_behind() -> None:
    before = os.listdir("/proc/self/fd")
    fd = process.memory_file("x")
    with pytest.raises(FileNotFoundError):
        process.spawn(["/no/such/program"], {}, [fd])
    os.close(fd)
    assert os.listdir("/proc/self/fd") == before


def test_a_child_that_can_not_be_watched_is_not_left_running(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []

    def full(pid: int, _flags: int = 0) -> int:
        started.append(pid)
        raise OSError(errno.ENFILE, "the table of files is full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pidfd_open", full)
        with pytest.raises(OSError, match="full"):
            process.spawn(["/bin/sleep", "600"], {})
    family.strangers.update(started)
    assert family.reaped() == [(started[0], None, signal.SIGKILL)]


# -- groups, states, locks ----------------------------------------------------------------------------------


def test_killing_a_child_takes_along_what_it_has_started_also_when_it_is_dead_itself(family: Family) -> None:
    reader, writer = os.pipe()
    living = family.child("sleep 600 & sleep 600", writer)
    dead = family.child("sleep 600 & exit 0", writer)
    os.close(writer)
    family.end(dead)
    process.kill_group(living, family.pidfds[living])
    process.kill_leftovers(dead)
    assert select.select([reader], [], [], 10)[0]  # every copy of the other end is closed
    assert os.read(reader, 1) == b""
    os.close(reader)
    assert family.end(living) == Gone(living, None, signal.SIGKILL)


def test_states_are_told_apart(family: Family) -> None:
    pid = family.child("exec sleep 60")
    until(lambda: process.state_letter(pid) == "S", 5, "it to sleep")
    os.kill(pid, signal.SIGSTOP)
    until(lambda: process.state_letter(pid) == "T", 5, "it to be stopped")
    os.kill(pid, signal.SIGKILL)
    family.end(pid)
    assert process.state_letter(pid) == "Z"
    family.collect(pid)
    assert process.state_letter(pid) == ""
    assert process.waited_seconds(pid) == 0.0
    assert process.waited_seconds(os.getpid()) > 0.0


def test_a_title_with_brackets_and_spaces_does_not_confuse_the_state(family: Family, tmp_path: Path) -> None:
    program = tmp_path / "a) R (b"
    program.symlink_to("/bin/sleep")
    pid, family.pidfds[pid] = process.spawn([str(program), "60"], {})
    until(lambda: process.state_letter(pid) == "S", 5, "it to sleep")


def test_one_lock_is_its_holders_alone_and_the_other_belongs_to_all_who_inherit_it(tmp_path: Path) -> None:
    alone, together = process.take_lock(tmp_path / "alone"), process.take_members_lock(tmp_path / "together")
    assert alone is not None
    assert together is not None
    heir = subprocess.Popen(["/bin/sleep", "600"], pass_fds=(alone, together))
    os.close(alone)
    os.close(together)
    ask = (
        "import sys; from pathlib import Path; from rrqd.supervisor.process import take_lock, take_members_lock\n"
        "print(*(take(Path(name)) is None for take, name in zip((take_lock, take_members_lock), sys.argv[1:])))"
    )
    paths = [str(tmp_path / "alone"), str(tmp_path / "together")]

    def taken() -> list[str]:
        return subprocess.run([sys.executable, "-c", ask, *paths], capture_output=True, text=True).stdout.split()

    assert taken() == ["False", "True"]
    heir.kill()
    heir.wait()
    assert taken() == ["False", "False"]


def test_any_number_of_wake_ups_is_one_and_none_waits() -> None:
    fd = process.wake_file()
    for _ in range(1000):
        process.wake(fd)
    os.eventfd_write(fd, 2**64 - 2 - 1000)  # as full as it can be
    process.wake(fd)
    assert os.eventfd_read(fd) > 0
    with pytest.raises(BlockingIOError):
        os.eventfd_read(fd)
    os.close(fd)


def test_an_address_in_use_is_an_error_that_leaves_no_descriptor_behind() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        before = os.listdir("/proc/self/fd")
        with pytest.raises(OSError, match="in use"):
            process.listen("127.0.0.1", taken.getsockname()[1])
        assert os.listdir("/proc/self/fd") == before
