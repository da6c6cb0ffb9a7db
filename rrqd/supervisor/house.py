"""Moving in: everything the master needs before its first child, and that it gives back when it leaves.

Rules of this file:

* The only place of the supervisor that waits outside the loop, and only for an earlier rrqd on the same state folder:
  there are no children yet that could need us, and a stop signal ends the wait.
* What can't be had is a `StartError` of one line that says what to do.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from rrqd import clock
from rrqd.config.loader import Loaded
from rrqd.config.settings import Settings, resolve_state_dir
from rrqd.config.shapes import split_address
from rrqd.flight import FlightDeck
from rrqd.logs import Logger
from rrqd.naming import new_node_id
from rrqd.supervisor import embedded, process, systemd
from rrqd.supervisor.births import House
from rrqd.supervisor.plans import plan_of
from rrqd.supervisor.signals import STOP_SIGNALS, Signals
from rrqd.supervisor.systemd import Notifier

LOCK_NAME = "rrqd.lock"
MEMBERS_NAME = "rrqd.members"
LOOK_SECONDS = 0.1
PAGES = 256
ORPHAN_SECONDS = 20.0


class StartError(Exception):
    """The daemon can't start. One line, for the operator."""


class Interrupted(Exception):
    """A stop signal came before there was anything to stop."""


def move_in(
    loaded: Loaded, roles: dict[str, str], embedded_wanted: bool, signals: Signals, notifier: Notifier, log: Logger
) -> tuple[House, list[int]]:
    """The house, and the descriptors whose only purpose is to stay open. Raises StartError or Interrupted."""
    settings = loaded.settings
    state_dir = resolve_state_dir(settings)
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        locks = _locks(state_dir, settings.rrqd.stop_timeout_seconds, signals, notifier, log)
    except OSError as error:
        raise StartError(
            f"state_dir {state_dir} can't be used ({error.strerror}); set rrqd.state_dir to a folder of your own"
        ) from error
    node_id, predecessor = new_node_id(), _signed(locks[0])
    _sign(locks[0], node_id)
    plan = plan_of(settings, 1)
    house = House(
        node_id=node_id,
        predecessor=predecessor,
        state_dir=state_dir,
        config_path=loaded.path,
        roles=roles,
        deck=FlightDeck.create(max(PAGES, plan.workers * 4)),
        members_fd=locks[1],
        listener=_listener(settings, log),
    )
    if embedded_wanted:
        _end_orphan(state_dir, signals, log)
        house.embedded = _embedded(settings, state_dir)
    house.settings[1] = with_own_server(settings, house)
    return house, locks


def with_own_server(settings: Settings, house: House) -> Settings:
    """The children use the embedded server's socket; everybody else its TCP address."""
    if house.embedded is None:
        return settings
    return settings.model_copy(update={"rrq": settings.rrq.model_copy(update={"redis_dsn": house.embedded.dsn})})


def _locks(state_dir: Path, patience_seconds: float, signals: Signals, notifier: Notifier, log: Logger) -> list[int]:
    """Two locks: the master's, and the one that its children share. An earlier master's workers may still be
    finishing their jobs after its death; they have a deadline, and we wait that long."""
    path = state_dir / LOCK_NAME
    deadline = clock.monotonic() + patience_seconds

    def say_who() -> None:
        log.warning("lock.waiting", path=str(path), holder=_holder(path), seconds=patience_seconds)

    first = _wait(lambda: process.take_lock(path), deadline, signals, notifier, say_who)
    if first is None:
        raise StartError(f"{path} is held by {_holder(path)}; one rrqd at a time on a state_dir")
    members = state_dir / MEMBERS_NAME

    def say() -> None:
        log.warning("lock.waiting", path=str(members), holder="workers of an earlier rrqd", seconds=patience_seconds)

    second = _wait(lambda: process.take_members_lock(members), deadline + 5.0, signals, notifier, say)
    if second is None:
        # They have outlived their own deadline. Their leases and tokens keep them from doing harm.
        log.warning("lock.ignored", path=str(members), holder="processes of an earlier rrqd that do not leave")
        members.unlink(missing_ok=True)
        os.ftruncate(first, 0)  # they are not to be resumed: who knows what they still run
        second = process.take_members_lock(members)
    if second is None:
        raise StartError(f"{members} can't be locked")
    return [first, second]


def _wait(
    take: Callable[[], int | None], deadline: float, signals: Signals, notifier: Notifier, say: Callable[[], None]
) -> int | None:
    told = False
    while (fd := take()) is None:
        if not told:
            say()
            told = True
        left = deadline - clock.monotonic()
        if left <= 0:
            return None
        notifier.extend(clock.monotonic(), "waiting for an earlier rrqd on this state_dir")
        select.select([signals.fd], [], [], min(left, LOOK_SECONDS))
        if signals.take() & set(STOP_SIGNALS):
            raise Interrupted
    return fd


def _holder(path: Path) -> str:
    try:
        who = json.loads(path.read_text())
        return f"pid {who['pid']} ({who['node']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _signed(lock_fd: int) -> str:
    """The node that had this folder before, all of whose processes are gone; empty when there is none."""
    try:
        return str(json.loads(os.pread(lock_fd, 1000, 0))["node"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _sign(lock_fd: int, node_id: str) -> None:
    os.ftruncate(lock_fd, 0)
    os.pwrite(lock_fd, json.dumps({"pid": os.getpid(), "node": node_id}).encode() + b"\n", 0)


def _listener(settings: Settings, log: Logger) -> socket.socket | None:
    """The HTTP socket: systemd's, if it handed one over, else one of our own."""
    address = settings.rrqd.http_address
    handed = systemd.handed_over(os.environ)
    chosen = next((one for one in handed if address is not None and systemd.takes_connections(one)), None)
    for one in handed:
        if one is not chosen:
            log.warning("http.socket_not_taken", socket=str(one.getsockname()), http=settings.rrqd.http)
            one.close()
    if chosen is not None:
        chosen.setblocking(False)
        log.info("http.socket_taken", address=address_of(chosen), http=settings.rrqd.http)
        return chosen
    if address is None:
        return None
    try:
        return process.listen(*address)
    except OSError as error:
        raise StartError(
            f'rrqd.http = {settings.rrqd.http}: {error.strerror}; choose another address, or "off"'
        ) from error


def address_of(sock: socket.socket) -> str:
    """`host:port`, as it is, whatever was asked for: port 0 is any, and a socket of systemd's is where systemd says."""
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _end_orphan(state_dir: Path, signals: Signals, log: Logger) -> None:
    """Everybody of an earlier rrqd was killed but its server, or the server is still writing its last bytes. Both
    locks are ours, so nobody needs it any more."""
    pidfd = embedded.orphan(state_dir)
    if pidfd is None:
        return
    log.warning("valkey.orphan", folder=str(state_dir), what_now="it is asked to leave")
    process.send(pidfd, signal.SIGTERM)
    deadline = clock.monotonic() + ORPHAN_SECONDS
    try:
        while (left := deadline - clock.monotonic()) > 0:
            ready, _, _ = select.select([pidfd, signals.fd], [], [], left)
            if pidfd in ready:
                return
            if signals.take() & set(STOP_SIGNALS):
                raise Interrupted
        raise StartError(f"the embedded server of an earlier rrqd on {state_dir} does not leave")
    finally:
        os.close(pidfd)


def _embedded(settings: Settings, state_dir: Path) -> embedded.Embedded:
    try:
        binary = embedded.find_binary(settings.rrqd.embedded_binary)
        host, port = split_address(settings.rrqd.embedded_address)
        return embedded.prepare(binary, host, port, state_dir)
    except embedded.EmbeddedError as error:
        raise StartError(str(error)) from error
