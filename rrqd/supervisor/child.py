"""A child's first lines: which role it has, and that role's beginning.

Run as ``python -m rrqd.supervisor.child <role> <boot descriptor>``; the boot descriptor is a memfd with one JSON
object (`messages.boot_record`). This file is the doorstep: it knows the floors above the supervisor only by the
names in `ROLES`, and imports the one that it needs.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import setproctitle

from rrqd import logs
from rrqd.boot import Control, StewardBoot, WebBoot
from rrqd.config.given import settings_from_json
from rrqd.flight import FlightDeck

if TYPE_CHECKING:
    from rrqd.config.settings import Settings

ROLES = {
    "steward": "rrqd.steward:run_steward",
    "web": "rrqd.web.main:run_web",
    "worker": "rrqd.runtime.main:run_worker",
}
"""Role -> the function that is that role. It gets its boot record and returns an exit code (None is 0)."""


def main(argv: list[str]) -> int:
    """The whole life of an exec'd child."""
    role, boot_fd = argv[0], int(argv[1])
    with os.fdopen(boot_fd, "rb") as file:
        record: dict[str, Any] = json.loads(file.read())
    keep_to_ourselves(record["fds"])
    setproctitle.setproctitle(f"rrqd: {record['title']}")
    quiet_signals()
    settings = settings_from_json(record["settings"])
    logs.configure(role, settings.rrqd.log_format, settings.rrqd.log_level, {"node": record["node_id"]})
    if role == "mold":
        # Not above: whoever is no mold has no use for it.
        from rrqd.supervisor import mold

        return mold.main(record, settings)
    boot = _steward(record, settings) if role == "steward" else _web(record, settings)
    run = find_entry(record["entry"])
    gc.freeze()
    return int(run(boot) or 0)


def keep_to_ourselves(fds: dict[str, Any]) -> None:
    """A program that a handler starts must not inherit what the master gave us."""
    for value in fds.values():
        for fd in value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]:
            os.set_inheritable(fd, False)


def quiet_signals() -> None:
    """The master decides when we leave. A stray `pkill -HUP rrqd` must not take the house down: Ctrl-C, HUP and the
    like are for the master. TERM keeps its default until the role has something better."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)


def find_entry(name: str) -> Callable[[Any], Any]:
    """The function behind ``module:function``."""
    module, _, function = name.partition(":")
    found: Callable[[Any], Any] = getattr(importlib.import_module(module), function)
    return found


def _control(record: dict[str, Any]) -> Control:
    return Control(socket.socket(fileno=record["fds"]["control"]))


def _steward(record: dict[str, Any], settings: Settings) -> StewardBoot:
    return StewardBoot(
        settings=settings,
        node_id=record["node_id"],
        generation=record["generation"],
        deck=FlightDeck.attach(record["fds"]["deck"]),
        wake_fds=record["fds"]["wake"],
        control=_control(record),
        state_dir=Path(record["state_dir"]),
        queues=record["queues"],
        slots=list(record["workers"]),
        workers={worker_id: pid for worker_id, pid in record["workers"].items() if pid},
        embedded_pid=record["embedded_pid"],
        master_pid=record["master_pid"],
        predecessor=record["predecessor"],
    )


def _web(record: dict[str, Any], settings: Settings) -> WebBoot:
    return WebBoot(
        settings=settings,
        node_id=record["node_id"],
        generation=record["generation"],
        deck=FlightDeck.attach(record["fds"]["deck"]),
        control=_control(record),
        listen_socks=[socket.socket(fileno=fd) for fd in record["fds"]["listen"]],
        config_path=Path(record["config_path"]),
        state_dir=Path(record["state_dir"]),
        master_pid=record["master_pid"],
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
