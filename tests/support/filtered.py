"""``python -m tests.support.filtered <unit> <program> …``: runs the program with the unit's own filter of system calls.

The words of `SystemCallFilter=` are resolved by `systemd-analyze syscall-filter` and laid down with libseccomp, which
is what systemd does. A call that the unit does not allow fails with EPERM.
"""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ALLOW = 0x7FFF0000
FAIL = 0x00050000 | errno.EPERM
LIBRARY = "libseccomp.so.2"


def values(unit: Path, key: str) -> list[str]:
    """What a unit says for a key, in its order."""
    pairs = (line.partition("=") for line in unit.read_text().splitlines() if not line.startswith("#"))
    return [value for name, _, value in pairs if name == key]


def allowed(unit: Path) -> set[str]:
    """Names of the system calls that are allowed. Lines add to the list, or take away with a ``~``."""
    calls: set[str] = set()
    for line in values(unit, "SystemCallFilter"):
        named = set(_names(line.removeprefix("~").split()))
        calls = calls - named if line.startswith("~") else calls | named
    return calls


def _names(words: list[str]) -> Iterator[str]:
    for word in words:
        if not word.startswith("@"):
            yield word
            continue
        done = subprocess.run(["systemd-analyze", "syscall-filter", word], capture_output=True, text=True, check=True)
        lines = [line.strip() for line in done.stdout.splitlines()[1:]]
        yield from _names([line for line in lines if line and not line.startswith("#")])


def lay_down(calls: set[str]) -> None:
    """From here on this process, and all it starts, may make these calls only."""
    library = ctypes.CDLL(LIBRARY)
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_load.argtypes = [ctypes.c_void_p]
    library.seccomp_rule_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint]
    context = library.seccomp_init(FAIL)
    for call in sorted(calls):
        number = library.seccomp_syscall_resolve_name(call.encode())
        if number >= 0:  # below: a call of other processors
            assert library.seccomp_rule_add(context, ALLOW, number, 0) == 0, call
    assert library.seccomp_load(context) == 0


if __name__ == "__main__":
    lay_down(allowed(Path(sys.argv[1])))
    os.execvp(sys.argv[2], sys.argv[2:])
