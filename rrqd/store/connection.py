"""One thin connection: RESP3, replies in order, everything asked in one loop turn sent in one write.

Why not redis-py's client for the moves: it repeats commands by itself (a script can run twice behind the caller's
back) and costs ten times the CPU a call. It stays the judge of addresses: DSNs and TLS settings are read by it.

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
from urllib.parse import urlsplit

import hiredis
import msgspec

from rrqd.exc import StoreError, StoreRefused, StoreUnavailable, StoreUnsupported
from rrqd.redact import redact

SCHEMES = ("redis", "rediss", "unix", "valkey", "valkeys")
#: Answers that mean "not now": nothing happened, ask again.
PASSING = ("LOADING", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "UNKILLABLE")
#: Answers of a server that is not the one to talk to any more (a fail-over): the same, over a new connection.
DEMOTED = ("READONLY", "MASTERDOWN", "UNBLOCKED")
#: Answers that mean "no": nothing happened, and asking again soon won't help.
REFUSING = ("OOM", "MISCONF", "NOPERM", "NOAUTH", "WRONGPASS", "NOREPLICAS", "DENIED")


class ServerSaid(StoreError):
    """An error reply with no special meaning here; ``code`` is its first word."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code = text.partition(" ")[0]


def understand(reply: Exception) -> StoreError:
    """The exception for an error reply."""
    text = str(reply)
    code = text.partition(" ")[0]
    if code in PASSING or code in DEMOTED:
        return StoreUnavailable(f"The server is not ready: {text}")
    if code in REFUSING or "-OOM" in text[:80] or "OOM command not allowed" in text:
        return StoreRefused(f"The server refused: {text}")
    return ServerSaid(text)


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where the server is and how to get in. ``shown`` is the DSN without its password, for messages."""

    shown: str
    host: str = "localhost"
    port: int = 6379
    path: str | None = None
    db: int = 0
    username: str | None = None
    password: str | None = None
    tls: bool = False
    tls_options: dict[str, Any] = {}

    @classmethod
    def parse(cls, dsn: str) -> Endpoint:
        """Read ``redis://``, ``rediss://``, ``unix://``, ``valkey://`` and ``valkeys://`` DSNs. Raises ValueError."""
        scheme, _, rest = dsn.partition("://")
        if not rest or scheme not in SCHEMES:
            begins = f"{scheme}://" if rest else "something else"
            raise ValueError(f"a DSN begins with {', '.join(s + '://' for s in SCHEMES)}, not with {begins}")
        _check_place(dsn, scheme)
        from redis.asyncio.connection import parse_url

        options: dict[str, Any] = dict(parse_url(scheme.replace("valkey", "redis") + "://" + rest))
        secure = scheme in ("rediss", "valkeys")
        return cls(
            shown=redact(dsn),
            host=options.get("host") or "localhost",
            port=int(options.get("port") or 6379),
            path=options.get("path"),
            db=int(options.get("db") or 0),
            username=options.get("username"),
            password=options.get("password"),
            tls=secure,
            tls_options={key: value for key, value in options.items() if key.startswith("ssl_")},
        )

    def tls_context(self) -> ssl.SSLContext | None:
        """The TLS settings of the DSN's query (``ssl_ca_certs``, ``ssl_certfile``, …), made by redis-py's own class."""
        if not self.tls:
            return None
        from redis.asyncio.connection import SSLConnection

        return SSLConnection(host=self.host, port=self.port, **self.tls_options).ssl_context.get()


def _check_place(dsn: str, scheme: str) -> None:
    """redis-py reads past what it can't use (``/mail`` would be database 0); here it is refused. Shows no password."""
    try:
        parts = urlsplit(dsn)
        _ = parts.port
    except ValueError:
        hint = "in a password write %2F for /, %3F for ?, %23 for #, %40 for @"
        raise ValueError(f"the host or the port in {redact(dsn)} cannot be read ({hint})") from None
    rest = parts.path.strip("/")
    if scheme == "unix" and (parts.hostname or not rest):
        raise ValueError(f"{redact(dsn)} names no socket file; write unix:///run/valkey/valkey.sock")
    if scheme != "unix" and rest and not rest.isdecimal():
        raise ValueError(f"the part after the last slash of {redact(dsn)} must be the database number")


def _reason(fault: OSError) -> str:
    """``Connection refused``, where asyncio says ``[Errno 111] Connect call failed ('127.0.0.1', 6379)``."""
    if fault.errno is None or isinstance(fault, ssl.SSLError):
        return str(fault) or "no answer in time"
    return os.strerror(fault.errno) if fault.errno > 0 else str(fault.strerror)


class Link(asyncio.Protocol):
    """A live connection. Made by :meth:`open`; single-use: once lost, it stays lost."""

    def __init__(self, timeout_seconds: float, on_push: Callable[[list[Any]], None] | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(replyError=hiredis.ReplyError)
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._timeout_seconds = timeout_seconds
        self._on_push = on_push
        self._last_read = self._loop.time()
        self._guard: asyncio.TimerHandle | None = None
        self.lost: StoreUnavailable | None = None

    @classmethod
    async def open(
        cls,
        endpoint: Endpoint,
        *,
        name: str,
        timeout_seconds: float = 5.0,
        on_push: Callable[[list[Any]], None] | None = None,
    ) -> Link:
        """Connect, log in, choose the database. Raises StoreUnavailable, StoreRefused or StoreUnsupported."""
        loop = asyncio.get_running_loop()
        link = cls(timeout_seconds, on_push)
        try:
            async with asyncio.timeout(timeout_seconds):
                connect: Coroutine[Any, Any, Any]
                if endpoint.path:
                    connect = loop.create_unix_connection(lambda: link, endpoint.path)
                else:
                    connect = loop.create_connection(
                        lambda: link, endpoint.host, endpoint.port, ssl=endpoint.tls_context()
                    )
                await connect
                await link._greet(endpoint, name)
        except (OSError, TimeoutError) as fault:
            link.close()
            if isinstance(fault, StoreError):
                raise
            raise StoreUnavailable(f"Cannot reach {endpoint.shown}: {_reason(fault)}") from fault
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
            await self.call(*hello, "SETNAME", plain)
        except ServerSaid as fault:
            if "unknown command" not in str(fault) and fault.code != "NOPROTO":
                raise StoreUnavailable(f"{endpoint.shown} lets nobody in: {fault}") from None  # too many clients, say
            raise StoreUnsupported(
                f"{endpoint.shown} did not take HELLO 3 ({fault}); rrqd needs Redis >= 7.0 or Valkey >= 7.2"
            ) from None
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

    def _lose(self, why: StoreUnavailable) -> None:
        if self.lost is not None:
            return
        self.lost = why
        if self._guard is not None:
            self._guard.cancel()
        waiting, self._waiting = self._waiting, deque()
        for future in waiting:
            if not future.done():
                future.set_exception(why)
                future.exception()  # a caller that was cancelled meanwhile leaves no "never retrieved" behind
        if self._on_push is not None:
            self._on_push([])  # an empty push: listeners learn that they hear nothing any more

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.flush()

    def data_received(self, data: bytes) -> None:
        self._last_read = self._loop.time()
        try:
            self._reader.feed(data)
            reply = self._reader.gets()
            while reply is not False:
                self._deliver(reply)
                reply = self._reader.gets()
        except hiredis.ProtocolError as fault:
            self._lose(StoreUnavailable(f"The server speaks no RESP: {fault}"))
            if self._transport is not None:
                self._transport.abort()

    def _deliver(self, reply: Any) -> None:
        if isinstance(reply, hiredis.PushNotification):
            if self._on_push is not None and reply[0] not in (b"subscribe", b"unsubscribe"):
                self._on_push(reply)
            elif reply[0] in (b"subscribe", b"unsubscribe") and self._waiting:
                self._answer(reply)
            return
        self._answer(reply)

    def _answer(self, reply: Any) -> None:
        future = self._waiting.popleft()
        if future.done():
            return
        if isinstance(reply, hiredis.ReplyError):
            future.set_exception(understand(reply))
            if str(reply).startswith(DEMOTED):
                self.close()
        else:
            future.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose(StoreUnavailable(f"The connection was lost: {exc or 'closed by the server'}"))
