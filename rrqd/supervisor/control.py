"""The control socket: a question in a line of JSON, an answer in a line of JSON, then the line is closed.

Rules of this file:

* In the master's own selector, never waiting: an answer that takes its time (a reload, stacks) is given later by
  whoever has it, and a client that does not read loses its answer, not our time.
* Whoever may open the file may do everything: it is 0600, and the other side's user is checked once more.
* Nothing here knows what a command does. `verbs` does.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rrqd import clock
from rrqd.local_socket import CONTROL_NAME, peer_of, reachable

LONGEST_QUESTION_BYTES = 65_536
MOST_CLIENTS = 32
PATIENCE_SECONDS = 5.0
"""For a question to be said, and for an answer to be read."""
PAUSE_SECONDS = 0.5
"""With no descriptor left to take a client in: nobody is listened to for so long, or we would do nothing else."""

Answer = dict[str, Any]
Reply = Callable[[Answer], None]
Handler = Callable[[dict[str, Any], Reply], None]


@dataclass(eq=False, slots=True)
class Client:
    """One connection: what was heard of its question, what is left of its answer."""

    sock: socket.socket
    give_up_at: float
    heard: bytearray = field(default_factory=bytearray)
    unsaid: bytes = b""
    asked: bool = False
    closed: bool = False


class ControlSocket:
    """Listens at ``<state_dir>/control.sock``. `handle` gets each question, and a function for the answer."""

    def __init__(self, folder: Path, selector: selectors.BaseSelector, handle: Handler) -> None:
        self.path = folder / CONTROL_NAME
        self._selector = selector
        self._handle = handle
        self._clients: set[Client] = set()
        self.path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        before = os.umask(0o177)
        try:
            with reachable(self.path) as address:
                self._listener.bind(address)
        finally:
            os.umask(before)
        self._listener.listen(MOST_CLIENTS)
        self._deaf_until: float | None = None
        selector.register(self._listener, selectors.EVENT_READ, ("control-listen", None))

    def accept(self, now: float) -> None:
        """Somebody is at the door. While the house is full they wait there."""
        while len(self._clients) < MOST_CLIENTS:
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError:
                self._stop_listening(now + PAUSE_SECONDS)
                return
            sock.setblocking(False)
            _pid, uid = peer_of(sock)
            if uid not in (0, os.geteuid()):
                sock.close()
                continue
            client = Client(sock, now + PATIENCE_SECONDS)
            self._clients.add(client)
            self._selector.register(sock, selectors.EVENT_READ, ("control-client", client))
        self._stop_listening(now)

    def _stop_listening(self, until: float) -> None:
        if self._deaf_until is None:
            self._selector.unregister(self._listener)
        self._deaf_until = until

    def ready(self, client: Client, now: float) -> None:
        """A client has said something, has gone, or can be told more."""
        if client.closed:
            return
        if client.unsaid:
            self._say(client)
            return
        try:
            data = client.sock.recv(LONGEST_QUESTION_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or client.asked:
            self._close(client)
            return
        client.heard += data
        if b"\n" in client.heard:
            client.asked = True
            self._ask(client)
        elif len(client.heard) > LONGEST_QUESTION_BYTES:
            self._reply(client, {"ok": False, "error": "the question is too long"})

    def _ask(self, client: Client) -> None:
        try:
            question = json.loads(client.heard)
            if not isinstance(question, dict):
                raise ValueError
        except (ValueError, RecursionError):
            self._reply(client, {"ok": False, "error": "a question is one line of JSON, an object"})
            return
        client.give_up_at = float("inf")
        self._handle(question, lambda answer: self._reply(client, answer))

    def _reply(self, client: Client, answer: Answer) -> None:
        if client.closed or client.unsaid:
            return
        client.unsaid = json.dumps(answer, default=str).encode() + b"\n"
        client.give_up_at = clock.monotonic() + PATIENCE_SECONDS
        # What it may still say is of no interest: somebody who only talks would keep us awake.
        self._selector.modify(client.sock, selectors.EVENT_WRITE, ("control-client", client))
        self._say(client)

    def _say(self, client: Client) -> None:
        try:
            sent = client.sock.send(client.unsaid, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return
        except OSError:
            sent = len(client.unsaid)
        client.unsaid = client.unsaid[sent:]
        if not client.unsaid:
            self._close(client)

    def give_up(self, now: float) -> None:
        """Close the lines of those who neither ask nor read, and let in who waits at the door."""
        for client in [one for one in self._clients if one.give_up_at <= now]:
            self._close(client)
        if self._deaf_until is not None and self._deaf_until <= now and len(self._clients) < MOST_CLIENTS:
            self._deaf_until = None
            self._selector.register(self._listener, selectors.EVENT_READ, ("control-listen", None))

    def _close(self, client: Client) -> None:
        if client.closed:
            return
        client.closed = True
        self._clients.discard(client)
        self._selector.unregister(client.sock)
        client.sock.close()

    def close(self) -> None:
        """Nobody can ask any more."""
        for client in list(self._clients):
            self._close(client)
        if self._deaf_until is None:
            self._selector.unregister(self._listener)
        self._listener.close()
        self.path.unlink(missing_ok=True)
