"""Unix sockets of this machine: an address for any path, and who is at the other end.

Floor 0: the control socket of the master, the debugger of a worker, and the commands that speak to both.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CONTROL_NAME = "control.sock"
"""The master's control socket, in its state folder."""
LONGEST_PATH_BYTES = 107
"""``sun_path`` holds 108, the last of which is a NUL."""


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """An address for a socket's path that the kernel takes, however deep the folder lies: a descriptor of the folder
    stands for it.

    A second folder in the system's place for temporary files would be another one for whoever has a ``TMPDIR`` of his
    own or runs under systemd's ``PrivateTmp``.
    """
    if len(os.fsencode(path)) <= LONGEST_PATH_BYTES:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def peer_of(sock: socket.socket) -> tuple[int, int]:
    """(pid, uid) of the process at the other end; of a listening one, whoever listens."""
    packed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII"))
    pid, uid, _gid = struct.unpack("iII", packed)
    return pid, uid


def ask(folder: Path, question: dict[str, Any], timeout_seconds: float | None = 10.0) -> dict[str, Any]:
    """What the daemon on this state folder answers. For programs outside: it waits.

    Raises FileNotFoundError or ConnectionRefusedError when none is there, PermissionError when it is somebody else's,
    TimeoutError when it does not answer in time.
    """
    path = folder / CONTROL_NAME
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock, reachable(path) as address:
        _connect(sock, address, timeout_seconds)
        sock.sendall(json.dumps(question).encode() + b"\n")
        heard = bytearray()
        while b"\n" not in heard:
            data = sock.recv(1 << 20)
            if not data:
                raise ConnectionResetError("the daemon hung up without an answer")
            heard += data
    answer = json.loads(heard)
    assert isinstance(answer, dict)
    return answer


def _connect(sock: socket.socket, address: str, timeout_seconds: float | None) -> None:
    """Also while more clients wait at the door than it has room for: a socket that does not block is refused then."""
    if timeout_seconds is not None:
        whole, rest = divmod(timeout_seconds, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(whole), int(rest * 1e6)))
    try:
        sock.connect(address)
    except BlockingIOError:
        raise TimeoutError("the daemon takes no more clients") from None
    sock.settimeout(timeout_seconds)
