"""Landlock: a process gives up the right to write anywhere but below a few paths, for itself and all it starts.

Rules of this file:

* Only rights to write are given up. Reading, running, connecting and everything that is open already go on as before.
* Called while there is one thread: what a thread gives up is not given up for its neighbours.
* What the kernel can't do is an OSError. It is never passed over.

The numbers are the kernel's, the same on all machines we run on (`linux/landlock.h`).
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_PR_SET_NO_NEW_PRIVS = 38
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1
_PATH_BENEATH = 1

WRITE_FILE = 1 << 1
REMOVE_DIR, REMOVE_FILE = 1 << 4, 1 << 5
MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = (1 << bit for bit in range(6, 13))
REFER = 1 << 13
TRUNCATE = 1 << 14

_SINCE_THE_FIRST = (
    WRITE_FILE | REMOVE_DIR | REMOVE_FILE
    | MAKE_CHAR | MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_BLOCK | MAKE_SYM
)  # fmt: skip
_OF_FILES = WRITE_FILE | TRUNCATE

REFER_ABI = 2
"""Linux 5.19. Before it nothing can be renamed from one folder to another, whatever is allowed."""
TRUNCATE_ABI = 3
"""Linux 6.2. Before it a file can be cut short by its name, wherever it lies."""


class _Ruleset(ctypes.Structure):
    _fields_ = (("handled_access_fs", ctypes.c_uint64),)


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def rights(abi: int) -> int:
    """All rights to write that a kernel of this ABI can take away."""
    return _SINCE_THE_FIRST | (REFER if abi >= REFER_ABI else 0) | (TRUNCATE if abi >= TRUNCATE_ABI else 0)


def rights_below(abi: int, is_folder: bool) -> int:
    """What a rule gives back. One about a file may speak of files only."""
    return rights(abi) & (~0 if is_folder else _OF_FILES)


def abi() -> int:
    """The kernel's version of Landlock. OSError when it has none, or has it switched off."""
    return _call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_ASK_VERSION))


def no_new_privileges() -> None:
    """Never more rights than now: setuid programs and file capabilities count for nothing from here on."""
    one, zero = ctypes.c_ulong(1), ctypes.c_ulong(0)
    if _libc().prctl(_PR_SET_NO_NEW_PRIVS, one, zero, zero, zero) != 0:
        raise _failure()


def write_only_below(paths: Iterable[Path]) -> int:
    """Give up writing anywhere else, for ever. Every path must be there. Answers the kernel's ABI.

    Asks for `no_new_privileges` first, without which the kernel does not let anybody but root do this.
    """
    version = abi()
    ruleset = _Ruleset(rights(version))
    fd = _call(_CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(ctypes.sizeof(ruleset)), ctypes.c_uint32(0))
    try:
        for path in paths:
            _allow(fd, path, version)
        no_new_privileges()
        _call(_RESTRICT_SELF, ctypes.c_int(fd), ctypes.c_uint32(0))
    finally:
        os.close(fd)
    return version


def _allow(ruleset_fd: int, path: Path, version: int) -> None:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        is_folder = stat.S_ISDIR(os.fstat(fd).st_mode)
        rule = _PathBeneath(rights_below(version, is_folder), fd)
        flags = ctypes.c_uint32(0)
        _call(_ADD_RULE, ctypes.c_int(ruleset_fd), ctypes.c_int(_PATH_BENEATH), ctypes.byref(rule), flags)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(fd)


def _call(number: int, *arguments: Any) -> int:
    syscall = _libc().syscall
    syscall.restype = ctypes.c_long
    answer = int(syscall(ctypes.c_long(number), *arguments))
    if answer < 0:
        raise _failure()
    return answer


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _failure() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
