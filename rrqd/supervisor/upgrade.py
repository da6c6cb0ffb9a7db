"""Upgrade in place: the master becomes the rrqd that is installed now, with the same pid and the same children.

On SIGUSR2 everything the master knows is written into an anonymous file, the new rrqd is asked in a process of its own
whether it can go on from that, and only if it can does the master execute it. What must stay open (lines to the
children, their pidfds, the locks, the HTTP socket) stays open; signals that arrive meanwhile wait. Workers do not
notice. A new rrqd that can't, or does not answer, changes nothing.

Fields may be added to the rows: what an older rrqd did not write has its default, what a newer one does not know is
passed over. A change that this can't bear raises ``FORMAT``, and the answer of the check is no.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from rrqd import clock
from rrqd.boot import Control
from rrqd.config import loader
from rrqd.config.settings import Settings
from rrqd.exc import ConfigError
from rrqd.flight import FlightDeck
from rrqd.logs import Logger, journal
from rrqd.supervisor import children, process
from rrqd.supervisor.acts import Crew, Handles
from rrqd.supervisor.births import House
from rrqd.supervisor.children import Mode, State
from rrqd.supervisor.control import Reply
from rrqd.supervisor.embedded import Embedded
from rrqd.supervisor.systemd import Notifier
from rrqd.supervisor.view import Facts

FORMAT = 1
CHECK_SECONDS = 60.0
"""For the new rrqd's answer; importing it takes a second."""
SNAPSHOT_FD = 3
MODULE = "rrqd.supervisor.upgrade"


class Snapshot(msgspec.Struct, kw_only=True):
    """All that a master knows. Descriptors are numbers, which stay the same across the exec."""

    format: int
    config_path: str
    node_id: str
    state_dir: str
    roles: dict[str, str]
    settings: dict[int, str]
    state: State
    facts: Facts
    embedded: dict[str, Any] | None
    newest_generation: int
    unheard: dict[str, dict[str, Any]]
    free_pages: dict[str, list[int]]
    next_page: int
    handles: dict[int, tuple[int, int, int]]
    """Child's key -> control, pidfd, dump memfd; -1 for none."""
    deck_fd: int
    listener_fd: int
    locks: list[int]
    members_fd: int
    wake_fds: dict[str, int]

    def descriptors(self) -> set[int]:
        """All that must stay open."""
        of_children = {fd for three in self.handles.values() for fd in three}
        others = {self.deck_fd, self.listener_fd, self.members_fd, *self.locks, *self.wake_fds.values()}
        return {fd for fd in of_children | others if fd >= 0}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(type(value))


def _typed(kind: Any, value: Any) -> Any:
    if getattr(kind, "__origin__", kind) is Counter:
        return Counter(value)
    raise NotImplementedError(kind)


def encode(snapshot: Snapshot) -> bytes:
    """As bytes."""
    return msgspec.msgpack.encode(snapshot, enc_hook=_plain)


def decode(data: bytes) -> Snapshot:
    """What `encode` wrote, perhaps by an older rrqd. Raises ValueError when this rrqd can't go on from it."""
    version = msgspec.msgpack.decode(data).get("format")
    if version != FORMAT:
        raise ValueError(f"the running rrqd writes its state in format {version}, this one reads format {FORMAT}")
    return msgspec.msgpack.decode(data, type=Snapshot, dec_hook=_typed)


def take(
    house: House, state: State, crew: Crew, facts: Facts, newest_generation: int, locks: list[int], config_path: str
) -> Snapshot:
    """What there is now."""
    embedded = house.embedded
    return Snapshot(
        format=FORMAT,
        config_path=config_path,
        node_id=house.node_id,
        state_dir=str(house.state_dir),
        roles=house.roles,
        settings={generation: settings.to_json() for generation, settings in house.settings.items()},
        state=state,
        facts=facts,
        embedded={name: getattr(embedded, name) for name in Embedded.__slots__} if embedded else None,
        newest_generation=newest_generation,
        unheard=crew.unheard,
        free_pages=crew.free_pages,
        next_page=crew.next_page,
        handles={
            key: (one.control.fileno() if one.control else -1, one.pidfd, one.dump_fd)
            for key, one in crew.handles.items()
        },
        deck_fd=house.deck.fd,
        listener_fd=house.listener.fileno() if house.listener else -1,
        locks=locks,
        members_fd=house.members_fd,
        wake_fds=house.wake_fds,
    )


def house_of(snapshot: Snapshot) -> House:
    """The house as it was."""
    embedded = None
    if snapshot.embedded is not None:
        paths = {"folder", "config_path", "socket_path", "log_path", "short_folder"}
        fields: dict[str, Any] = {name: Path(v) if name in paths and v else v for name, v in snapshot.embedded.items()}
        embedded = Embedded(**fields)
    return House(
        node_id=snapshot.node_id,
        state_dir=Path(snapshot.state_dir),
        config_path=Path(snapshot.config_path),
        roles=snapshot.roles,
        deck=FlightDeck.attach(snapshot.deck_fd),
        members_fd=snapshot.members_fd,
        listener=socket.socket(fileno=snapshot.listener_fd) if snapshot.listener_fd >= 0 else None,
        embedded=embedded,
        wake_fds=snapshot.wake_fds,
        settings={generation: Settings.from_json(text) for generation, text in snapshot.settings.items()},
    )


def man(crew: Crew, snapshot: Snapshot, now: float) -> None:
    """Give a new crew the old one's descriptors and listen to all of them."""
    crew.unheard, crew.free_pages, crew.next_page = snapshot.unheard, snapshot.free_pages, snapshot.next_page
    children.start_serials_after(max(crew.state.children, default=0))
    for key, (control, pidfd, dump_fd) in snapshot.handles.items():
        child = crew.state.children.get(key)
        if child is None:
            continue
        line = Control(socket.socket(fileno=control)) if control >= 0 else None
        crew.handles[key] = Handles(control=line, pidfd=pidfd, dump_fd=dump_fd)
        crew.watch(child)
    crew.state.trust_after = now


@dataclass(slots=True)
class Upgrade:
    """The upgrade that was asked for, if any: its check, and the moment of the exec.

    `take_snapshot`: all that is known now.
    """

    log: Logger
    notifier: Notifier
    selector: selectors.BaseSelector
    state: State
    crew: Crew
    take_snapshot: Callable[[], Snapshot]
    _pidfd: int = -1
    _pid: int = 0
    _since: float = 0.0
    _approved: bool = False
    _waiting: list[Reply] = field(default_factory=list)

    def begin(self, now: float, reply: Reply | None = None) -> None:
        """Ask the new rrqd. A second wish while one is being looked at is the same wish."""
        if reply is not None:
            self._waiting.append(reply)
        if self._pidfd >= 0 or self._approved:
            return
        try:
            memory = process.memory_file("rrqd-check", encode(self.take_snapshot()))
            try:
                argv = [sys.executable, "-P", "-m", MODULE, "check"]
                self._pid, self._pidfd = process.spawn(argv, os.environ, [memory])
            finally:
                os.close(memory)
        except OSError as error:
            self.failed(f"the new rrqd can't be started: {error}")
            return
        self._since = now
        self.selector.register(self._pidfd, selectors.EVENT_READ, ("upgrade", None))
        self.log.info("upgrade.check", executable=sys.executable)

    def checked(self) -> None:
        """The check has ended."""
        if self._pidfd < 0:
            return
        gone = process.peek(self._pidfd)
        if gone is None:
            return
        self._drop_check()
        if gone.code == 0:
            self._approved = True
        else:
            self.failed(f"the new rrqd can't go on from here ({_end_of(gone)}); its reason is in the log")

    def is_ours(self, pid: int) -> bool:
        """The check is a child of the master that no row knows."""
        return self._pidfd >= 0 and pid == self._pid

    def turn(self, now: float) -> None:
        """Give up a check that takes too long; go, when approved and nothing is in the middle of something."""
        if self._pidfd >= 0 and now - self._since > CHECK_SECONDS:
            process.send(self._pidfd, signal.SIGKILL)
        if self._approved and self._is_quiet():
            self._approved = False
            self._go()

    def _is_quiet(self) -> bool:
        """No fork under way, no reload, no server being asked whether it is ready."""
        unborn = any(child.pid is None for child in self.state.children.values())
        return not unborn and self.state.candidate is None and self.crew.probe is None and self.state.mode is Mode.RUN

    def _go(self) -> None:
        snapshot = self.take_snapshot()
        try:
            memory = process.memory_file("rrqd-upgrade", encode(snapshot))
        except OSError as error:
            self.failed(f"there is no room for what has to be handed over: {error}")
            return
        kept = {*snapshot.descriptors(), memory}
        self._answer({"ok": True})
        self.log.info("upgrade.exec", executable=sys.executable, children=len(self.state.children))
        journal().flush()
        self.notifier.reloading(clock.monotonic_ns())
        # Without a handler HUP would end us: what arrives from here on waits until the new rrqd has its ears.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        for fd in kept:
            os.set_inheritable(fd, True)
        try:
            environment = {**os.environ, **self.notifier.environment()}
            os.execve(sys.executable, [sys.executable, "-P", "-m", MODULE, "resume", str(memory)], environment)
        except OSError as error:
            for fd in kept:
                os.set_inheritable(fd, False)
            os.close(memory)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            self.failed(f"the new rrqd can't be executed: {error}")

    def failed(self, why: str) -> None:
        """Everything stays as it is."""
        self.log.error("upgrade.failed", error=why)
        self._answer({"ok": False, "error": why})

    def _answer(self, answer: dict[str, Any]) -> None:
        waiting, self._waiting = self._waiting, []
        for reply in waiting:
            reply(answer)

    def _drop_check(self) -> None:
        self.selector.unregister(self._pidfd)
        process.collect(self._pid)
        os.close(self._pidfd)
        self._pidfd = -1


def _end_of(gone: process.Gone) -> str:
    return f"exit code {gone.code}" if gone.code is not None else f"signal {gone.signal}"


def check(fd: int) -> int:
    """Can this rrqd go on from what the running one knows, and read the file? Says why not on stderr."""
    try:
        with os.fdopen(fd, "rb") as file:
            snapshot = decode(file.read())
        for text in snapshot.settings.values():
            Settings.from_json(text)
        loader.load(snapshot.config_path)
    except (ConfigError, ValueError, OSError) as error:
        print(f"rrqd: this rrqd can't take over: {error}", file=sys.stderr)
        return 1
    return 0


def resume(fd: int) -> int:
    """Be the master, from where the old one stopped. Answers the exit code."""
    from rrqd.supervisor.daemon import go_on

    os.lseek(fd, 0, os.SEEK_SET)
    with os.fdopen(fd, "rb") as file:
        snapshot = decode(file.read())
    for kept in snapshot.descriptors():
        os.set_inheritable(kept, False)
    return go_on(snapshot)


def main(arguments: list[str]) -> NoReturn:
    """``check`` with the snapshot as descriptor 3, or ``resume`` and its descriptor."""
    match arguments:
        case ["check"]:
            code = check(SNAPSHOT_FD)
        case ["resume", fd]:
            code = resume(int(fd))
        case _:
            print("This is how a running rrqd becomes a newer one; it is of no use by hand.", file=sys.stderr)
            code = 2
    sys.exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
