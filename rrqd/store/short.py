"""The short way for plain code: an enqueue over a blocking connection of its own, in the caller's own thread.

A bridge to an event loop in another thread costs two changes of threads a call, which is more than all the rest of
it. Only the commonest case goes this way: one server at one place, without TLS. Everything else, and every trouble,
goes the long way, over the client, which knows how to find servers, wait and ask again.

Rule 1: a reply is read by who asked for it. An exception can come at any step, from a signal or a stopped job.
Rule 2: nothing is asked twice here. When the reply is lost, that is said, and the long way asks with the same ids.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Sequence
from typing import Any

import hiredis
import msgspec

from rrqd.dsn import Endpoint
from rrqd.exc import StoreUnavailable
from rrqd.job import EnqueueReport
from rrqd.model.job import NewJob
from rrqd.model.lifecycle import Move
from rrqd.store.jobs import read_enqueued
from rrqd.store.keys import Keys
from rrqd.store.records import StorePolicy
from rrqd.store.replies import understand
from rrqd.store.scripts import script
from rrqd.store.specs import spec_of

TIMEOUT_SECONDS = 5.0
MOST_JOBS = 100


class LostReply(Exception):
    """The enqueue was sent, and nobody knows whether it happened."""


class ShortWay:
    """Safe for many threads, who take turns, and after a fork."""

    def __init__(self, endpoint: Endpoint, policy: StorePolicy) -> None:
        self._endpoint = endpoint
        self._policy = policy
        self._keys = Keys(policy.namespace)
        self._lock = threading.Lock()
        self._pid = 0
        self._socket: socket.socket | None = None
        self._unread = False
        self._reader = hiredis.Reader(replyError=hiredis.ReplyError)
        one_place = bool(endpoint.path) or (endpoint.master is None and len(endpoint.places) == 1)
        self._fit = one_place and endpoint.tls is None and not policy.enqueue_replicas

    def suits(self, jobs: Sequence[NewJob]) -> bool:
        """Whether these may go this way: few, and none that waits for another of them."""
        return self._fit and len(jobs) <= MOST_JOBS and (len(jobs) == 1 or not any(job.parents for job in jobs))

    def enqueue(self, jobs: Sequence[NewJob]) -> list[EnqueueReport] | None:
        """Write them down; ``None`` when this way is closed, and nothing was sent. Raises LostReply, and what
        ``Store.enqueue_many`` raises."""
        with self._lock:
            if self._pid != os.getpid():
                self._pid, self._socket = os.getpid(), None  # the parent's connection stays the parent's
            if self._unread:  # whoever asked last was interrupted; the next reply on this connection is not ours
                self._close()
            if self._socket is None and not self._open():
                return None
            program = script(Move.ENQUEUE)
            retention = self._policy.cancelled_retention_seconds
            packed = msgspec.msgpack.encode([spec_of(job, retention) for job in jobs])
            words = (1, self._keys.token, packed, "0")
            try:
                answer = self._ask("EVALSHA", program.digest, *words)
                if isinstance(answer, hiredis.ReplyError) and str(answer).startswith("NOSCRIPT"):
                    answer = self._ask("EVAL", program.text, *words)
            except (OSError, hiredis.ProtocolError) as fault:
                self._close()
                raise LostReply from fault
        if isinstance(answer, hiredis.ReplyError):
            meaning = understand(answer)
            if isinstance(meaning, StoreUnavailable):
                self.close()
                return None
            raise meaning
        return read_enqueued(jobs, answer)

    def close(self) -> None:
        """Drop the connection; the next enqueue opens another."""
        with self._lock:
            if self._pid == os.getpid():
                self._close()

    def _open(self) -> bool:
        endpoint = self._endpoint
        try:
            if endpoint.path:
                self._socket = socket.socket(socket.AF_UNIX)
                self._socket.settimeout(TIMEOUT_SECONDS)
                self._socket.connect(endpoint.path)
            else:
                self._socket = socket.create_connection(endpoint.places[0], TIMEOUT_SECONDS)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._reader = hiredis.Reader(replyError=hiredis.ReplyError)
            login = () if endpoint.password is None else ("AUTH", endpoint.username or "default", endpoint.password)
            said = self._ask("HELLO", "3", *login, "SETNAME", f"rrqd:short:{os.getpid()}")
            fit = isinstance(said, dict) and said.get(b"mode") == b"standalone" and said.get(b"role") == b"master"
            chosen = self._ask("SELECT", endpoint.db) if endpoint.db else b"OK"
            self._fit = fit and not isinstance(chosen, hiredis.ReplyError)
        except (OSError, hiredis.ProtocolError):
            self._close()
            return False
        if not self._fit:
            self._close()
        return self._fit

    def _ask(self, *words: Any) -> Any:
        assert self._socket is not None
        self._unread = True
        self._socket.sendall(hiredis.pack_command(words))
        while (reply := self._reader.gets()) is False:
            piece = self._socket.recv(65_536)
            if not piece:
                raise ConnectionError("closed by the server")
            self._reader.feed(piece)
        self._unread = False
        return reply

    def _close(self) -> None:
        self._unread = False
        if self._socket is not None:
            self._socket.close()
            self._socket = None
