"""Under systemd: what it hears from the start to the end, the port it may keep open, the calls it allows."""

from __future__ import annotations

import ctypes
import http.client
import os
import re
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rrqd.client import SyncRRQClient
from rrqd.job import JobStatus
from rrqd.supervisor import landlock
from rrqd.supervisor.process import state_letter
from tests.support.app import TOLD
from tests.support.commands import rrqd
from tests.support.daemon import NO_JOBS, ROOT, Daemon
from tests.support.filtered import LIBRARY
from tests.support.wait import until

SILENCE_SECONDS = 1.5
"""Three turns of the master's loop when nothing happens."""


class Manager:
    """systemd's ear: a datagram socket, and what came in on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[str] = []
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(path))

    def environment(self, watchdog_seconds: float = 30.0) -> dict[str, str]:
        return {"NOTIFY_SOCKET": str(self.path), "WATCHDOG_USEC": str(int(watchdog_seconds * 1_000_000))}

    def hear(self, start: str, seconds: float = 15.0) -> str:
        """The next message that begins like this; those before it are noted."""
        self.sock.settimeout(seconds)
        while not (message := self.sock.recv(4096).decode()).startswith(start):
            self.heard.append(message)
        self.heard.append(message)
        return message

    def catch_up(self) -> list[str]:
        """Everything that has come in by now."""
        self.sock.setblocking(False)
        came = []
        try:
            while True:
                came.append(self.sock.recv(4096).decode())
        except BlockingIOError:
            self.heard += came
            return came

    def milestones(self) -> list[str]:
        words = [message.partition("=")[0] for message in self.heard]
        return [word for word in words if word in ("READY", "RELOADING", "STOPPING")]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    with manager.sock:
        yield manager


def _stamp(message: str) -> int:
    found = re.search(r"^MONOTONIC_USEC=(\d+)$", message, re.MULTILINE)
    assert found is not None
    return int(found[1])


def test_it_tells_start_reload_refused_reload_and_a_long_stop_in_their_order_and_no_child_hears_of_it(
    manager: Manager,
) -> None:
    environment = {**manager.environment(), "LISTEN_FDS": "1", "LISTEN_PID": "1", "LISTEN_FDNAMES": "http"}
    with Daemon(http=True, environment=environment) as daemon:
        assert manager.hear("READY=1") == "READY=1\nSTATUS=running; generation 1; default 2/2"
        children = daemon.children()
        assert len(children) == 5
        for pid in children.values():
            assert not re.search(rb"NOTIFY_SOCKET|WATCHDOG_|LISTEN_", Path(f"/proc/{pid}/environ").read_bytes())
        before = time.monotonic_ns() // 1000
        daemon.signal(signal.SIGHUP)
        first = _stamp(manager.hear("RELOADING=1"))
        assert before <= first <= time.monotonic_ns() // 1000
        assert "generation 2" in manager.hear("READY=1")
        daemon.expect_log("reload.done")
        daemon.rrqd["lease_seconds"] = -1
        daemon.write_config()
        daemon.signal(signal.SIGHUP)
        assert _stamp(manager.hear("RELOADING=1")) > first
        assert "generation 2" in manager.hear("READY=1")
        daemon.expect_log("reload.failed")
        # A stop that takes long asks for more time again and again, and says what for.
        until(lambda: sorted(daemon.workers()) == ["worker default/0 g2", "worker default/1 g2"], 20, "the roll")
        daemon.hold_up("long")
        daemon.signal(signal.SIGTERM)
        assert manager.hear("STOPPING=1") == "STOPPING=1\nEXTEND_TIMEOUT_USEC=40000000"
        assert "STATUS=stopping" in manager.hear("EXTEND_TIMEOUT_USEC=30000000")
        assert manager.hear("EXTEND_TIMEOUT_USEC=30000000").endswith("jobs running: 1")
        daemon.let_go()
        assert daemon.wait() == 0
        manager.catch_up()
        assert manager.milestones() == ["READY", "RELOADING", "READY", "RELOADING", "READY", "STOPPING"]


def test_a_start_that_takes_long_asks_for_more_time_and_is_ready_only_when_it_is(manager: Manager) -> None:
    jobs = "from pathlib import Path\n\nPath(__file__).with_name('gate').read_text()\n" + NO_JOBS
    daemon = Daemon(environment=manager.environment(), jobs=jobs)
    os.mkfifo(daemon.folder / "gate")  # whoever reads it waits until somebody has written
    with daemon:
        for _ in range(2):
            assert "STATUS=starting" in manager.hear("EXTEND_TIMEOUT_USEC=30000000")
        assert manager.milestones() == []
        (daemon.folder / "gate").write_text("go")
        manager.hear("READY=1")
        assert daemon.stop() == 0


def test_whoever_waits_for_an_earlier_rrqd_asks_for_more_time(manager: Manager) -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        second = Daemon(folder=daemon.folder, environment=manager.environment()).start()
        assert "STATUS=waiting for an earlier rrqd" in manager.hear("EXTEND_TIMEOUT_USEC=30000000")
        assert second.stop() == 0
        assert manager.milestones() == []
        assert daemon.stop() == 0


def test_the_watchdog_is_fed_by_the_loop_alone(manager: Manager) -> None:
    with Daemon(environment=manager.environment(watchdog_seconds=0.2)) as daemon:
        manager.hear("READY=1")
        manager.hear("WATCHDOG=1")
        daemon.signal(signal.SIGSTOP)
        until(lambda: state_letter(daemon.pid) == "T", 5, "the master to stand still")
        manager.catch_up()
        with pytest.raises(TimeoutError):
            manager.hear("WATCHDOG=1", SILENCE_SECONDS)
        daemon.signal(signal.SIGCONT)
        manager.hear("WATCHDOG=1")
        assert daemon.stop() == 0


# -- a socket that systemd keeps open ----------------------------------------------------------------------

HAND_OVER = """
import os, sys
fd = int(sys.argv[1])
if fd != 3:
    os.dup2(fd, 3)
    os.close(fd)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="http")
os.execv(sys.argv[2], sys.argv[2:])
"""


def _socket_of(pid: int, inode: int) -> bool:
    """Whether a process has this socket open."""
    links = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            links.append(os.readlink(link))
        except OSError:
            continue
    return f"socket:[{inode}]" in links


def test_it_serves_on_the_socket_that_systemd_hands_over_and_nobody_is_refused_while_it_is_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port, inode = listener.getsockname()[1], os.fstat(listener.fileno()).st_ino
        daemon = Daemon(http=True, stand_ins=False)
        daemon.prefix = (sys.executable, "-c", HAND_OVER, str(listener.fileno()))
        daemon.pass_fds = (listener.fileno(),)
        with daemon:
            taken = daemon.expect_log("http.socket_taken")
            assert taken["address"] == f"127.0.0.1:{port}"
            assert taken["http"] == daemon.rrqd["http"]
            assert daemon.expect_log("rrqd.ready")["http"] == f"http://127.0.0.1:{port}"
            shown = rrqd(daemon, "status")
            assert shown.code == 0
            assert f"daemon  well, at http://127.0.0.1:{port}\n" in shown.out
            assert [title for title, pid in daemon.children().items() if _socket_of(pid, inode)] == ["web"]
            assert daemon.stop() == 0
            mark = daemon.mark()
            with socket.create_connection(("127.0.0.1", port), 5) as early:
                early.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                daemon.start()
                early.settimeout(15)
                assert early.recv(999).startswith(b"HTTP/1.1 200")
            daemon.expect_log("rrqd.ready", since=mark)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", int(daemon.rrqd["http"].rpartition(":")[2])), 5)
            assert daemon.stop() == 0


def test_a_socket_is_not_taken_when_http_is_off() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        daemon = Daemon()
        daemon.prefix = (sys.executable, "-c", HAND_OVER, str(listener.fileno()))
        daemon.pass_fds = (listener.fileno(),)
        with daemon:
            daemon.expect_log("http.socket_not_taken")
            assert "http" not in daemon.expect_log("rrqd.ready")
            assert not _socket_of(daemon.pid, os.fstat(listener.fileno()).st_ino)
            assert daemon.stop() == 0


# -- the calls that the unit allows ------------------------------------------------------------------------


def _kernel_has_landlock() -> bool:
    try:
        return landlock.abi() > 0
    except OSError:
        return False


def _why_no_filter() -> str:
    if shutil.which("systemd-analyze") is None:
        return "systemd-analyze, which knows the names of the filter, is not installed"
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return f"{LIBRARY} is not installed"
    return ""


@pytest.mark.skipif(bool(_why_no_filter()), reason=_why_no_filter() or "it is there")
def test_everything_works_with_the_calls_that_the_unit_allows() -> None:
    pool = {
        "processes": 1, "nice": 5, "cpus": "spread", "limits": {"nofile": 512, "core": 0},
        "oom_score_adj": 400, "no_new_privs": True, "landlock": _kernel_has_landlock(),
    }  # fmt: skip
    daemon = Daemon(http=True, pools={"default": pool}, stand_ins=False, jobs=TOLD)
    daemon.prefix = (sys.executable, "-m", "tests.support.filtered", str(ROOT / "systemd" / "rrqd.service"))
    with daemon:
        daemon.expect_log("rrqd.ready")
        (worker,) = daemon.workers().values()
        assert re.search(r"^Seccomp:\s+2$", Path(f"/proc/{worker}/status").read_text(), re.MULTILINE)
        with SyncRRQClient(config={"redis_dsn": f"redis://127.0.0.1:{daemon.port}/0"}) as client:
            for params in ({"do": "ok", "answer": 7}, {"do": "sandbox"}):
                job = client.enqueue("told_plain", {"params": params})
                end = client.wait_for_completion(job, timeout_seconds=10)
                assert end is not None
                assert end.status == JobStatus.COMPLETED
        connection = http.client.HTTPConnection(daemon.rrqd["http"], timeout=5)
        connection.request("GET", "/metrics")
        assert b"rrqd_process_pss_bytes{" in connection.getresponse().read()
        connection.close()
        os.kill(worker, signal.SIGKILL)
        daemon.expect_log("worker.died")
        daemon.signal(signal.SIGHUP)
        daemon.expect_log("worker.ready", generation=2)
        assert daemon.stop() == 0
        assert daemon.count_log("child.not_started") == 0
