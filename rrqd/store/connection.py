"""One thin connection: RESP3, replies in order, everything asked in one loop turn sent in one write.

Why not redis-py's client for the moves: it repeats commands by itself (a script can run twice behind the caller's
back) and costs ten times the CPU a call.

Rule 1: nothing is ever sent twice here. A lost connection fails all its calls with StoreUnavailable.
Rule 2: no answer within ``timeout_seconds`` counts as a lost connection.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import hiredis

from rrqd.dsn import Endpoint as Endpoint
from rrqd.exc import NotLetIn, StoreError, StoreRefused, StoreUnavailable, StoreUnsupported
from rrqd.store import tls
from rrqd.store.replies import ServerSaid as ServerSaid
from rrqd.store.replies import leads_elsewhere
from rrqd.store.replies import understand as understand


def _reason(fault: OSError) -> str:
    """``Connection refused``, where asyncio says ``[Errno 111] Connect call failed ('127.0.0.1', 6379)``."""
    if fault.errno is None:
        return str(fault) or "no answer in time"
    return os.strerror(fault.errno) if fault.errno > 0 else str(fault.strerror)


def _fail(future: asyncio.Future[Any], why: StoreError) -> None:
    future.set_exception(why)
    future.exception()  # who asked several things at once is told of the first; the others are no complaint


class Link(asyncio.Protocol):
    """A live connection. Made by :meth:`open`; single-use: once lost, it stays lost."""

    def __init__(self, endpoint: Endpoint, timeout_seconds: float, on_push: Callable[[list[Any]], None] | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(replyError=hiredis.ReplyError)
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._timeout_seconds = timeout_seconds
        #: Called with what the server says unasked, and with ``[]`` when the connection is lost.
        self.on_push = on_push
        self._last_read = self._loop.time()
        self._guard: asyncio.TimerHandle | None = None
        self._endpoint = endpoint
        self.lost: StoreError | None = None
        #: Whether it was the other side that ended it.
        self.hung_up = False
        #: What the server said of itself in its greeting: ``standalone``, ``cluster`` or ``sentinel``.
        self.mode = "standalone"
        #: ``master`` or ``replica``.
        self.role = "master"

    @classmethod
    async def open(
        cls,
        endpoint: Endpoint,
        *,
        name: str,
        timeout_seconds: float = 5.0,
        patience_seconds: float | None = None,
        on_push: Callable[[list[Any]], None] | None = None,
    ) -> Link:
        """Connect to the endpoint's first place, log in, choose the database, within ``patience_seconds`` if given.

        Raises StoreUnavailable, StoreRefused or StoreUnsupported.
        """
        loop = asyncio.get_running_loop()
        link = cls(endpoint, timeout_seconds, on_push)
        try:
            async with asyncio.timeout(timeout_seconds if patience_seconds is None else patience_seconds):
                connect: Coroutine[Any, Any, Any]
                if endpoint.path:
                    connect = loop.create_unix_connection(lambda: link, endpoint.path)
                else:
                    connect = loop.create_connection(
                        lambda: link, endpoint.host, endpoint.port, ssl=tls.context(endpoint)
                    )
                await connect
                await link._greet(endpoint, name)
        except (OSError, TimeoutError) as fault:
            link.close()
            if isinstance(fault, StoreError):
                raise (tls.hung_up(endpoint) or fault) if link.hung_up else fault from None
            if isinstance(fault, ssl.SSLError):
                raise tls.refusal(endpoint, fault) from None
            mute = isinstance(fault, TimeoutError) and endpoint.tls is not None and link._transport is None
            hint = "; does it speak TLS on this port?" if mute else ""
            raise StoreUnavailable(f"Cannot reach {endpoint.shown}: {_reason(fault)}{hint}") from fault
        except BaseException:
            link.close()
            raise
        return link

    async def _greet(self, endpoint: Endpoint, name: str) -> None:
        hello: list[str] = ["HELLO", "3"]
        if endpoint.password is not None:
            hello += ["AUTH", endpoint.username or "default", endpoint.password]
        plain = re.sub(r"[^A-Za-z0-9_.:-]", "_", name)
        try:
            said = await self.call(*hello, "SETNAME", plain)
        except StoreRefused as fault:
            said = str(fault).partition(": ")[2]
            why = "it wants a user or a password (NOAUTH)" if said.startswith("NOAUTH") else said
            raise NotLetIn(f"Cannot log in at {endpoint.shown}: {why}") from None
        except ServerSaid as fault:
            if "unknown command" not in str(fault) and fault.code != "NOPROTO":
                raise StoreUnavailable(f"{endpoint.shown} lets nobody in: {fault}") from None  # too many clients, say
            raise StoreUnsupported(
                f"{endpoint.shown} did not take HELLO 3 ({fault}); rrqd needs Redis >= 7.0 or Valkey >= 7.2"
            ) from None
        self.mode = said.get(b"mode", b"standalone").decode()
        self.role = said.get(b"role", b"master").decode()
        if endpoint.db:
            await self.call("SELECT", endpoint.db)

    def call(self, *words: Any) -> asyncio.Future[Any]:
        """Send one command; the future ends with its reply. Raises (in the future) StoreError's kinds."""
        future = self._loop.create_future()
        if self.lost is not None:
            future.set_exception(self.lost)
            return future
        if not self._out:
            self._loop.call_soon(self.flush)
        self._out.append(hiredis.pack_command(words))
        self._waiting.append(future)
        if self._guard is None:
            self._last_read = self._loop.time()
            self._guard = self._loop.call_later(self._timeout_seconds, self._look_for_silence)
        return future

    def close(self) -> None:
        """Drop the connection; calls under way fail with StoreUnavailable."""
        self._lose(StoreUnavailable("The connection was closed."))
        if self._transport is not None:
            self._transport.abort()

    def flush(self) -> None:
        """Send now what was asked in this loop turn, before anything else that is ready gets its turn."""
        if self._transport is not None and self._out and self.lost is None:
            self._transport.write(b"".join(self._out))
            self._out.clear()

    def _look_for_silence(self) -> None:
        self._guard = None
        if not self._waiting:
            return
        left = self._last_read + self._timeout_seconds - self._loop.time()
        if left <= 0:
            self._lose(StoreUnavailable(f"No answer from the server in {self._timeout_seconds:g} s."))
            if self._transport is not None:
                self._transport.abort()
        else:
            self._guard = self._loop.call_later(left, self._look_for_silence)

    def _lose(self, why: StoreError) -> None:
        if self.lost is not None:
            return
        self.lost = why
        if self._guard is not None:
            self._guard.cancel()
        waiting, self._waiting = self._waiting, deque()
        for future in waiting:
            if not future.done():
                _fail(future, why)
        if self.on_push is not None:
            self.on_push([])  # an empty push: listeners learn that they hear nothing any more

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.flush()

    def data_received(self, data: bytes) -> None:
        self._last_read = self._loop.time()
        try:
            self._reader.feed(data)
            reply = self._reader.gets()
            while reply is not False and self.lost is None:
                self._deliver(reply)
                reply = self._reader.gets()
        except hiredis.ProtocolError as fault:
            self._lose(StoreUnavailable(f"The server speaks no RESP: {fault}"))
            if self._transport is not None:
                self._transport.abort()

    def _deliver(self, reply: Any) -> None:
        if isinstance(reply, hiredis.PushNotification):
            if self.on_push is not None and reply[0] not in (b"subscribe", b"unsubscribe"):
                self.on_push(reply)
            elif reply[0] in (b"subscribe", b"unsubscribe") and self._waiting:
                self._answer(reply)
            return
        self._answer(reply)

    def _answer(self, reply: Any) -> None:
        future = self._waiting.popleft()
        if future.done():
            return
        if isinstance(reply, hiredis.ReplyError):
            _fail(future, understand(reply))
            if leads_elsewhere(reply):
                self.close()
        else:
            future.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        if isinstance(exc, ssl.SSLError):  # TLS 1.3 tells of a missing client certificate after the handshake
            self._lose(tls.refusal(self._endpoint, exc))
        else:
            self.hung_up = self.lost is None
            self._lose(StoreUnavailable(f"The connection was lost: {exc or 'closed by the server'}"))
