"""``rrqd debug console [POOL/]SLOT``: a Python console inside a running worker of this machine.

Rules of this file:

* The worker is found as an operator finds it: the daemon's pid is in its lock file, the rest is said by the titles of
  its children. Nothing is asked of the server.
* The socket is believed only when that very process listens on it (`peer_of`): another generation's, or one left
  behind by a worker that was killed, is as good as none, and the worker is asked for its own with USR2.
* On a terminal lines are edited with readline; otherwise stdin is sent as it is and only the answers are printed.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import click
import psutil

from rrqd import clock
from rrqd.cli.daemon_line import state_dir_of
from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import complain, emit, printable, table
from rrqd.exc import RRQError
from rrqd.local_socket import peer_of, reachable
from rrqd.runtime.console import BYE, ESCAPE, TURN
from rrqd.runtime.debugger import possible_paths

ANSWER_SECONDS = 5.0
ASK_AGAIN_SECONDS = 1.0
LOOK_SECONDS = 0.02
HEAR_SECONDS = 0.1
_WORKER = re.compile(r"rrqd: worker ([\w-]+)/(\d+) g(\d+)")

Talk = Iterator[tuple[bool, str]]
"""What the worker says: (False, text), and (True, prompt) when it is our turn."""


class Place(NamedTuple):
    """A worker, as its title names it."""

    pool: str
    slot: int
    generation: int
    pid: int

    def __str__(self) -> str:
        return f"{self.pool}/{self.slot}"


@click.command("console")
@click.argument("slot", required=False, metavar="[POOL/]SLOT")
@click.option("--generation", type=int, metavar="N", help="The worker of this generation; left out: the newest.")
@config_option
@json_option
@click.pass_obj
def console(invocation: Invocation, slot: str | None, generation: int | None, as_json: bool) -> int:
    """Open a Python console inside a running worker; without a SLOT, list the workers of this machine.

    The worker and its jobs go on. Piped input is run line by line: echo 'jobs()' | rrqd debug default/0
    """
    state_dir = state_dir_of(invocation)
    found = workers_of(master_of(state_dir))
    if slot is None:
        rows = [{"slot": str(one), "generation": one.generation, "pid": one.pid} for one in found]
        emit(rows, as_json, lambda: table(("slot", "generation", "pid"), [tuple(row.values()) for row in rows]))
        return 0
    one = choose(found, slot, generation)
    with attach(one, lambda: possible_paths(state_dir, one.pool, one.slot)) as link:
        if as_json:
            said: list[str] = []
            is_whole = pipe(link, one, said.append)
            output = {"slot": str(one), "generation": one.generation, "pid": one.pid, "output": "".join(said)}
            emit(output, True, lambda: None)
        elif sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty():
            is_whole = converse(link, one)
        else:
            is_whole = pipe(link, one, echo)
    if not is_whole:
        complain(f"rrqd: worker {one} (pid {one.pid}) has left")
    return 0 if is_whole else 1


# -- which worker --------------------------------------------------------------------------------------------


def master_of(state_dir: Path) -> int:
    """The pid of the daemon on this state folder."""
    try:
        pid = int(json.loads((state_dir / "rrqd.lock").read_text())["pid"])
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        pid = 0
    if not pid or _title(pid) != "rrqd: master":
        raise RRQError(f"no rrqd runs with state_dir {state_dir}; is this the daemon's configuration?")
    return pid


def workers_of(master: int) -> list[Place]:
    """The workers among the daemon's children, in the order of their names."""
    found = []
    for pid in _children(master):
        named = _WORKER.fullmatch(_title(pid))
        if named is not None:
            found.append(Place(named[1], int(named[2]), int(named[3]), pid))
    return sorted(found)


def choose(found: list[Place], wanted: str, generation: int | None = None) -> Place:
    """The worker that is meant by ``default/0``, or by ``0`` where there is one pool only; the newest of its slot."""
    pool, _, number = wanted.rpartition("/")
    if not number.isdecimal() or "/" in pool:
        raise click.BadParameter(f"must be like default/0, not {wanted!r}", param_hint="SLOT")
    of_slot = [one for one in found if one.slot == int(number) and pool in ("", one.pool)]
    pools = sorted({one.pool for one in found})
    if not pool and len(pools) > 1 and of_slot:
        names = ", ".join(sorted({str(one) for one in of_slot}))
        raise RRQError(f"there is more than one pool, so say which: {names}")
    matching = [one for one in of_slot if generation in (None, one.generation)]
    if not matching:
        which = wanted if generation is None else f"{wanted} of generation {generation}"
        there = ", ".join(f"{one} g{one.generation}" for one in found) or "none"
        raise RRQError(f"there is no worker {which}; there are: {there}")
    return max(matching, key=lambda one: one.generation)


def _children(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.Error:
        return []


def _title(pid: int) -> str:
    """What `ps` shows; setproctitle leaves blanks and zeros of the longer first one behind it."""
    try:
        return " ".join(psutil.Process(pid).cmdline()).strip().rstrip(".").strip()
    except psutil.Error:
        return ""


# -- the way in ----------------------------------------------------------------------------------------------


def attach(one: Place, doors: Callable[[], list[Path]]) -> socket.socket:
    """A connection to the worker's debugger, which is asked for until it is there."""
    try:
        process = os.pidfd_open(one.pid)
    except ProcessLookupError:
        raise RRQError(f"worker {one} (pid {one.pid}) has just left") from None
    try:
        began = clock.monotonic()
        asked = 0
        while (link := _first(one, doors())) is None:
            waited = clock.monotonic() - began
            if waited >= ANSWER_SECONDS:
                raise RRQError(_silent(one))
            # Again now and then: a worker that is just being born, or whose last guest is just leaving, does not hear.
            if waited >= asked * ASK_AGAIN_SECONDS:
                signal.pidfd_send_signal(process, signal.SIGUSR2)
                asked += 1
            if select.select([process], [], [], LOOK_SECONDS)[0]:
                raise RRQError(f"worker {one} (pid {one.pid}) has just left")
        return link
    finally:
        os.close(process)


def _first(one: Place, doors: list[Path]) -> socket.socket | None:
    return next(filter(None, (_connect(one, door) for door in doors)), None)


def _connect(one: Place, path: Path) -> socket.socket | None:
    link = socket.socket(socket.AF_UNIX)
    try:
        link.settimeout(ANSWER_SECONDS)
        with reachable(path) as address:
            link.connect(address)
        if peer_of(link)[0] == one.pid:
            return link
    except (FileNotFoundError, ConnectionRefusedError):
        pass
    except BaseException:
        link.close()
        raise
    link.close()
    return None


def _silent(one: Place) -> str:
    return (
        f"worker {one} (pid {one.pid}) has not answered within {ANSWER_SECONDS:g} s: it is stopped, or a C call blocks "
        f"its loop and its interpreter\nkill -USR1 {one.pid} writes its stacks to the daemon's stderr all the same"
    )


# -- the talk ------------------------------------------------------------------------------------------------


def pieces(receive: Callable[[], bytes]) -> Talk:
    """The worker's words until the end of the connection, taken apart at the marks of its prompts."""
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    rest = ""
    while data := receive():
        rest += decode(data)
        while TURN in rest:
            text, _, after = rest.partition(TURN)
            prompt, space, behind = after.partition(" ")
            if not space:
                break  # half a prompt
            if text:
                yield False, text
            yield True, prompt + space
            rest = behind
        if rest and TURN not in rest:
            yield False, rest
            rest = ""


def enter(link: socket.socket, one: Place) -> tuple[str, str, Talk]:
    """(greeting, first prompt, what follows)."""

    def receive() -> bytes:
        try:
            return link.recv(65536)
        except ConnectionResetError:
            return b""

    talk = pieces(receive)
    greeting = ""
    try:
        for is_turn, text in talk:
            if is_turn:
                link.settimeout(None)
                return greeting, text, talk
            greeting += text
    except TimeoutError:
        raise RRQError(_silent(one)) from None
    raise RRQError(f"worker {one}: {greeting.strip() or 'it has just left'}")


def pipe(link: socket.socket, one: Place, write: Callable[[str], object]) -> bool:
    """Send stdin, write the answers without greeting and prompts. False when the worker left before the end."""
    _greeting, _prompt, talk = enter(link, one)

    def feed() -> None:
        try:
            # Not through sys.stdin: its lock, held here when the worker leaves first, would spoil Python's own end.
            while data := os.read(0, 65536):
                link.sendall(data)
            link.shutdown(socket.SHUT_WR)
        except OSError:
            hang_up_writing(link)

    threading.Thread(target=feed, daemon=True).start()
    return _until_turn(talk, write, only=BYE) == BYE


def converse(link: socket.socket, one: Place) -> bool:
    """A person at a terminal. False when the worker left first."""
    try:
        import readline  # noqa: F401 -- `input` edits lines and remembers them once this is loaded
    except ImportError:
        pass
    greeting, prompt, talk = enter(link, one)
    echo(greeting)
    hears = _Hearing(link)
    following: str | None = prompt
    while following not in (None, BYE):
        try:
            with hears:
                line = input(following)
        except EOFError:
            click.echo()
            hang_up_writing(link)
            return _until_turn(talk, echo, only=BYE) == BYE
        except KeyboardInterrupt:
            click.echo()
            line = ESCAPE
        try:
            link.sendall(line.encode("utf-8", "surrogateescape") + b"\n")
        except OSError:
            pass  # the worker's last words may still be there to read
        following = _until_turn(talk, echo)
    return following == BYE


class _Hearing:
    """While somebody types: the worker's end interrupts the typing, as Ctrl-C does.

    Again and again until it is heard: readline overlooks a signal that comes while it draws the prompt.
    """

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._typing = False
        self._turn = threading.Lock()
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> None:
        self._typing = True

    def __exit__(self, *_why: object) -> None:
        with self._turn:  # no signal is on its way any more when this is left
            self._typing = False

    def _listen(self) -> None:
        end = select.poll()
        end.register(self._link, 0)
        end.poll()
        pause = threading.Event()
        while True:
            with self._turn:
                if self._typing:
                    os.kill(os.getpid(), signal.SIGINT)
            pause.wait(HEAR_SECONDS)


def _until_turn(talk: Talk, write: Callable[[str], object], only: str = "") -> str | None:
    """Write what is said until the next prompt, or the next ``only`` one; None when the connection ended first."""
    for is_turn, text in talk:
        if not is_turn:
            write(text)
        elif only in ("", text):
            return text
    return None


def echo(text: str) -> None:
    """Print without what would steer the terminal: jobs have names and values that strangers have given them."""
    click.echo("".join(part if part in "\n\t" else printable(part) for part in re.split(r"([\n\t])", text)), nl=False)


def hang_up_writing(link: socket.socket) -> None:
    """We have no more to say; the worker may still."""
    try:
        link.shutdown(socket.SHUT_WR)
    except OSError:
        pass
