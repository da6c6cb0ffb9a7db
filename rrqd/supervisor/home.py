"""A *home*: a folder with an embedded server that all processes of a user share, from a user's side.

The server belongs to a *keeper* (``keeper.py``), one process per home. Whoever needs it calls :func:`enter`; the first
one starts the keeper. There is no list of users: each holds a shared lock on a file of the home, and the kernel lets go
of it when the last process that holds it is gone, however it went, its forked children included.

Rule 1: a keeper inherits nothing from who starts it: no descriptor, no session, no working directory.
Rule 2: the lock is never released by name (that would end it for forked relatives, too), only by closing.
Rule 3: a folder that is deleted takes its jobs along, and nothing else: its keeper leaves, its users begin anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from rrqd.clock import monotonic
from rrqd.supervisor.embedded import LONGEST_SOCKET_PATH, EmbeddedError, last_words

HOME_VARIABLE = "RRQD_HOME"
#: How long an entry waits for another process that is starting or ending the server.
ENTRY_SECONDS = 30.0
_LOOK_SECONDS = 0.02
#: A server that can't be started again may be later: the disk was full.
_AGAIN_SECONDS = 5.0
#: A folder that is deleted more often than that while it is entered is deleted by somebody's rule.
_MOST_ENTRIES = 5


@dataclass(frozen=True, slots=True)
class Home:
    """Where everything of one home lies. ``folder`` is absolute."""

    folder: Path

    @property
    def users_lock(self) -> Path:
        """Held, shared, by all who use the server; exclusively by a keeper that is leaving."""
        return self.folder / "users.lock"

    @property
    def start_lock(self) -> Path:
        """Held while a keeper is being started."""
        return self.folder / "start.lock"

    @property
    def keeper_lock(self) -> Path:
        """Held by the keeper as long as it lives."""
        return self.folder / "keeper.lock"

    @property
    def log_path(self) -> Path:
        return self.folder / "keeper.log"

    @property
    def server_log_path(self) -> Path:
        return self.folder / "valkey" / "valkey.log"

    @property
    def link(self) -> Path | None:
        """A short name for a folder whose path is too long for a socket in it; ``None`` when it is not needed."""
        if len(os.fsencode(self.folder / "valkey.sock")) <= LONGEST_SOCKET_PATH:
            return None
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        return Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir(), f"rrqd-{os.getuid()}-{digest}")

    @property
    def socket_path(self) -> Path:
        return (self.link or self.folder) / "valkey.sock"

    @property
    def dsn(self) -> str:
        """What clients, workers, a daemon's ``redis_dsn`` and ``rrqd --dsn`` take."""
        return f"unix://{quote(str(self.socket_path))}"

    def make(self) -> None:
        """Make the folder, for its owner alone. Raises EmbeddedError."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as fault:
            raise EmbeddedError(
                f"the home {self.folder} can't be made: {fault.strerror}; set {HOME_VARIABLE}"
            ) from None

    def answers(self) -> bool:
        """Whether the server is there (it may still be reading its data)."""
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(2.0)
                probe.connect(str(self.socket_path))
                probe.sendall(b"PING\r\n")
                return probe.recv(64).startswith((b"+PONG", b"-LOADING"))
        except OSError:
            return False


def default_home(environ: Mapping[str, str] = os.environ) -> Home:
    """``RRQD_HOME``, or the platform's place for a user's data."""
    named = environ.get(HOME_VARIABLE)
    if named:
        return Home(Path(named).expanduser().absolute())
    if sys.platform == "darwin":
        return Home(Path.home() / "Library" / "Application Support" / "rrqd")
    return Home(Path(environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "rrqd")


class Stay:
    """This process's use of a home, its forked children's too. ``end`` gives it up before the process ends."""

    def __init__(self, home: Home, lock_fd: int, *, throw_away: bool = False) -> None:
        self.home = home
        self.throw_away = throw_away
        self.ended = False
        self._lock_fd: int | None = lock_fd
        self._guard: int | None = None
        self.guard()

    def guard(self) -> None:
        """Watch over the keeper from a thread of this process; a forked child calls it anew, for threads don't come
        along."""
        if self._guard != os.getpid():
            self._guard = os.getpid()
            threading.Thread(target=self._stand_guard, name="rrqd-home", daemon=True).start()

    def _stand_guard(self) -> None:
        """Wait until the keeper is gone (the kernel lets go of its lock); then there must be another one."""
        never, told = threading.Event(), ""
        while not self.ended:
            self._wait_until_it_is_gone()
            if self.ended:
                return
            try:
                self._come_back()
            except (EmbeddedError, OSError) as fault:
                if told != str(fault):
                    told = str(fault)
                    print(f"rrqd: the embedded server can't be started again: {fault}", file=sys.stderr)
                never.wait(_AGAIN_SECONDS)

    def _wait_until_it_is_gone(self) -> None:
        try:
            fd = _open(self.home.keeper_lock)
        except FileNotFoundError:
            return  # with its folder
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
        finally:
            os.close(fd)

    def _come_back(self) -> None:
        if self._lock_fd is not None and is_still(self._lock_fd, self.home.users_lock):
            _have_a_keeper(self.home, self.throw_away)
            return
        print(f"rrqd: the home {self.home.folder} was deleted; it begins anew, empty", file=sys.stderr)
        deleted, self._lock_fd = self._lock_fd, _go_in(self.home, self.throw_away)
        if deleted is not None:
            os.close(deleted)
        if self.ended:
            self.end()

    def end(self) -> None:
        """Give it up. The keeper leaves soon after the last one has."""
        self.ended = True
        fd, self._lock_fd = self._lock_fd, None
        if fd is not None:
            os.close(fd)


def enter(home: Home, *, throw_away: bool = False) -> Stay:
    """Use a home's server, starting it if nobody has. ``throw_away``: the folder goes when the last user has gone.

    Raises EmbeddedError with the reason and what to do.
    """
    return Stay(home, _go_in(home, throw_away), throw_away=throw_away)


def _go_in(home: Home, throw_away: bool) -> int:
    """The users' lock, held, while a server answers. The folder may be deleted while this waits: then it begins anew,
    for a lock on a file that has gone tells nobody anything."""
    for _ in range(_MOST_ENTRIES):
        home.make()
        fd = -1
        try:
            fd = _open(home.users_lock)
            _lock(fd, fcntl.LOCK_SH, f"the server of {home.folder} to end, so that it can be started anew")
            if is_still(fd, home.users_lock):
                _have_a_keeper(home, throw_away)
            if is_still(fd, home.users_lock):
                return fd
        except BaseException as fault:
            if fd >= 0:
                os.close(fd)
            if not isinstance(fault, FileNotFoundError) or home.folder.exists():
                raise
        else:
            os.close(fd)
    raise EmbeddedError(
        f"the home {home.folder} is deleted again and again; set {HOME_VARIABLE} to a folder that stays"
    )


def enter_throw_away() -> Stay:
    """A home that is nobody else's, in a temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="rrqd-home-"))
    try:
        return enter(Home(folder), throw_away=True)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _have_a_keeper(home: Home, throw_away: bool) -> None:
    if home.answers():
        return
    fd = _open(home.start_lock)
    try:
        _lock(fd, fcntl.LOCK_EX, f"another process to start the server of {home.folder}")
        if not home.answers():
            _start_keeper(home, throw_away)
    finally:
        os.close(fd)


def _start_keeper(home: Home, throw_away: bool) -> None:
    """Run the keeper's starter, which ends when the server is ready or can't be."""
    package = str(Path(__file__).resolve().parents[2])
    search = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-P", "-m", "rrqd.supervisor.keeper", str(home.folder), *["--throw-away"] * throw_away],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=home.folder,
        env={**os.environ, "PYTHONPATH": search},
        start_new_session=True,
        check=False,
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip() or last_words(home.log_path)
        raise EmbeddedError(f"the embedded server of {home.folder} did not start: {said}")


def is_still(fd: int, path: Path) -> bool:
    """Whether the open file is the one that lies there: it may have been deleted, another may have taken its place."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _lock(fd: int, how: int, what: str) -> None:
    """Lock, waiting at most ``ENTRY_SECONDS``. Raises EmbeddedError, saying what was waited for."""
    deadline, never = monotonic() + ENTRY_SECONDS, threading.Event()
    while True:
        try:
            fcntl.flock(fd, how | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if monotonic() > deadline:
                raise EmbeddedError(f"waited {ENTRY_SECONDS:g} s in vain for {what}") from None
        never.wait(_LOOK_SECONDS)
