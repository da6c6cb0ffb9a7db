"""The keeper of a home: starts its server, starts it again should it die, and leaves soon after the last user has.

``python -m rrqd.supervisor.keeper FOLDER [--throw-away]``: the process that was started answers with its exit code
(0: the server is ready) and its stderr (why not); its child, in a session of its own, is the keeper.

Rule 1: nothing of who started it stays open; what there is to say goes to ``keeper.log`` in the home.
Rule 2: the server never outlives the keeper, and the data outlive both.
Rule 3: whoever is about to leave holds the users' lock alone, until the server has ended; so a new user can't come
        in between.
"""

from __future__ import annotations

import fcntl
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

from rrqd.clock import monotonic, wall
from rrqd.supervisor.embedded import (
    PID_FILE,
    Embedded,
    EmbeddedError,
    Probe,
    config_text,
    find_binary,
    last_words,
    orphan,
    write_private,
)
from rrqd.supervisor.home import Home, is_still
from rrqd.tether import tether
from rrqd.upkeep.flushing import Flushing

#: After the last user has gone: time for the next of a row of short scripts to find the server warm.
LINGER_SECONDS = 1.0
#: A server that reads its data may take as long as it likes; one that does neither is given this.
START_SECONDS = 15.0
STOP_SECONDS = 10.0
RESTART_SECONDS = (0.1, 5.0)
#: A server that has lived so many times as long as the next pause would be is no hopeless case.
LIVED_PAUSES = 10
LOOK_SECONDS = 0.005
PREDECESSOR_SECONDS = 12.0
#: How soon it is seen that the folder was deleted.
FOLDER_LOOK_SECONDS = 2.0
DELETED = "its folder was deleted"


class Keeper:
    """One home's keeper. ``run`` returns when it has left. ``lock_fd``: the keeper's lock, held."""

    def __init__(self, home: Home, throw_away: bool, lock_fd: int) -> None:
        self._home = home
        self._lock_fd = lock_fd
        self._throw_away = throw_away
        self._told: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._server: subprocess.Popen[bytes] | None = None
        self._served = 0.0
        """Since when it answers."""
        self._embedded = _lay_out(home)

    def start(self) -> None:
        """Have a server that answers. Raises EmbeddedError."""
        link = self._home.link
        if link is not None:
            _point(link, self._home.folder)
        self._embedded.log_path.unlink(missing_ok=True)  # what it says is of this start only
        write_private(self._embedded.config_path, config_text(self._embedded))
        self._start_server()

    def run(self) -> None:
        """Until nobody is left, a signal comes, or the folder has gone."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: self._told.put("stop"))
        threading.Thread(target=self._wait_for_nobody, daemon=True).start()
        if not self._throw_away:
            threading.Thread(target=_flush, args=[self._embedded.folder], daemon=True).start()
        pause = RESTART_SECONDS[0]
        while (told := self._hear()) == "server gone":
            _say(f"the server has ended: {last_words(self._embedded.log_path)}")
            if monotonic() - self._served > LIVED_PAUSES * pause:
                pause = RESTART_SECONDS[0]
            threading.Event().wait(pause)
            pause = min(pause * 2, RESTART_SECONDS[1])
            try:
                self._start_server()
            except EmbeddedError as fault:
                _say(str(fault))
                self._told.put("server gone")
        self._leave(told)

    def _hear(self) -> str:
        while True:
            try:
                return self._told.get(timeout=FOLDER_LOOK_SECONDS)
            except queue.Empty:
                if not is_still(self._lock_fd, self._home.keeper_lock):
                    return DELETED

    def _start_server(self) -> None:
        # The server is asked to end when this thread does; so this must be the main thread.
        self._embedded.socket_path.unlink(missing_ok=True)
        server = self._server = subprocess.Popen(
            self._embedded.argv(),
            stdin=subprocess.DEVNULL,
            cwd=self._embedded.folder,
            env=self._embedded.environment(),
            preexec_fn=tether(signal.SIGTERM),
        )
        deadline, probe, never = monotonic() + START_SECONDS, Probe(self._embedded.socket_path), threading.Event()
        while (look := probe.look()) != "ready":
            if look == "loading":
                deadline = monotonic() + START_SECONDS
            if server.poll() is not None or monotonic() > deadline:
                server.kill()
                server.wait()
                raise EmbeddedError(f"{self._embedded.binary}: {last_words(self._embedded.log_path) or 'no answer'}")
            never.wait(LOOK_SECONDS)
        self._served = monotonic()
        threading.Thread(target=self._wait_for_server, args=[server], daemon=True).start()

    def _wait_for_server(self, server: subprocess.Popen[bytes]) -> None:
        server.wait()
        self._told.put("server gone")

    def _wait_for_nobody(self) -> None:
        """Come back with the users' lock when all have gone and nobody has come within the linger time."""
        fd = os.open(self._home.users_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        while True:
            fcntl.flock(fd, fcntl.LOCK_EX)
            fcntl.flock(fd, fcntl.LOCK_UN)
            threading.Event().wait(LINGER_SECONDS)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            self._told.put("nobody left")  # the lock stays held until this process ends
            return

    def _leave(self, why: str) -> None:
        _say(f"leaving: {why}")
        server = self._server
        if server is not None and server.poll() is None:
            # Asked to end, it would also remove its socket by name, which may be another server's by now.
            server.send_signal(signal.SIGKILL if self._throw_away or why == DELETED else signal.SIGTERM)
            try:
                server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
        link = self._home.link
        if link is not None and why != DELETED:
            link.unlink(missing_ok=True)
        if self._throw_away and why == "nobody left":
            shutil.rmtree(self._home.folder, ignore_errors=True)


def _lay_out(home: Home) -> Embedded:
    """The server of a home listens on its socket alone. Raises EmbeddedError when there is no server to be had."""
    folder = home.folder / "valkey"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Embedded(
        binary=find_binary(None),
        host="127.0.0.1",
        port=0,
        folder=folder,
        config_path=home.folder / "valkey.conf",
        socket_path=home.socket_path,
        log_path=home.server_log_path,
        short_folder=None,
    )


def _point(link: Path, folder: Path) -> None:
    """Make the short name. In a folder where everybody may write, somebody else's link is not followed."""
    if link.is_symlink() and link.lstat().st_uid == os.getuid():
        link.unlink(missing_ok=True)
    try:
        link.symlink_to(folder)
    except OSError as fault:
        raise EmbeddedError(f"the short name {link} for {folder} can't be made: {fault.strerror}") from None


def _end_orphan(home: Home) -> None:
    """A server whose keeper was killed is on its way out; its data must be whole before they are read."""
    pidfd = orphan(home.folder)
    if pidfd is None:
        return
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        deadline, never = monotonic() + STOP_SECONDS, threading.Event()
        while orphaned := orphan(home.folder):
            os.close(orphaned)
            if monotonic() > deadline:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            never.wait(LOOK_SECONDS)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)
        (home.folder / "valkey" / PID_FILE).unlink(missing_ok=True)


def _flush(folder: Path) -> None:
    """For ever: a machine that dies takes along what was written in the last second."""
    flushing, never, told = Flushing(folder), threading.Event(), ""
    while not never.wait(flushing.interval_seconds):
        try:
            flushing.flush()
        except OSError as fault:
            if told != str(fault):
                told = str(fault)
                _say(f"the disk does not take the data: {told}")


def _say(text: str) -> None:
    print(f"{wall().isoformat(timespec='milliseconds')} keeper {os.getpid()}: {text}", flush=True)


def _alone(home: Home) -> int | None:
    """The keeper's lock; ``None`` when another keeper is there, and its server answers."""
    fd = os.open(home.keeper_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline, never = monotonic() + PREDECESSOR_SECONDS, threading.Event()
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if home.answers():
                os.close(fd)
                return None
            if monotonic() > deadline:
                raise EmbeddedError(
                    f"another keeper has {home.folder}, but no server answers; see {home.log_path}"
                ) from None
        never.wait(LOOK_SECONDS)


def main(argv: list[str]) -> int:
    home, throw_away = Home(Path(argv[0]).absolute()), "--throw-away" in argv
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        said = os.fdopen(reader, "rb").read()
        if said == b"ready":
            return 0
        print(said.decode(errors="replace") or "the keeper ended without a word", file=sys.stderr)
        return 1
    os.close(reader)
    os.umask(0o077)
    try:
        log = os.open(home.log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        lock = _alone(home)
        if lock is None:
            os.write(writer, b"ready")
            return 0
        _end_orphan(home)
        keeper = Keeper(home, throw_away, lock)
        keeper.start()
    except (EmbeddedError, OSError) as fault:
        os.write(writer, str(fault).encode())
        return 1
    os.write(writer, b"ready")
    os.close(writer)
    keeper.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
